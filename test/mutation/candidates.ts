import { lowerToOnnx } from "../../src/convert/export/onnx.js";
import { lowerToTfjs } from "../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../src/convert/export/tfjs-layers-model.js";
import { encodeNpz } from "../../src/convert/formats/npz.js";
import { encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import type { OnnxModel } from "../../src/convert/formats/onnx/model.js";
import { encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import type { NamedBytes } from "../../src/core/bytes.js";
import type { Tensor } from "../../src/core/tensor.js";
import type { RuntimeName } from "../../src/verify/backends/backend.js";
import type { Mutation } from "./mutation.js";
import { type FaultyNetwork, run } from "./network.js";

/** How a network, right or wrong, is handed to the verifier. */
export const FORMS = [
  "onnx",
  "onnx unfolded",
  "onnx without names",
  "onnx unfolded without names",
  "tfjs graph",
  "tfjs layers",
  "recorded",
  "recorded modules",
] as const;

/** An ONNX file as onnxruntime saves it, optimised at every level: channels in blocks, sums and activations inside convolutions. */
export const OPTIMISED = "onnx optimised";

export type Form = (typeof FORMS)[number] | typeof OPTIMISED;

/** What runs a form's files. */
export const RUNTIMES: Readonly<Partial<Record<Form, RuntimeName>>> = {
  "tfjs graph": "tfjs-wasm",
  "tfjs layers": "tfjs-cpu",
};

/** A mutation in one form; undefined if it cannot have that form. */
export function candidateOf(
  mutation: Mutation,
  form: Form,
  images: Tensor<"float32">,
): NamedBytes | undefined {
  const { network, onnx, tfjs, unfolded, named, notInLayers } = mutation;
  if (named && form.endsWith("without names")) return undefined;
  if (notInLayers && form === "tfjs layers") return undefined;
  if (form.startsWith("recorded")) return recording(network, images, form === "recorded");
  const [, , height = 1, width = 1] = images.shape;
  const options = { fold: !form.includes("unfolded") && form !== "tfjs layers", size: { height, width } };
  if (unfolded && options.fold) return undefined;
  if (form.startsWith("onnx")) {
    if (network.instead && !onnx) return undefined;
    const clean = lowerToOnnx(network.graph, network.stateDict, options);
    const model = onnx?.(clean) ?? clean;
    return {
      name: "m.onnx",
      bytes: encodeOnnx(form.endsWith("without names") ? withoutNames(model) : model),
    };
  }
  if (network.instead && !tfjs) return undefined;
  if (form === "tfjs layers" && tfjs) return undefined;
  const clean = lowerToTfjs(network.graph, network.stateDict, { ...options, fuse: !tfjs });
  const model =
    form === "tfjs layers"
      ? lowerToTfjsLayers(network.graph, network.stateDict, options)
      : (tfjs?.(clean) ?? clean);
  const { json, shards } = encodeTfjs(model);
  return { name: "model.json", bytes: json, beside: shards };
}

/** What PyTorch records: modules' outputs and no sums, flattenings or sigmoids of a classifier. */
const UNRECORDED: ReadonlySet<string> = new Set(["input", "add", "flatten"]);

/** A run of a network as PyTorch would record it: float32 after every layer, under the names of its modules. */
export function recording(network: FaultyNetwork, images: Tensor<"float32">, isWhole: boolean): NamedBytes {
  const { graph } = network;
  const values = run(network, images, "float32");
  const recorded = graph.nodes.filter(
    ({ op, name }) =>
      op.kind !== "input" && (isWhole || (!UNRECORDED.has(op.kind) && name !== "classifier.sigmoid")),
  );
  const output = graph.outputs[graph.outputs.evaluation] ?? graph.outputs.features;
  const tensors = new Map<string, Tensor>([
    ["input", images],
    ...recorded.flatMap(({ name }): [string, Tensor][] => {
      const tensor = values.get(name);
      return tensor ? [[name, tensor]] : [];
    }),
    ["output", values.get(output) as Tensor],
  ]);
  return { name: "m.npz", bytes: encodeNpz(tensors, { subject: "m.npz" }) };
}

/** The same graph as another exporter names it, and without what it says of itself. */
export function withoutNames(model: OnnxModel): OnnxModel {
  const { graph } = model;
  const kept = new Set(["", ...[...graph.inputs, ...graph.outputs].map(({ name }) => name)]);
  const names = new Map<string, string>();
  const rename = (name: string): string => {
    if (kept.has(name)) return name;
    const known = names.get(name) ?? `v${names.size}`;
    names.set(name, known);
    return known;
  };
  return {
    ...model,
    producer: { name: "another", version: "1" },
    metadata: new Map(),
    graph: {
      ...graph,
      nodes: graph.nodes.map((node, i) => ({
        ...node,
        name: `n${i}`,
        inputs: node.inputs.map(rename),
        outputs: node.outputs.map(rename),
      })),
      initializers: new Map([...graph.initializers].map(([name, tensor]) => [rename(name), tensor])),
    },
  };
}
