import { batchNormAffine, foldedBias, scaleRows } from "../arch/batch-norm.js";
import type { LayerGraph, LayerNode } from "../arch/index.js";
import type { Checkpoint } from "../convert/open/checkpoint.js";
import { liftCheckpoint } from "../convert/open/lift.js";
import type { FileOptions, OpenFile } from "../convert/open/open-file.js";
import { InputError } from "../core/errors.js";
import type { StateDict, Tensor } from "../core/tensor.js";
import { MIN_NORMAL, toReal } from "../core/tensor-cast.js";
import type { Candidate } from "./candidate/candidate.js";
import { allowedZeros, foldingBound } from "./weights/expected.js";
import { isShift } from "./weights/located.js";

/**
 * A model as the reference: the network is that of its weights, imported to a state dict, and its own outputs are
 * compared too.
 */

/**
 * A model's weights as a checkpoint; other files unchanged.
 *
 * @throws InputError (`unsupported`, `state-dict`) if the model is not an OSNet, or differs from one
 */
export function liftedFile(opened: OpenFile, { arch }: FileOptions): OpenFile {
  if (opened.kind !== "model") return opened;
  const checkpoint = liftCheckpoint(opened.model, arch === undefined ? {} : { arch });
  return { kind: "checkpoint", format: opened.format, checkpoint };
}

/** @throws InputError (`unsupported`) if the reference's input, outputs or structure are not the network's */
export function expectSound({ party, structure = [], deviations = [] }: Candidate): void {
  const [first] = [...structure, ...deviations];
  if (!first) return;
  throw new InputError({
    code: "unsupported",
    subject: party.name,
    found: `a faulty reference (${first.layer}: ${first.explanation})`,
    expected: "a model of the network",
    remedy: "verify it against its checkpoint",
  });
}

/** How much larger than a layer's largest folded bias the terms may be that cancel in it. */
const MAX_CANCELLED = 64;

/**
 * A reference with folded batch norms has products only. If the candidate's factors, or its own products, equal the
 * reference's to within the rounding of folding, they replace them, so that layers are judged by the values that the
 * candidate computes with. The same applies to weights that differ by subnormal numbers at most, or where one side has
 * zeros for negligible weights (docs/denormals.md).
 *
 * @param reference a state dict imported from a model
 * @param candidate the candidate's state dict
 */
export function withFactors(
  graph: LayerGraph,
  reference: Checkpoint,
  candidate: Checkpoint | undefined,
): Checkpoint {
  if (!candidate) return reference;
  const { nodes, outputs } = graph;
  const results = [outputs.features, outputs[outputs.evaluation] ?? outputs.features];
  const rules = [reference, candidate].map((side) => allowedZeros(graph, side.stateDict, results));
  const alike = (
    node: LayerNode,
    isFolded: boolean,
    a: Float32Array,
    b: Float32Array,
  ): readonly Float32Array[] => [
    rules[0]?.taken(node, isFolded, a, b) ?? a,
    rules[1]?.taken(node, isFolded, b, a) ?? b,
  ];
  const byName = new Map(nodes.map((node) => [node.name, node]));
  const stateDict = new Map(reference.stateDict);
  for (const norm of nodes) {
    const source = norm.op.kind === "batchNorm" ? byName.get(norm.inputs[0] ?? "") : undefined;
    const [wanted, found] = [reference.stateDict, candidate.stateDict].map(
      (each) => source && productOf(each, source, norm),
    );
    if (!source || !wanted || !found || !(wanted.isNeutral || found.isNeutral)) {
      adopt(stateDict, candidate.stateDict, norm, alike);
      continue;
    }
    if (!isNear(wanted, found, norm, alike)) continue;
    for (const path of [...Object.values(source.parameters), ...Object.values(norm.parameters)]) {
      const tensor = path === undefined ? undefined : candidate.stateDict.get(path);
      if (path !== undefined && tensor) stateDict.set(path, tensor);
    }
  }
  return { ...reference, stateDict };
}

