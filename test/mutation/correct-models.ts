import { lowerToOnnx, type OnnxOptions } from "../../src/convert/export/onnx.js";
import { IMAGENET } from "../../src/convert/export/options.js";
import { lowerToTfjs } from "../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../src/convert/export/tfjs-layers-model.js";
import { openNpz } from "../../src/convert/formats/npz.js";
import { appendOutputs, encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import { encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import { QUANTIZED_DTYPES } from "../../src/convert/formats/tfjs/model.js";
import { type Checkpoint, openCheckpoint } from "../../src/convert/open/checkpoint.js";
import type { NamedBytes } from "../../src/core/bytes.js";
import type { RealTensor, Tensor } from "../../src/core/tensor.js";
import { isDType } from "../../src/core/tensor-cast.js";
import type { RuntimeName } from "../../src/verify/backends/backend.js";
import { runtimesFor } from "../../src/verify/backends/registry.js";
import { seededImages } from "../../src/verify/inputs/images.js";
import { openVerification } from "../../src/verify/open.js";
import type { LayerResult, ParityReport } from "../../src/verify/outcome/report.js";
import { verify } from "../../src/verify/verify.js";
import { FAMILIES, type Family, fixturePath, readFixture } from "../fixtures.js";
import { optimisedFile } from "../support/optimised.js";
import { SMALL } from "../support/osnet.js";
import { candidateOf, FORMS, type Form, RUNTIMES, withoutNames } from "./candidates.js";
import { IMAGES, ONE_BLOCK, TINY_FAMILIES, type TinyFamily, tinyCheckpoint } from "./families.js";
import { spreadOver } from "./mutation.js";
import { collect, type Original, originalOf, replayed } from "./original.js";
import { type RuleVerdict, verdictsOf } from "./rules.js";
import { scaled } from "./scaled.js";

/** A right model, to be judged. */
interface CorrectModel {
  /** The row of the table that it is counted in. */
  readonly kind: string;
  readonly says: string;
  readonly original: Original;
  /** Writes it. */
  readonly file: () => NamedBytes | Promise<NamedBytes>;
  readonly backend?: RuntimeName;
  /** The onnxruntime's optimisation; default: its own. */
  readonly level?: Level;
}

export interface CorrectRun {
  readonly kind: string;
  readonly says: string;
  readonly report: ParityReport;
  /** How much of its bound each layer takes, by operation; a folded batch norm is the product that it is part of. */
  readonly margins: ReadonlyMap<string, readonly number[]>;
  /** Empty in a sample. */
  readonly rules: readonly RuleVerdict[];
}

type Level = "disabled" | "basic" | "extended" | "all";
const LEVELS: readonly Level[] = ["disabled", "basic", "extended", "all"];

/** Scales of the images, and of what convolutions give their norms. */
const SCALES = [1e-3, 1e3] as const;

/** Scales that are tried in a few forms only. */
const FAR_SCALES = [1e-6, 1e6] as const;

/** In how many forms, in turn. */
const FEW = 2;

/** How many models of each kind a sample has, of all families together. */
const SAMPLED = 1;

/**
 * Right models, judged one by one.
 *
 * @param only a sample, of this family: its share of some models of every kind. Undefined: all, and those of
 *   real size
 */
export async function* correctRuns(only?: TinyFamily): AsyncGenerator<CorrectRun> {
  const share = only && (await sample());
  for await (const candidate of candidates(only))
    if (!share || share.has(candidate.says)) yield await held(candidate, share === undefined);
}

let chosen: ReadonlySet<string> | undefined;

/** What the models of the sample are called: of every kind some, spread over families and weights. */
async function sample(): Promise<ReadonlySet<string>> {
  if (chosen) return chosen;
  const byKind = new Map<string, string[]>();
  for (const family of TINY_FAMILIES)
    for await (const { kind, says } of candidates(family))
      byKind.set(kind, [...(byKind.get(kind) ?? []), says]);
  chosen = new Set(
    [...byKind.values()].flatMap((all, turn) =>
      Array.from({ length: SAMPLED }, (_, i) => all[spreadOver(all.length, turn * SAMPLED + i)] ?? ""),
    ),
  );
  return chosen;
}

async function* candidates(only: TinyFamily | undefined): AsyncGenerator<CorrectModel> {
  const images = seededImages(0, IMAGES.batch, IMAGES.height, IMAGES.width);
  for (const family of TINY_FAMILIES) {
    if (only !== undefined && family !== only) continue;
    const checkpoint = tinyCheckpoint(only ? ONE_BLOCK[only] : family);
    const original = originalOf(family, checkpoint, images);
    yield* inAllForms(original, "seeded weights");
    for (const scale of SCALES) {
      yield* inAllForms(originalOf(family, checkpoint, times(images, scale)), `images × ${scale}`);
      yield* inAllForms(originalOf(family, scaled(checkpoint, scale), images), `weights × ${scale}`);
    }
    yield* asOnnx(original);
    yield* asOptimised(original);
    yield* asTfjs(original);
    let turn = TINY_FAMILIES.indexOf(family);
    for await (const [more, says] of unusual(family, checkpoint, images))
      for (let step = 0; step < FEW; step++)
        yield* inAllForms(more, says, undefined, [FORMS[turn++ % FORMS.length] ?? "onnx"]);
  }
  if (only !== undefined) return;
  for (const family of FAMILIES) yield* ofRealSize(family);
  yield* trained();
}

/** Pictures that are flat in whole or in part, channels that are dead, and numbers that are far from 1. */
async function* unusual(
  family: TinyFamily,
  checkpoint: Checkpoint,
  images: Tensor<"float32">,
): AsyncGenerator<readonly [original: Original, says: string]> {
  const rows = IMAGES.height / 4;
  const pixels: readonly (readonly [says: string, level: number, isFlat: (row: number) => boolean])[] = [
    ["black pictures", 0, () => true],
    ["white pictures", 1, () => true],
    ["letterboxed pictures", 0.5, (row) => row < rows || row >= 3 * rows],
  ];
  for (const [says, level, isFlat] of pixels)
    yield [originalOf(family, checkpoint, withFlat(images, level, isFlat)), says];
  yield [originalOf(family, withDeadChannels(checkpoint), images), "dead channels"];
  for (const scale of FAR_SCALES) {
    yield [originalOf(family, checkpoint, times(images, scale)), `images × ${scale}`];
    yield [originalOf(family, scaled(checkpoint, scale), images), `weights × ${scale}`];
  }
}

/** Normalised images, rows of which have one colour. */
function withFlat(
  { data, ...rest }: Tensor<"float32">,
  level: number,
  isFlat: (row: number) => boolean,
): Tensor<"float32"> {
  const { height, width } = IMAGES;
  return {
    ...rest,
    data: data.map((value, i) => {
      const channel = Math.floor(i / (height * width)) % 3;
      if (!isFlat(Math.floor(i / width) % height)) return value;
      return (level - (IMAGENET.mean[channel] ?? 0)) / (IMAGENET.deviation[channel] ?? 1);
    }),
  };
}

/** Every fifth channel of every batch norm is constant: trained networks have such. */
function withDeadChannels(checkpoint: Checkpoint): Checkpoint {
  const norms = new Set(
    checkpoint.graph.nodes.flatMap(({ op, parameters }) =>
      op.kind === "batchNorm" ? (parameters.weight ?? []) : [],
    ),
  );
  const stateDict = new Map(
    [...checkpoint.stateDict].map(([path, tensor]) =>
      norms.has(path) && isDType(tensor, "float32")
        ? [path, { ...tensor, data: tensor.data.map((value, i) => (i % 5 === 3 ? 0 : value)) }]
        : [path, tensor],
    ),
  );
  return { ...checkpoint, stateDict };
}

function times({ data, ...rest }: Tensor<"float32">, scale: number): Tensor<"float32"> {
  return { ...rest, data: data.map((value) => value * scale) };
}

function* inAllForms(
  original: Original,
  weights: string,
  kind?: string,
  forms: readonly Form[] = FORMS,
): Generator<CorrectModel> {
  const { graph, stateDict } = original.checkpoint;
  const right = { operator: "", says: "", layers: [], causes: [], kinds: [], network: { graph, stateDict } };
  for (const form of forms) {
    const backend = RUNTIMES[form];
    const file = (): NamedBytes => {
      const written = candidateOf(right, form, original.images);
      if (!written) throw new Error(`a right model has every form, and not ${form}`);
      return written;
    };
    yield {
      kind: kind ?? form,
      says: `${original.name}, ${form}, ${weights}`,
      original,
      file,
      ...(backend ? { backend } : {}),
    };
  }
}

/** Operator sets, outputs, half precision, and onnxruntime's levels of optimisation. */
function* asOnnx(original: Original): Generator<CorrectModel> {
  const { graph, stateDict } = original.checkpoint;
  const options: readonly (readonly [string, OnnxOptions])[] = [
    ["opset 11", { opset: 11 }],
    ["opset 22", { opset: 22, fold: false }],
    ["all outputs, any size", { gates: true, size: "dynamic" }],
    ["float16", { dtype: "float16" }],
  ];
  const written = (more: OnnxOptions): NamedBytes => ({
    name: "m.onnx",
    bytes: encodeOnnx(lowerToOnnx(graph, stateDict, { size: IMAGES, ...more })),
  });
  for (const [says, more] of options)
    yield {
      kind: says === "float16" ? "onnx, float16" : "onnx, other options",
      says: `${original.name}, ${says}`,
      original,
      file: () => written(more),
    };
  for (const level of LEVELS)
    for (const fold of [true, false])
      yield {
        kind: "onnx, every optimisation",
        says: `${original.name}, optimisation ${level}, ${fold ? "folded" : "unfolded"}`,
        original,
        file: () => written({ fold }),
        level,
      };
}

/** Files that onnxruntime has optimised and saved: with its own operators, and for the processor that this runs on. */
function* asOptimised(original: Original): Generator<CorrectModel> {
  const { graph, stateDict } = original.checkpoint;
  for (const level of ["extended", "all"] as const)
    for (const size of [IMAGES, "dynamic"] as const)
      yield {
        kind: "onnx, every optimisation",
        says: `${original.name}, saved at level ${level}, ${size === "dynamic" ? "any size" : "one size"}`,
        original,
        async file() {
          const bytes = encodeOnnx(withoutNames(lowerToOnnx(graph, stateDict, { size })));
          return { name: "m.onnx", bytes: await optimisedFile(bytes, level) };
        },
      };
}

/** Every backend that needs no other program, graph and layers models, and storage in fewer bits. */
function* asTfjs(original: Original): Generator<CorrectModel> {
  const { graph, stateDict } = original.checkpoint;
  const named = (model: Parameters<typeof encodeTfjs>[0]): NamedBytes => {
    const { json, shards } = encodeTfjs(model);
    return { name: "model.json", bytes: json, beside: shards };
  };
  const size = { size: IMAGES };
  for (const backend of runtimesFor("tfjs").filter((name) => name === "tfjs-wasm" || name === "tfjs-cpu"))
    for (const [says, model] of [
      ["graph", () => lowerToTfjs(graph, stateDict, { ...size, fuse: false, fold: false })],
      ["layers", () => lowerToTfjsLayers(graph, stateDict, size)],
    ] as const)
      yield {
        kind: `${backend}, ${says}`,
        says: `${original.name}, ${backend}, ${says}`,
        original,
        file: () => named(model()),
        backend,
      };
  for (const quantize of QUANTIZED_DTYPES)
    yield {
      kind: "tfjs, weights in fewer bits",
      says: `${original.name}, weights in ${quantize}`,
      original,
      file: () => named(lowerToTfjs(graph, stateDict, { ...size, quantize })),
    };
}

/** The reference families, as we and PyTorch export them, and as PyTorch recorded them. */
async function* ofRealSize(family: Family): AsyncGenerator<CorrectModel> {
  const files = [`${family}.pth`, `${family}.64x32.npz`, `${family}.64x32.float64.npz`];
  if (files.some((name) => fixturePath(name) === undefined)) return;
  const checkpoint = openFamily(family);
  const images = seededImages(0, 2, SMALL.height, SMALL.width);
  const original = originalOf(family, checkpoint, images);
  for (const candidate of inAllForms(original, "seeded weights", "reference families"))
    if (!(await candidate.file()).name.endsWith(".npz")) yield candidate;
  for (const precision of ["", ".float64"]) {
    const name = `${family}.64x32${precision}.npz`;
    const bytes = readFixture(name);
    const recorded = openNpz(bytes, name).read("input");
    yield {
      kind: `recorded by PyTorch${precision.replace(".", ", ")}`,
      says: name,
      original: originalOf(family, checkpoint, {
        dtype: "float32",
        shape: recorded.shape,
        data: Float32Array.from(recorded.data as Float32Array),
      }),
      file: () => ({ name, bytes }),
    };
  }
  for (const suffix of ["op9", "op12", "op12.unfolded", "op16", "static_unnamed"]) {
    const name = `${family}.torch1.13.${suffix}.onnx`;
    if (fixturePath(name) === undefined) continue;
    // All of this size, and one of a single image.
    const of = seededImages(0, suffix === "static_unnamed" ? 1 : 2, 256, 128);
    yield {
      kind: "onnx by PyTorch 1.13",
      says: name,
      original: originalOf(family, checkpoint, of),
      file: () => ({ name, bytes: readFixture(name) }),
    };
  }
}

function openFamily(family: Family): Checkpoint {
  const subject = `${family}.pth`;
  const { spec, ...checkpoint } = openCheckpoint(readFixture(subject), { subject });
  if (family !== "osnet_attr_max_x0_25" || !spec.head) return { spec, ...checkpoint };
  const arch = { ...spec, pooling: "max", head: { ...spec.head, loss: "sigmoid" } } as const;
  return openCheckpoint(readFixture(subject), { subject, arch });
}

/** Weights that were trained, in place beside the repository. */
async function* trained(): AsyncGenerator<CorrectModel> {
  const name = "real/osnet_x0_25_msmt17.pth";
  const exported = "real/osnet_x0_25_msmt17.torch2.8.onnx";
  if (fixturePath(name) === undefined || fixturePath(exported) === undefined) return;
  const checkpoint = openCheckpoint(readFixture(name), { subject: name });
  const images = seededImages(0, 2, 128, 64);
  const original = originalOf("trained", checkpoint, images);
  yield* inAllForms(original, "trained weights", "trained weights");
  yield* inAllForms(originalOf("trained", checkpoint, times(images, 30)), "trained weights, images × 30");
  const file = () => ({ name: exported, bytes: readFixture(exported) });
  const own = originalOf("trained", checkpoint, seededImages(0, 1, 256, 128));
  yield { kind: "onnx by PyTorch 2.8", says: exported, original: own, file };
}

/** @param byRules whether other tools' rules are asked too, which takes another run of the model */
async function held(
  { kind, says, original, backend, level, ...candidateFile }: CorrectModel,
  byRules: boolean,
): Promise<CorrectRun> {
  const { checkpoint, images } = original;
  const file = await candidateFile.file();
  const isRecording = file.name.endsWith(".npz");
  const verification = await openVerification(
    file,
    { name: "w.pth", bytes: new Uint8Array(), checkpoint },
    {
      ...(isRecording ? {} : { images: { source: "test", tensor: images } }),
      ...(backend ? { backend } : {}),
    },
  );
  const { candidate } = verification;
  const values =
    level && file.bytes instanceof Uint8Array
      ? await optimised(file.bytes, candidate.backend.layers, images, level)
      : byRules
        ? await collect(candidate.backend, images)
        : undefined;
  const report = await verify({
    ...verification,
    // A model of fewer bits is held against the network of the weights that it stores.
    ...(verification.quantized
      ? {}
      : { reference: { ...verification.reference, backend: original.reference } }),
    // A file may be run in stages, whose values belong together: as it is, but for sessions of our own.
    candidate: level && values ? { ...candidate, backend: replayed(candidate.backend, values) } : candidate,
  });
  return {
    kind,
    says,
    report,
    margins: marginsOf(original, report),
    rules: byRules && values ? await verdictsOf(original, values) : [],
  };
}

/** All values of a file of ours, in a session of some level of optimisation. */
async function optimised(
  bytes: Uint8Array,
  layers: readonly string[],
  images: Tensor<"float32">,
  level: Level,
): Promise<ReadonlyMap<string, RealTensor>> {
  const { InferenceSession, Tensor: OrtTensor } = await import("onnxruntime-node");
  const session = await InferenceSession.create(appendOutputs(bytes, layers), {
    logSeverityLevel: 3,
    graphOptimizationLevel: level,
  });
  const feed = { images: new OrtTensor("float32", images.data, images.shape) };
  const values = await session.run(feed, [...layers]);
  await session.release();
  return new Map(
    layers.flatMap((name): [string, RealTensor][] => {
      const value = values[name];
      return value?.data instanceof Float32Array
        ? [[name, { dtype: "float32", shape: value.dims, data: value.data }]]
        : [];
    }),
  );
}

const PRODUCTS: ReadonlySet<string> = new Set(["conv", "linear"]);

function marginsOf({ checkpoint: { graph } }: Original, report: ParityReport): CorrectRun["margins"] {
  const folded = new Set(report.coverage.folded);
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const kindOf = ({ name, op }: LayerResult): string => {
    const product = nodes.get(name)?.inputs.some((input) => folded.has(input)) === true;
    return product || PRODUCTS.has(op) ? "dot product" : op;
  };
  const margins = new Map<string, number[]>();
  for (const layer of report.layers) {
    if (layer.margin === null || layer.status === "untested") continue;
    const kind = kindOf(layer);
    margins.set(kind, [...(margins.get(kind) ?? []), layer.margin]);
  }
  return margins;
}
