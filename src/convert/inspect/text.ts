import { describeNetwork } from "../../arch/index.js";
import { clean, type Paint, PLAIN, renderTable } from "../../terminal-text.js";
import type { AnomalousTensor, Anomaly, Severity } from "./anomalies.js";
import type { DTypeCount, Inspection, NetworkInspection, WeightsInspection } from "./inspection.js";

/** As many hexadecimal digits of a fingerprint are shown: 64 bits, more than enough to tell files apart by eye. */
export const SHORT = 16;

/** Renders an inspection for a terminal: what the file is, what the network is, and what is odd about its weights. */
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

/** One thing that is said of a file. */
export type Fact = readonly [label: string, value: string];

export function renderFacts(rows: readonly Fact[], paint: Paint): string {
  const [first, ...rest] = rows.map(([label, value]) => [paint.faint(label), value]);
  return renderTable(first ?? [], rest, ["left"], String);
}

/** What is said of a network: first its name, then how its modules are called. */
export function networkRows(network: NetworkInspection, paint: Paint): readonly Fact[] {
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
      `${thousands(parameters.embedding)} to the embedding, ${thousands(parameters.total)} in all`,
    ],
    [
      "multiply-adds",
      network.multiplyAdds === null
        ? "256×128 pixels are too few for it"
        : `${(network.multiplyAdds / 1e6).toFixed(1)} M at 256×128`,
    ],
  ];
}

export function dtypeRows(dtypes: readonly DTypeCount[]): readonly Fact[] {
  return dtypes.map(({ dtype, tensors, elements }) => [
    dtype,
    `${thousands(tensors)} tensors, ${thousands(elements)} elements`,
  ]);
}

export function fingerprintRows(weights: WeightsInspection, paint: Paint): readonly Fact[] {
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
  return `${named.join(", ")}${more > 0 ? ` and ${more} more` : ""}: ${extra.length} tensors, not part of the network`;
}

export function anomalyTable(anomalies: readonly Anomaly[], paint: Paint): string {
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
export function thousands(count: number): string {
  return count.toLocaleString("en-US");
}
