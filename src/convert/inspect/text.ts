import { describeNetwork } from "../../arch/index.js";
import { clean, type Paint, PLAIN, plural, renderTable } from "../../core/text.js";
import type { ResultKind } from "../export/options.js";
import type { OnnxDimension } from "../formats/onnx/model.js";
import type { ModelFormat } from "../formats/registry.js";
import type { AnomalousTensor, Anomaly, Severity } from "./anomalies.js";
import type { DTypeCount, Inspection, NetworkInspection, WeightsInspection } from "./inspection.js";
import type {
  ModelFacts,
  ModelInspection,
  ModelInspections,
  NetworkFacts,
  OnnxInspection,
  TfjsInspection,
  ValueFacts,
} from "./model-inspection.js";

/**
 * The number of hexadecimal digits of a fingerprint that are shown: 64 bits, more than enough to distinguish files by
 * eye.
 */
const SHORT = 16;

/** Renders an inspection for a terminal: the file, the network, and the anomalies of its weights. */
export function renderInspection(inspection: Inspection, paint: Paint = PLAIN): string {
  return [
    heading(inspection, paint),
    facts(inspection, paint),
    anomalyTable(inspection.anomalies, paint),
    "",
  ].join("\n");
}

function heading({ file }: Inspection, paint: Paint): string {
  const size = `${(file.bytes / 1e6).toFixed(1)} MB`;
  const kind = file.format === "pth" ? `PyTorch, ${file.container} container` : file.container;
  const notes = file.notes.map((note) => paint.faint(`  ${clean(note)}`));
  return [
    `${paint.strong(clean(file.name))}: ${kind}, ${size}, SHA-256 ${file.sha256.slice(0, SHORT)}…`,
    ...notes,
    "",
  ].join("\n");
}

function facts({ file, network, weights }: Inspection, paint: Paint): string {
  const [name, modules, ...rest] = networkRows(network, paint);
  return renderFacts(
    [
      ...(name ? [name] : []),
      ...(modules ? [modules] : []),
      ["state dict", stateDictPlace(file)],
      ...rest,
      ...dtypeRows(weights.dtypes),
      ...fingerprintRows(weights, paint),
    ],
    paint,
  );
}

/** A line of a description. */
type Fact = readonly [label: string, value: string];

function renderFacts(rows: readonly Fact[], paint: Paint): string {
  const [first, ...rest] = rows.map(([label, value]) => [paint.faint(label), value]);
  return renderTable(first ?? [], rest, ["left"], String);
}

/** The lines about a network: first its name, then its module names. */
function networkRows(network: NetworkInspection, paint: Paint): readonly Fact[] {
  const { parameters, spec, extra } = network;
  return [
    ["network", paint.strong(describeNetwork(spec))],
    [
      "module names",
      `${spec.dialect} ${spec.dialect === "osnet" ? "(conv2a, conv2b.0, …)" : "(conv2.0.layers.0, …)"}`,
    ],
    ["classes", spec.head ? `${thousands(spec.head.classes)}` : "no classifier"],
    ...(extra.length === 0 ? [] : [["extra heads", extraHeads(extra)] as const]),
    [
      "embedding",
      `${network.embedding}${spec.embedding.length === 0 ? ", the pooled map: no embedding layer" : ""}`,
    ],
    [
      "parameters",
      `${thousands(parameters.embedding)} up to the embedding, ${thousands(parameters.total)} in total`,
    ],
    [
      "multiply-adds",
      network.multiplyAdds === null
        ? "256×128 pixels are too few for this network"
        : `${(network.multiplyAdds / 1e6).toFixed(1)} M at 256×128`,
    ],
  ];
}

function dtypeRows(dtypes: readonly DTypeCount[]): readonly Fact[] {
  return dtypes.map(({ dtype, tensors, elements }) => [
    dtype,
    `${thousands(tensors)} tensors, ${thousands(elements)} elements`,
  ]);
}