/** Both sides' values of a weight, each with zeros where the other has them for weights without effect. */
type Alike = (
  node: LayerNode,
  isFolded: boolean,
  a: Float32Array,
  b: Float32Array,
) => readonly Float32Array[];

/** Adopts another file's parameters of a layer if they are equal except for negligible weights. */
function adopt(stateDict: Map<string, Tensor>, other: StateDict, node: LayerNode, alike: Alike): void {
  for (const [role, path] of Object.entries(node.parameters)) {
    const [own, found] = path === undefined ? [] : [stateDict.get(path), other.get(path)];
    if (path === undefined || !own || !found || own.data.length !== found.data.length) continue;
    const both = [own, found].map((tensor) => Float32Array.from(toReal(tensor, path).data)) as [
      Float32Array,
      Float32Array,
    ];
    const [a, b] = (role === "weight" ? alike(node, false, ...both) : both) as [Float32Array, Float32Array];
    // Below that, one file may have zeros where another has values.
    if (a.every((value, at) => Math.abs(value - (b[at] ?? 0)) <= MIN_NORMAL)) stateDict.set(path, found);
  }
}

interface Product {
  readonly weight: Float64Array;
  readonly bias: Float64Array;
  /** |(b − μ)s| + |β|: the bias's rounding errors are relative to it. */
  readonly magnitude: Float64Array;
  /** Whether the norm does nothing but add a bias. */
  readonly isNeutral: boolean;
}

/** W·γ/√(σ² + ε) and (b − μ)·γ/√(σ² + ε) + β; undefined of what is not a layer with weights and its batch norm. */
function productOf(stateDict: StateDict, source: LayerNode, norm: LayerNode): Product | undefined {
  if (norm.op.kind !== "batchNorm") return undefined;
  const read = (path: string | undefined): Float32Array | Float64Array | undefined => {
    const tensor = path === undefined ? undefined : stateDict.get(path);
    return tensor && toReal(tensor, path ?? "").data;
  };
  const { weight: gamma, bias: beta, runningMean, runningVar } = norm.parameters;
  const [w, b] = [read(source.parameters.weight), read(source.parameters.bias)];
  const [g, o, m, v] = [gamma, beta, runningMean, runningVar].map(read);
  if (!w || !g || !o || !m || !v) return undefined;
  const affine = batchNormAffine({ weight: g, bias: o, runningMean: m, runningVar: v }, norm.op.epsilon);
  const { scale } = affine;
  return {
    weight: scaleRows(w, scale, new Float64Array(w.length)),
    bias: foldedBias(affine, b),
    magnitude: scale.map(
      (factor, at) => Math.abs(((b?.[at] ?? 0) - (m[at] ?? 0)) * factor) + Math.abs(o[at] ?? 0),
    ),
    isNeutral: isShift(norm, stateDict),
  };
}

function isNear(wanted: Product, found: Product, norm: LayerNode, alike: Alike): boolean {
  if (wanted.weight.length !== found.weight.length) return false;
  const [a, b] = alike(norm, true, Float32Array.from(wanted.weight), Float32Array.from(found.weight)) as [
    Float32Array,
    Float32Array,
  ];
  const within = (a: number, b: number, scale: number): boolean => Math.abs(a - b) <= foldingBound(scale);
  // If the bias (b − μ)s + β is folded on both sides, its terms are lost; they may be as large as any of the
  // layer's.
  const lost =
    wanted.isNeutral && found.isNeutral
      ? 2 * found.magnitude.reduce((most, value) => Math.max(most, value), 0)
      : 0;
  // The candidate's own terms may be larger than the reference's sums, but not by any factor.
  const most = MAX_CANCELLED * wanted.magnitude.reduce((most, value) => Math.max(most, value), 0);
  return (
    a.every((value, at) => within(value, b[at] ?? 0, Math.abs(b[at] ?? 0))) &&
    wanted.bias.every((value, at) =>
      within(
        value,
        found.bias[at] ?? 0,
        Math.max(wanted.magnitude[at] ?? 0, Math.min(most, Math.max(lost, found.magnitude[at] ?? 0))),
      ),
    )
  );
}
