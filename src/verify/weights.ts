import type { LayerGraph, LayerNode, ParameterRole } from "../arch/index.js";
import { ancestors } from "../arch/index.js";
import type { OnnxModel, OnnxNode } from "../convert/formats/onnx/index.js";
import type { StateDict } from "../state-dict.js";
import type { Tensor } from "../tensor.js";
import { toFloat32, toFloat64 } from "../tensor-cast.js";
import { layerFault } from "./faults.js";
import type { Fault, WeightsResult } from "./report.js";

/** In the order in which ONNX operators take them. */
const ROLES: readonly ParameterRole[] = ["weight", "bias", "runningMean", "runningVar"];

/**
 * Compares the constants of an ONNX file with a checkpoint, apart from activations: bit for bit where they stand as
 * trained (rounded to float32 if the checkpoint is wider), within one unit in the last place where a batch norm is
 * folded into them, which is folded again here in float64.
 *
 * A layer's constants are those that its own node reads, so that a right tensor at the wrong layer is a fault.
 *
 * @param folded layers that the candidate computes only as part of the batch norm after them
 */
export function compareWeights(
  graph: LayerGraph,
  stateDict: StateDict,
  model: OnnxModel,
  results: readonly string[],
  folded: ReadonlySet<string>,
): { readonly result: WeightsResult; readonly faults: readonly Fault[] } {
  const needed = ancestors(graph, ...results);
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const writers = new Map(
    model.graph.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)),
  );
  const faults: Fault[] = [];
  let [compared, identical, foldedCount] = [0, 0, 0];
  for (const node of graph.nodes) {
    if (!needed.has(node.name) || folded.has(node.name)) continue;
    const source = nodes.get(node.inputs[0] ?? "");
    const absorbed = node.op.kind === "batchNorm" && source && folded.has(source.name) ? source : undefined;
    if (absorbed) foldedCount++;
    const expected = absorbed ? fold(absorbed, node, stateDict) : trained(node, stateDict);
    const found = constantsOf(node, writers.get(node.name), model.graph.initializers, expected);
    for (const [role, values] of expected) {
      compared++;
      const problem = differences(values, found.get(role), absorbed ? 1 : 0);
      if (problem === undefined) identical++;
      else faults.push(layerFault(node, "weights", null, `${node.parameters[role] ?? role}: ${problem}`));
    }
  }
  return { result: { compared, identical, folded: foldedCount }, faults };
}

type Constants = ReadonlyMap<ParameterRole, Float32Array>;

function trained(node: LayerNode, stateDict: StateDict): Constants {
  return new Map(
    ROLES.flatMap((role) => {
      const path = node.parameters[role];
      const tensor = path === undefined ? undefined : stateDict.get(path);
      return tensor && path !== undefined ? [[role, toFloat32(tensor, path).data] as const] : [];
    }),
  );
}

/** W·γ/√(σ² + ε) and (b − μ)·γ/√(σ² + ε) + β per output channel, in float64. */
function fold(layer: LayerNode, norm: LayerNode, stateDict: StateDict): Constants {
  const read = (path: string | undefined): Float64Array | undefined => {
    const tensor = path === undefined ? undefined : stateDict.get(path);
    return tensor && toFloat64(tensor, path ?? "").data;
  };
  const weight = read(layer.parameters.weight) ?? new Float64Array();
  const bias = read(layer.parameters.bias);
  const none = new Float64Array();
  const [gamma = none, beta = none, mean = none, variance = none] = ROLES.map((role) =>
    read(norm.parameters[role]),
  );
  const epsilon = norm.op.kind === "batchNorm" ? norm.op.epsilon : 0;
  const foldedWeight = new Float32Array(weight.length);
  const foldedBias = new Float32Array(gamma.length);
  const rowLength = weight.length / gamma.length;
  for (let channel = 0; channel < gamma.length; channel++) {
    const scale = (gamma[channel] ?? 0) / Math.sqrt((variance[channel] ?? 0) + epsilon);
    foldedBias[channel] = ((bias?.[channel] ?? 0) - (mean[channel] ?? 0)) * scale + (beta[channel] ?? 0);
    for (let index = channel * rowLength; index < (channel + 1) * rowLength; index++)
      foldedWeight[index] = (weight[index] as number) * scale;
  }
  return new Map([
    ["weight", foldedWeight],
    ["bias", foldedBias],
  ]);
}

/** The constants that a layer's node reads, by role; of a layer written as several nodes, those of its paths' names. */
function constantsOf(
  node: LayerNode,
  writer: OnnxNode | undefined,
  initializers: ReadonlyMap<string, Tensor>,
  expected: Constants,
): Constants {
  const read = (writer?.inputs ?? []).flatMap((name) => initializers.get(name) ?? []);
  const roles = [...expected.keys()];
  const tensors: readonly (Tensor | undefined)[] =
    read.length === roles.length ? read : roles.map((role) => initializers.get(node.parameters[role] ?? ""));
  return new Map(
    roles.flatMap((role, index) => {
      const tensor = tensors[index];
      return tensor ? [[role, toFloat32(tensor, node.name).data] as const] : [];
    }),
  );
}

/** What is different, in words; undefined if nothing is by more than `ulps` units in the last place. */
function differences(
  expected: Float32Array,
  found: Float32Array | undefined,
  ulps: number,
): string | undefined {
  if (!found) return "not in the candidate";
  if (found.length !== expected.length) return `${found.length} values, expected ${expected.length}`;
  const a = new Int32Array(expected.slice().buffer);
  const b = new Int32Array(found.slice().buffer);
  let count = 0;
  let largest = 0;
  for (let index = 0; index < a.length; index++) {
    if (Math.abs((a[index] as number) - (b[index] as number)) <= ulps) continue;
    count++;
    largest = Math.max(largest, Math.abs((expected[index] as number) - (found[index] as number)));
  }
  return count === 0
    ? undefined
    : `${count} of ${a.length} values differ from the checkpoint's, by up to ${largest.toPrecision(3)}`;
}