function fingerprintRows(weights: WeightsInspection, paint: Paint): readonly Fact[] {
  return [
    ["fingerprint", paint.strong(weights.fingerprint.slice(0, SHORT))],
    ["once folded", weights.foldedFingerprint.slice(0, SHORT)],
  ];
}

function stateDictPlace({ wrapperPath, removedPrefix, modelClass }: Inspection["file"]): string {
  const whole = modelClass === "" ? "the whole file" : `a whole model, ${clean(modelClass)}`;
  const place =
    wrapperPath === "" ? whole : `at ${clean(wrapperPath)}${modelClass === "" ? "" : `, ${whole}`}`;
  return removedPrefix === "" ? place : `${place}, without the prefix ${clean(removedPrefix)}`;
}

function extraHeads(extra: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const path of extra) {
    const module = path.split(".", 1)[0] ?? path;
    counts.set(module, (counts.get(module) ?? 0) + 1);
  }
  const named = [...counts].slice(0, 4).map(([module, count]) => `${clean(module)} (${count})`);
  const more = counts.size - named.length;
  return `${named.join(", ")}${more > 0 ? ` and ${more} more` : ""}: ${plural(extra.length, "tensor")}, not part of the network`;
}

function anomalyTable(anomalies: readonly Anomaly[], paint: Paint): string {
  if (anomalies.length === 0) return `\n${paint.good("no anomalies")} in the weights`;
  const paints: Readonly<Record<Severity, (text: string) => string>> = {
    error: paint.bad,
    warning: paint.strong,
    info: paint.faint,
  };
  const rows = anomalies.map(({ kind, severity, count, tensors }) => [
    paints[severity](severity),
    kind,
    thousands(count),
    thousands(tensors.length),
    tensors[0] ? example(tensors[0]) : "",
  ]);
  const header = ["", "anomaly", "count", "tensors", "first"];
  return [
    `\n${paint.strong("Weights worth a look")}`,
    renderTable(header, rows, ["left", "left", "right", "right", "left"], paint.faint),
    "",
    ...anomalies.map(({ kind, explanation }) => paint.faint(`  ${kind}: ${explanation}`)),
  ].join("\n");
}

function example({ path, first: { index, value } }: AnomalousTensor): string {
  const shown = typeof value === "number" ? Number(value.toPrecision(3)) : value;
  return `${clean(path)}[${index.join(", ")}] = ${shown}`;
}

/** `203,568`, in every locale. */
function thousands(count: number): string {
  return count.toLocaleString("en-US");
}

/** Maximum number of kinds of operators in the list. */
const OPERATORS = 8;

/** Maximum number of metadata entries in the list: those of other tools may be whole programs. */
const METADATA = 8;
const METADATA_LENGTH = 60;

/** The name of a kind of model, and the file of its digest. */
interface Title {
  readonly kind: string;
  readonly digested?: string;
}

/** A model of either format, below the description of its files. */
function renderModel(
  { kind, digested }: Title,
  rows: readonly Fact[],
  inspection: ModelInspection<ModelFormat, ModelFacts>,
  paint: Paint,
): string {
  const { file, model, network, weights, anomalies } = inspection;
  const digest = `SHA-256${digested === undefined ? "" : ` of ${digested}`} ${file.sha256.slice(0, SHORT)}…`;
  const title = `${paint.strong(clean(file.name))}: ${kind}, ${(file.bytes / 1e6).toFixed(1)} MB, ${digest}`;
  const facts = renderFacts(
    [
      ...rows,
      ...interfaceRows(model),
      ...(network ? networkRows(network, paint) : []),
      ...dtypeRows(model.dtypes),
      ...speedRow(model.subnormal, file.format, paint),
      ...(weights ? [...fingerprintRows(weights, paint), ...foldingRow(weights.reparameterised)] : []),
    ],
    paint,
  );
  return [title, "", facts, ...findings(model.differences ?? [], paint)]
    .concat(weights ? [anomalyTable(anomalies, paint)] : [])
    .concat("")
    .join("\n");
}

