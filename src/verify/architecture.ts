import {
  type Dialect,
  describeNetwork,
  expand,
  type LayerGraph,
  type OsnetSpec,
  VARIANT_NAMES,
  variant,
  variantOf,
} from "../arch/index.js";
import { statedSpec } from "../convert/export/metadata.js";
import type { NpzArchive } from "../convert/formats/npz.js";
import type { OpenFile } from "../convert/open/open-file.js";
import { InputError } from "../core/errors.js";

/** A file and its name in messages. */
interface NamedFile {
  readonly name: string;
  readonly file: OpenFile;
}

/**
 * The network that both sides are compared with: the checkpoint's, if there is one, since a candidate's own description
 * is not trusted; otherwise the one that the candidate states or shows, which the recording then judges.
 *
 * @throws InputError (`spec`) if the two sides are different networks; (`argument`) if neither side shows its network
 */
export function architectureOf(candidate: NamedFile, reference: NamedFile): LayerGraph {
  const stated =
    candidate.file.kind === "model"
      ? statedSpec(candidate.file.model.onnx.metadata, candidate.name)
      : shownSpec(candidate.file);
  const checkpoint = [reference.file, candidate.file].find((file) => file.kind === "checkpoint")?.checkpoint;
  if (candidate.file.kind === "recording" && reference.file.kind === "recording")
    throw new InputError({
      code: "argument",
      subject: candidate.name,
      found: "two recordings",
      expected: "a model on at least one side",
      remedy: "use an ONNX file or a checkpoint",
    });
  expectSameNetwork(
    { name: candidate.name, spec: stated ?? specOf(candidate.file) },
    { name: reference.name, spec: specOf(reference.file) },
    candidate.file.kind === "checkpoint" && reference.file.kind === "checkpoint",
  );
  if (checkpoint) {
    if (stated) expectSameSpec(stated, checkpoint.spec, candidate.name);
    return checkpoint.graph;
  }
  if (stated) return expand(stated);
  if (candidate.file.kind !== "model") throw new Error("a recording beside no model");
  const dialect = recordedDialect(reference.file);
  return candidate.file.model.match(dialect ? { dialect } : {}).graph;
}

/** The network of a checkpoint whose modules show what its weights do not, unless that is what is usual. */
function shownSpec(file: OpenFile): OsnetSpec | undefined {
  if (file.kind !== "checkpoint") return undefined;
  const { spec } = file.checkpoint;
  return spec.pooling === "avg" && spec.gate.activation === "sigmoid" ? undefined : spec;
}

/** A checkpoint's network with another's choices where weights do not show them, or are not compared. */
function withUnseen(spec: OsnetSpec, { pooling, gate, head }: OsnetSpec): OsnetSpec {
  return { ...spec, pooling, gate: { ...spec.gate, activation: gate.activation }, head };
}

/** The module names of a recording: `conv2.0.conv2.1.layers` and `pool2`, or `conv2.0.conv2b` and `conv2.2`. */
function recordedDialect(file: OpenFile): Dialect | undefined {
  if (file.kind !== "recording") return undefined;
  const isAin = file.archive.names.some((name) => /^(conv\d+\.\d+\.conv2\.\d+|pool\d+)(\.|$)/.test(name));
  return isAin ? "osnet_ain" : "osnet";
}

/** The network that a file shows, if any. */
function specOf(file: OpenFile): OsnetSpec | undefined {
  if (file.kind === "checkpoint") return file.checkpoint.spec;
  if (file.kind === "recording") return recordedSpec(file.archive);
  try {
    return file.model.match().spec;
  } catch (error) {
    // Differences of its graph are reported when its layers are located.
    if (error instanceof InputError) return undefined;
    throw error;
  }
}

/** Layers whose outputs distinguish the published variants: the stem's and every stage's channels. */
const TELLING = ["conv1.conv", "conv2.0.conv3.conv", "conv3.0.conv3.conv", "conv4.0.conv3.conv"];

/**
 * The published variant that has every recorded layer, with the same channels; undefined if there is none, or too few
 * layers are recorded.
 */
function recordedSpec(archive: NpzArchive): OsnetSpec | undefined {
  const telling = TELLING.filter((name) => archive.names.includes(name));
  if (telling.length < TELLING.length) return undefined;
  const channels = telling.map((name) => archive.read(name).shape[1]);
  return VARIANT_NAMES.map((name) => variant(name)).find((spec) => {
    const widths = [spec.stem.channels, ...spec.stages.map(({ blocks }) => blocks[0]?.outChannels)];
    if (!channels.every((width, index) => width === widths[index])) return false;
    const { nodes, aliases } = expand(spec);
    const known = new Set([...nodes.map(({ name }) => name), ...aliases.keys(), "input", "output"]);
    const norms = nodes.filter(({ name, op }) => op.kind === "instanceNorm" && !archive.names.includes(name));
    return norms.length === 0 && archive.names.every((name) => known.has(name));
  });
}

