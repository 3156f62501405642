import { bool, tfNode, wholeNumbers } from "../../../../src/convert/export/tfjs-operators.js";
import type { Json, JsonObject } from "../../../../src/convert/formats/tfjs/json.js";
import type {
  TfjsGraphModel,
  TfjsLayersModel,
  TfjsNode,
  TfjsWeight,
} from "../../../../src/convert/formats/tfjs/model.js";

/** Gates as squeeze-and-excitation is mostly written: a mean, two products of vectors, and the result as an image again. */

const GATE_WEIGHT = /\.gate\.fc[12]\.weight$/;

/** A weight [1, 1, in, out] as [in, out]. */
function asMatrix(weight: TfjsWeight): TfjsWeight {
  const { shape, data } = weight.tensor;
  return { ...weight, tensor: { dtype: "float32", shape: shape.slice(2), data: data as Float32Array } };
}

/** Of a graph of TensorFlow's own operators: Mean, MatMul and Reshape instead of AvgPool and Conv2D. */
export function gatesOfProducts(model: TfjsGraphModel): TfjsGraphModel {
  const inputs = new Map(model.nodes.map((node) => [node.name, node.inputs]));
  const channels = (gate: string): number =>
    model.weights.get(`${gate.replace(/-\d+$/, "")}.fc2.weight`)?.tensor.shape[3] ?? 0;
  const constants = new Map<string, TfjsWeight>([["axes", { tensor: wholeNumbers(1, 2) }]]);
  const nodes = model.nodes.flatMap((node): readonly TfjsNode[] => {
    const [, gate, step] = /^(.*\.gate-\d+)\.(.*)$/.exec(node.name) ?? [];
    const [first = "", second = ""] = node.inputs;
    if (gate === undefined || step === "global_avgpool/columns") return gate === undefined ? [node] : [];
    if (step === "global_avgpool") {
      const [map = ""] = inputs.get(first) ?? [];
      return [tfNode(node.name, "Mean", [map, "axes"], { keep_dims: bool(false) })];
    }
    if (step?.endsWith("/product")) return [tfNode(node.name, "MatMul", [first, second])];
    if (step !== "gate_activation") return [node];
    const shape = `as-image-${channels(gate)}`;
    constants.set(shape, { tensor: wholeNumbers(-1, 1, 1, channels(gate)) });
    const flat = `${node.name}/flat`;
    return [{ ...node, name: flat }, tfNode(node.name, "Reshape", [flat, shape])];
  });
  return {
    ...model,
    nodes: [...Array.from(constants.keys(), (name) => tfNode(name, "Const", [])), ...nodes],
    weights: new Map([
      ...Array.from(
        model.weights,
        ([name, weight]) => [name, GATE_WEIGHT.test(name) ? asMatrix(weight) : weight] as const,
      ),
      ...constants,
    ]),
  };
}

interface KerasLayer {
  readonly name: string;
  readonly class_name: string;
  readonly config: JsonObject;
  readonly inbound_nodes: readonly (readonly Json[])[];
}

/** Of Keras's layers: GlobalAveragePooling2D, Dense and Reshape instead of pools and Conv2D. */
export function gatesOfDense(model: TfjsLayersModel): TfjsLayersModel {
  const topology = JSON.parse(JSON.stringify(model.topology));
  const { config } = topology.model_config as { readonly config: { layers: readonly KerasLayer[] } };
  const calls = new Map(config.layers.map(({ name, inbound_nodes }) => [name, inbound_nodes]));
  config.layers = config.layers.flatMap((layer): readonly KerasLayer[] => {
    const { name, class_name: className, inbound_nodes: inbound } = layer;
    if (name.endsWith(".gate.global_avgpool-columns")) return [];
    if (name.endsWith(".gate.global_avgpool"))
      return [
        {
          ...layer,
          class_name: "GlobalAveragePooling2D",
          config: { name, data_format: "channels_last" },
          inbound_nodes: calls.get(`${name}-columns`) ?? [],
        },
      ];
    if (/\.gate\.fc[12]$/.test(name))
      return [{ ...layer, class_name: "Dense", config: { name, units: layer.config.filters ?? 0 } }];
    if (name.endsWith(".gate") && className === "Multiply") {
      const image = `${name}.as-image`;
      const units = model.weights.get(`${name}.fc2/bias`)?.tensor.data.length ?? 0;
      return [
        {
          name: image,
          class_name: "Reshape",
          config: { name: image, target_shape: [1, 1, units] },
          inbound_nodes: inbound.map((_, call) => [[`${name}.gate_activation`, call, 0, {}]]),
        },
        { ...layer, inbound_nodes: inbound.map(([map = null], call) => [map, [image, call, 0, {}]]) },
      ];
    }
    return [layer];
  });
  return {
    ...model,
    topology,
    weights: new Map(
      Array.from(model.weights, ([name, weight]) => [
        name,
        /\.gate\.fc[12]\/kernel$/.test(name) ? asMatrix(weight) : weight,
      ]),
    ),
  };
}
