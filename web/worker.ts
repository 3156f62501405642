import { zipSync } from "fflate";
import {
  type ByteSource,
  convert,
  describeNetwork,
  FORMATS,
  faultLayers,
  faultName,
  formatMargin,
  InputError,
  type Inspection,
  inspect,
  isModelFormat,
  isRecording,
  type NamedBytes,
  type OnnxInspection,
  type OsnetSpec,
  openChosen,
  type ParityReport,
  renderHtml,
  type SourceOptions,
  sniffFormat,
  type TfjsInspection,
  verifyConversion,
  verifyFiles,
  worstLayer,
} from "osnet-convert/web";
import { embedPictures } from "./embed.js";
import { pictureOf } from "./picture.js";
import type { Converted, Download, Job, Message, Results, Step, Summary, Verdict } from "./protocol.js";
import { prepareRuntimes } from "./runtimes.js";

declare const __VERSION__: string;

const scope = self as unknown as {
  postMessage(message: Message): void;
  onmessage: ((event: MessageEvent<Job>) => void) | null;
};

scope.onmessage = ({ data }) => {
  perform(data).then(
    (result) => scope.postMessage({ kind: "done", result }),
    (error: unknown) => scope.postMessage(failure(error)),
  );
};

function failure(error: unknown): Message {
  if (error instanceof InputError)
    return { kind: "refused", sentence: error.message, code: error.code, details: error.details };
  return {
    kind: "crashed",
    message: error instanceof Error ? `${error.name}: ${error.message}` : String(error),
  };
}

function step(step: Step): void {
  scope.postMessage({ kind: "step", step });
}

/** Layers come by the hundred: the window is told ten times a second. */
function layerProgress(step: Step): (done: number, total: number) => void {
  let last = 0;
  return (done, total) => {
    const now = performance.now();
    if (now - last < 100 && done < total) return;
    last = now;
    scope.postMessage({ kind: "step", step, done, total });
  };
}

async function perform(job: Job): Promise<Results[keyof Results]> {
  if (job.kind === "inspect") return summarise(job);
  if (job.kind === "convert") return convertFile(job);
  if (job.kind === "verify") return verifyPair(job);
  return embedPictures(job, step, layerProgress("embed"));
}

type JobOf<K extends Job["kind"]> = Extract<Job, { readonly kind: K }>;

/** What a file is goes ahead of its digest, for which all of it has to be read. */
async function summarise({
  model,
  options: { dropExtra: _, ...options },
}: JobOf<"inspect">): Promise<Summary> {
  step("open");
  const file = await openChosen(model);
  if (file.bytes instanceof Uint8Array) return summaryOf(file, options);
  const { bytes } = file;
  const undigested: ByteSource = {
    length: bytes.length,
    get loaded() {
      return bytes.loaded;
    },
    read: (start, end) => bytes.read(start, end),
    load: () => bytes.load(),
    sha256: async () => "",
  };
  const summary = await summaryOf({ ...file, bytes: undigested }, options);
  scope.postMessage({ kind: "early", result: summary });
  return { ...summary, sha256: await bytes.sha256() };
}

async function summaryOf(file: NamedBytes, options: SourceOptions): Promise<Summary> {
  const common = { bytes: file.bytes.length, sha256: "", anomalies: [], notes: [] } as const;
  if (isRecording(file)) return { role: "recording", format: "npz", container: "", ...common };
  const inspection = await inspect(file, options);
  const { network, weights, anomalies } = inspection;
  return {
    role: "model" in inspection ? "model" : "checkpoint",
    format: inspection.file.format,
    container: containerOf(inspection),
    bytes: inspection.file.bytes,
    sha256: inspection.file.sha256,
    ...(network
      ? {
          network: {
            name: describeNetwork(network.spec),
            classes: network.classes,
            embedding: network.embedding,
            parameters: network.parameters.embedding,
            multiplyAdds: network.multiplyAdds,
            extra: network.extra,
            picture: pictureOf(network.spec),
          },
        }
      : {}),
    ...(weights
      ? {
          weights: {
            fingerprint: weights.fingerprint,
            folded: weights.foldedFingerprint,
            dtypes: weights.dtypes.map(({ dtype }) => dtype),
          },
        }
      : {}),
    ...("model" in inspection
      ? {
          model: {
            batch: inspection.model.batch ?? null,
            size: inspection.model.size ?? null,
            outputs: inspection.model.outputs.map(({ name }) => name),
            batchNorms: inspection.model.batchNorms ?? null,
          },
          ...(inspection.refusal === undefined ? {} : { refusal: inspection.refusal }),
        }
      : {}),
    anomalies,
    notes: "notes" in inspection.file ? inspection.file.notes : [],
  };
}

function containerOf(inspection: Inspection | OnnxInspection | TfjsInspection): string {
  const { file } = inspection;
  if (file.format === "pth" && "container" in file) return `PyTorch (${file.container})`;
  return FORMATS[file.format].title;
}

