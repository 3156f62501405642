import { type LayerGraph, type LayerNode, type Op, outputShapes } from "../../src/arch/index.js";
import type { RealTensor, StateDict, Tensor } from "../../src/core/tensor.js";
import { isDType } from "../../src/core/tensor-cast.js";
import { evaluateLayer, float64Parameters, Workspace } from "../../src/verify/reference/evaluate-layer.js";

/** A network that can be lowered and run: its layers, and the weights that they read. */
export interface Network {
  readonly graph: LayerGraph;
  readonly stateDict: StateDict;
}

/**
 * What a faulty runtime computes in place of a layer that no operation of the architecture says.
 *
 * @param inputs what the layer reads
 * @param own computes the layer as it should be, on these inputs or others, or with another operation
 */
export type Instead = (
  inputs: readonly RealTensor[],
  own: (inputs: readonly RealTensor[], op?: Op) => Tensor<"float64">,
) => Tensor<"float64">;

/** A network with layers that compute something else. */
export interface FaultyNetwork extends Network {
  readonly instead?: ReadonlyMap<string, Instead>;
}

/**
 * Runs a network layer by layer in float64.
 *
 * @param precision float32: every layer's output is rounded before the next reads it, as PyTorch stores it
 */
export function run(
  { graph, stateDict, instead }: FaultyNetwork,
  images: Tensor<"float32">,
  precision: "float32" | "float64",
): ReadonlyMap<string, RealTensor> {
  const shapes = outputShapes(graph, images.shape);
  const parameters = float64Parameters(stateDict);
  const workspace = new Workspace();
  const values = new Map<string, RealTensor>();
  for (const node of graph.nodes) {
    const read = node.op.kind === "input" ? [images] : node.inputs.map((name) => known(values, name));
    const own = (inputs: readonly RealTensor[], op = node.op): Tensor<"float64"> => {
      const shape = shapes.get(node.name) ?? [];
      const output = evaluateLayer({ ...node, op }, inputs, parameters, shape, workspace);
      return { ...output, data: output.data.slice() };
    };
    const output = instead?.get(node.name)?.(read, own) ?? own(read);
    values.set(node.name, precision === "float32" ? rounded(output) : output);
  }
  return values;
}

export function rounded({ shape, data }: RealTensor): Tensor<"float32"> {
  return { dtype: "float32", shape, data: Float32Array.from(data) };
}

function known(values: ReadonlyMap<string, RealTensor>, name: string): RealTensor {
  const value = values.get(name);
  if (!value) throw new Error(`${name} is read before it is computed`);
  return value;
}

/** A network with one layer changed; the layer must be there. */
export function withNode(network: Network, name: string, change: (node: LayerNode) => LayerNode): Network {
  nodeOf(network, name);
  const nodes = network.graph.nodes.map((node) => (node.name === name ? change(node) : node));
  return { ...network, graph: { ...network.graph, nodes } };
}

export function nodeOf({ graph }: Network, name: string): LayerNode {
  const node = graph.nodes.find((each) => each.name === name);
  if (!node) throw new Error(`no layer ${name}`);
  return node;
}

/** These blocks, as far as a network has them; of a network of one block, that. */
export function blocksAmong({ graph }: Network, names: readonly string[]): readonly string[] {
  const blocks = new Set(graph.nodes.map(({ block }) => block));
  const found = names.filter((name) => blocks.has(name));
  return found.length > 0 ? found : ["conv2.0"];
}

export function parameterOf({ stateDict }: Network, path: string): Float32Array {
  const tensor = stateDict.get(path);
  if (!tensor || !isDType(tensor, "float32")) throw new Error(`no float32 parameter ${path}`);
  return tensor.data;
}

/** A network with one parameter's values changed; the parameter must be there. */
export function withParameter(
  network: Network,
  path: string,
  change: (values: Float32Array, shape: readonly number[]) => Float32Array,
): Network {
  const tensor = network.stateDict.get(path);
  if (!tensor || !isDType(tensor, "float32")) throw new Error(`no float32 parameter ${path}`);
  const data = change(tensor.data.slice(), tensor.shape);
  if (data.every((value, i) => Object.is(value, tensor.data[i]))) throw new Error(`${path} did not change`);
  return { ...network, stateDict: new Map(network.stateDict).set(path, { ...tensor, data }) };
}