interface NamedSpec {
  readonly name: string;
  readonly spec: OsnetSpec | undefined;
}

/**
 * A comparison with another model's weights, the most common mistake, gets one sentence instead of a fault at every
 * layer. A graph with one different operator is not another network: only published variants of other widths count. Of two checkpoints,
 * one is run as the other's network, which would leave out whatever else it has: any difference counts.
 */
function expectSameNetwork(candidate: NamedSpec, reference: NamedSpec, areCheckpoints: boolean): void {
  if (!candidate.spec || !reference.spec) return;
  const spec = areCheckpoints ? withUnseen(candidate.spec, reference.spec) : candidate.spec;
  const isOther = areCheckpoints
    ? differingKeys(spec, reference.spec).length > 0
    : areOthers(spec, reference.spec);
  if (!isOther) return;
  const [own, wanted] = tellApart(spec, reference.spec);
  throw new InputError({
    code: "spec",
    subject: `${candidate.name} against ${reference.name}`,
    found: `the candidate is ${own}, but the reference is ${wanted}`,
    remedy: "use the checkpoint that the candidate was made from",
  });
}

/** Whether no fault of a conversion could turn one network into the other. */
function areOthers(one: OsnetSpec, other: OsnetSpec): boolean {
  const shared = Math.min(one.stages.length, other.stages.length);
  const widths = ({ stem, stages }: OsnetSpec): string =>
    [stem.channels, ...stages.slice(0, shared).map(({ blocks }) => blocks[0]?.outChannels)].join();
  // Pooling and the sigmoid do not show in the weights, and are reported separately.
  const backbone = (spec: OsnetSpec): string | undefined =>
    variantOf({ ...inFullWidth(spec), pooling: "avg", head: spec.head && { ...spec.head, loss: "softmax" } });
  const [a, b] = [backbone(one), backbone(other)];
  return widths(one) !== widths(other) || (a !== undefined && b !== undefined && a !== b);
}

/** The same network in the width that every published family has. */
function inFullWidth(spec: OsnetSpec): OsnetSpec {
  const full = variant("osnet_x1_0");
  return {
    ...spec,
    stem: { ...spec.stem, channels: full.stem.channels },
    stages: spec.stages.map((stage, at) => ({
      ...stage,
      blocks: stage.blocks.map((block, index) => {
        const { inChannels, outChannels } = full.stages[at]?.blocks[index] ?? block;
        return { ...block, inChannels, outChannels };
      }),
    })),
  };
}

/** Describes two networks, with further differences if their backbones have the same description. */
function tellApart(one: OsnetSpec, other: OsnetSpec): readonly [string, string] {
  const [a, b] = [describeNetwork(one), describeNetwork(other)];
  if (a !== b) return [a, b];
  const differing = (["embedding", "head", "gate"] as const).filter(
    (key) => JSON.stringify(one[key]) !== JSON.stringify(other[key]),
  );
  const more = (spec: OsnetSpec): string =>
    differing.map((key) => `${key} ${JSON.stringify(spec[key])}`).join(", ");
  return [`${a} with ${more(one)}`, `${b} with ${more(other)}`];
}

/** Choices that a state dict does not show, so only the user knows how the reference was trained. */
function isUnseen(key: keyof OsnetSpec, stated: OsnetSpec, identified: OsnetSpec): boolean {
  if (key === "pooling") return true;
  if (key === "gate")
    return (
      JSON.stringify({ ...stated.gate, activation: "" }) ===
      JSON.stringify({ ...identified.gate, activation: "" })
    );
  return key === "head" && stated.head?.classes === identified.head?.classes;
}

function differingKeys(one: OsnetSpec, other: OsnetSpec): readonly (keyof OsnetSpec)[] {
  return (Object.keys(other) as (keyof OsnetSpec)[]).filter(
    (key) => JSON.stringify(one[key]) !== JSON.stringify(other[key]),
  );
}

/** Names the first differences between a candidate's own description and the checkpoint's. */
function expectSameSpec(stated: OsnetSpec, identified: OsnetSpec, subject: string): void {
  // A model of embeddings does not contain the classifier, so weights imported from it lack one.
  const heads = [stated.head, identified.head];
  const withoutHead = heads.includes(null) && heads.every((head) => head?.loss !== "sigmoid");
  const keys = differingKeys(stated, identified).filter((key) => !(key === "head" && withoutHead));
  if (keys.length === 0) return;
  const show = (spec: OsnetSpec): string =>
    keys.map((key) => `${key} ${key === "stages" ? "of its own" : JSON.stringify(spec[key])}`).join(", ");
  throw new InputError({
    code: "spec",
    subject,
    found: `a network that states ${show(stated)}`,
    expected: `the reference's ${show(identified)}`,
    remedy: keys.every((key) => isUnseen(key, stated, identified))
      ? "if the reference was trained this way, which a state dict cannot show, pass its spec with --arch"
      : "use the checkpoint that the candidate was made from",
  });
}