async function convertFile({ model, name, target, options, backend }: JobOf<"convert">): Promise<Converted> {
  const started = performance.now();
  step("open");
  const file = await openChosen(model);
  await prepareRuntimes([sniffFormat(file.bytes), target.format], backend);
  step("convert");
  const conversion = await convert(file, name, target, options);
  const { checkpoint } = conversion.source;
  const isModel = isModelFormat(target.format);
  step(isModelFormat(checkpoint.decoded.format) ? "source" : "load");
  const { passed, report, differences, lifted } = await verifyConversion(conversion, {
    onProgress: layerProgress(isModel ? "verify" : "source"),
    ...(options.dropExtra === undefined ? {} : { dropExtra: options.dropExtra }),
    ...(backend ? { backend } : {}),
  });
  const seconds = (performance.now() - started) / 1000;
  const blobs = [...conversion.files].map(([path, bytes]) => ({
    path,
    blob: new Blob([bytes as Uint8Array<ArrayBuffer>]),
  }));
  const [main, ...beside] = blobs;
  if (!main) throw new Error("a conversion has a file");
  return {
    passed,
    files: { name, main, beside },
    notes: conversion.notes,
    zeros: conversion.zeros?.count ?? 0,
    ...(report ? { verdict: await verdictOf(report, checkpoint.spec, seconds) } : {}),
    ...(differences ? { weights: { tensors: checkpoint.stateDict.size, differences, seconds } } : {}),
    ...(passed ? { download: downloadOf(name, conversion.files) } : {}),
    ...(lifted ? { lifted: { layers: lifted.layers.length, gates: lifted.gates.length } } : {}),
  };
}

/** Several files go into one zip, the same for the same files. */
function downloadOf(name: string, files: ReadonlyMap<string, Uint8Array>): Download {
  const [bytes] = files.values();
  if (files.size === 1 && bytes && !files.has("model.json"))
    return { name, blob: new Blob([bytes as Uint8Array<ArrayBuffer>]) };
  const folder = name.replace(/\.onnx$/, "");
  const entries = Object.fromEntries([...files].map(([path, content]) => [`${folder}/${path}`, content]));
  // Weights do not compress, and 1980 is zip's earliest date.
  const zip = zipSync(entries, { level: 0, mtime: new Date(1980, 0, 1) });
  return {
    name: `${folder}.zip`,
    blob: new Blob([zip as Uint8Array<ArrayBuffer>], { type: "application/zip" }),
  };
}

async function verifyPair({ candidate, reference, options, backend }: JobOf<"verify">): Promise<Verdict> {
  const started = performance.now();
  step("open");
  const [model, against] = [await openChosen(candidate), await openChosen(reference)];
  await prepareRuntimes([sniffFormat(model.bytes), sniffFormat(against.bytes)], backend);
  step("load");
  const { dropExtra: _, ...given } = options;
  const report = await verifyFiles(model, against, {
    ...given,
    ...(backend ? { backend } : {}),
    onProgress: layerProgress("verify"),
  });
  return verdictOf(report, await specOf([against, model], given), (performance.now() - started) / 1000);
}

/** Of the file that says it: a recording does not. */
async function specOf(files: readonly NamedBytes[], options: object): Promise<OsnetSpec | undefined> {
  for (const file of files) {
    if (isRecording(file)) continue;
    const { network } = await inspect(file, options);
    if (network) return network.spec;
  }
  return undefined;
}

async function verdictOf(
  report: ParityReport,
  spec: OsnetSpec | undefined,
  seconds: number,
): Promise<Verdict> {
  step("report");
  const run = {
    versions: { "osnet-convert": __VERSION__ },
    platform: navigator.userAgent,
    cpu: "in a browser",
    threads: navigator.hardwareConcurrency,
    seconds,
  };
  const { candidate, reference, backend, passed, layers, gates, faults, output, proof, quantization } =
    report;
  const worst = worstLayer(report);
  return {
    passed,
    candidate: candidate.name,
    reference: reference.name,
    backend,
    layers: layers.map(({ name, status, margin }) => ({ name, status, margin })),
    gates: gates.length,
    faults: faults.map((fault) => ({
      name: faultName(fault),
      layers: faultLayers(fault),
      kind: fault.kind,
      explanation: fault.explanation,
      margin: fault.margin,
    })),
    worst: worst ? { name: worst.name, margin: formatMargin(worst.margin) } : null,
    drift: output?.relMax ?? null,
    proof: proof
      ? { isProven: proof.status === "proven", within: proof.within ?? null, images: proof.images }
      : null,
    quantised: quantization ? { dtypes: quantization.dtypes.join(", "), cosine: quantization.cosine } : null,
    warnings: report.warnings ?? [],
    picture: spec ? pictureOf(spec) : [],
    seconds,
    report: new Blob([await renderHtml({ ...report, run })], { type: "text/html" }),
  };
}