/** The cost of denormal weights, and how to remove them. */
function speedRow(count: number, format: ModelFormat, paint: Paint): readonly Fact[] {
  if (count === 0) return [];
  const weights = `${thousands(count)} denormal ${count === 1 ? "weight" : "weights"}`;
  return [
    [
      "speed",
      paint.strong(
        `${weights}: up to 4 × slower on x86; ${format}2${format} writes zeros where that changes no output`,
      ),
    ],
  ];
}

function listOperators(operators: ModelFacts["operators"]): string {
  const kinds = Object.entries(operators);
  const more = kinds.length > OPERATORS ? ` and ${kinds.length - OPERATORS} other kinds` : "";
  const listed = kinds.slice(0, OPERATORS).map(([name, count]) => `${thousands(count)} ${name}`);
  return `${listed.join(", ")}${more}`;
}

/** Files that a model needs and does not have. */
function missingRows(names: readonly string[], paint: Paint): readonly Fact[] {
  return names.map((name) => ["weights", paint.bad(`needs ${clean(name)} beside it`)] as const);
}

function metadataRows(entries: readonly (readonly [key: string, value: string])[]): readonly Fact[] {
  return [
    ...entries
      .slice(0, METADATA)
      .map(([key, value]) => ["metadata", clean(`${short(key)} = ${short(value)}`)] as const),
    ...(entries.length > METADATA ? [["metadata", `and ${entries.length - METADATA} more`] as const] : []),
  ];
}

function interfaceRows(model: ModelFacts & Partial<NetworkFacts>): readonly Fact[] {
  const { batch, size, results = [], batchNorms, quantised, preprocess } = model;
  const layers = new Map(results.map((result) => [result.output, result]));
  return [
    ...model.inputs.map((value) => ["input", describeValue(value)] as const),
    ...model.outputs.map(
      (value) => ["output", `${describeValue(value)}${describeResult(layers.get(value.name))}`] as const,
    ),
    ...(batch === undefined ? [] : [["batch", batch === null ? "dynamic" : String(batch)] as const]),
    ...(size === undefined
      ? []
      : [["image size", size === null ? "dynamic" : `${size.height}×${size.width}`] as const]),
    ...(batchNorms ? [["batch norms", describeNorms(batchNorms)] as const] : []),
    ...(quantised ? [["quantised", `the weights of ${thousands(quantised)} layers`] as const] : []),
    ...(preprocess ? [["preprocessing", preprocess] as const] : []),
  ];
}

function describeValue({ name, dtype, shape }: ValueFacts): string {
  const sizes = shape?.map((size: OnnxDimension) => size ?? "?").join(", ");
  return clean(`${name} ${dtype ?? "of unknown type"}${sizes === undefined ? "" : ` [${sizes}]`}`);
}

function describeResult(result: NetworkFacts["results"][number] | undefined): string {
  if (!result) return "";
  const { kind, layer, tail } = result;
  const what = kind === null ? `the layer ${layer}` : `${RESULTS[kind]} (${layer})`;
  return clean(`, ${what}${tail.length > 0 ? ` followed by ${tail.join(", ")}` : ""}`);
}

const RESULTS: Readonly<Record<ResultKind, string>> = {
  features: "the embedding",
  logits: "the logits",
  probabilities: "the probabilities",
};

function describeNorms({ folded, kept, affine }: NetworkFacts["batchNorms"]): string {
  const parts = [
    ...(folded > 0 ? [`${folded} folded into the layers before them`] : []),
    ...(kept > 0 ? [`${kept} kept`] : []),
    ...(affine > 0 ? [`${affine} written as a product and a sum`] : []),
  ];
  return parts.length > 0 ? parts.join(", ") : "none";
}

/** The meaning of a fingerprint if batch norms were folded. */
function foldingRow(reparameterised: number): readonly Fact[] {
  return reparameterised === 0
    ? []
    : [
        [
          "",
          `of ${thousands(reparameterised)} tensors with batch norms folded in, not of the trained ones: compare the other fingerprint, which is the checkpoint's if osnet-convert folded it`,
        ],
      ];
}

function findings(differences: NetworkFacts["differences"], paint: Paint): readonly string[] {
  if (differences.length === 0) return [];
  return [
    "",
    paint.bad(
      `${thousands(differences.length)} ${differences.length === 1 ? "difference" : "differences"} from an OSNet`,
    ),
    ...differences.map(
      ({ layer, found, expected }) => `  ${clean(`${layer}: found ${found}, expected ${expected}`)}`,
    ),
  ];
}

function short(text: string): string {
  return text.length > METADATA_LENGTH ? `${text.slice(0, METADATA_LENGTH)}…` : text;
}

type RenderModel<F extends ModelFormat> = (inspection: ModelInspections[F], paint: Paint) => string;

const MODELS: { readonly [F in ModelFormat]: RenderModel<F> } = {
  onnx: (inspection, paint) => renderModel({ kind: "ONNX" }, onnxRows(inspection, paint), inspection, paint),
  tfjs(inspection, paint) {
    const { model } = inspection;
    const kind = `TensorFlow.js ${model.format === "graph-model" ? "graph model" : "layers model"}`;
    return renderModel({ kind, digested: "model.json" }, tfjsRows(model, paint), inspection, paint);
  },
};

/**
 * Renders an inspection for a terminal: the files, their interface, the network in them, and its differences from an
 * OSNet.
 */
export function renderModelInspection(
  inspection: ModelInspections[ModelFormat],
  paint: Paint = PLAIN,
): string {
  return (MODELS[inspection.file.format] as RenderModel<ModelFormat>)(inspection, paint);
}

function onnxRows({ model }: OnnxInspection, paint: Paint): readonly Fact[] {
  const { producer, opset, irVersion, customOpsets, operators, functionCalls, metadata } = model;
  const exporter = [producer.name || "an unknown program", producer.version].filter((part) => part !== "");
  const domains = Object.entries(customOpsets).map(([domain, version]) => `, ${domain} ${version}`);
  const calls = functionCalls > 0 ? `; ${thousands(functionCalls)} calls to local functions` : "";
  const missing = model.sidecars.filter((sidecar) => sidecar.missing).map(({ name }) => name);
  return [
    ["exporter", clean(exporter.join(" "))],
    ["opset", `${opset}, IR version ${irVersion}${clean(domains.join(""))}`],
    ["operators", clean(`${listOperators(operators)}${calls}`)],
    ...metadataRows(Object.entries(metadata)),
    ...model.sidecars
      .filter((sidecar) => !sidecar.missing)
      .map(({ name }) => ["weights", `in ${clean(name)}`] as const),
    ...missingRows(missing, paint),
  ];
}

function tfjsRows(
  { format, generatedBy, convertedBy, operators, stored, shards, metadata }: TfjsInspection["model"],
  paint: Paint,
): readonly Fact[] {
  const present = shards.flatMap(({ bytes }) => bytes ?? []);
  const bytes = present.reduce((sum, size) => sum + size, 0);
  const missing = shards.filter((shard) => shard.bytes === null).map(({ name }) => name);
  const entries = Object.entries(metadata).map(
    ([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)] as const,
  );
  const types = Object.entries(stored).map(([dtype, count]) => `${thousands(count)} as ${dtype}`);
  return [
    ["generated by", clean(generatedBy ?? "an unknown program")],
    ["converted by", clean(convertedBy ?? "an unknown converter")],
    [format === "graph-model" ? "operators" : "layers", clean(listOperators(operators))],
    ...metadataRows(entries),
    ...(present.length > 0
      ? [
          [
            "weights",
            `in ${thousands(present.length)} ${present.length === 1 ? "shard" : "shards"}, ${thousands(bytes)} bytes`,
          ] as const,
        ]
      : []),
    ...missingRows(missing, paint),
    ...(types.length > 0 ? [["stored", types.join(", ")] as const] : []),
  ];
}
