import { gunzipSync } from "node:zlib";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import { normalise } from "../../../src/convert/import/normalise.js";
import type { Value } from "../../../src/convert/import/operators/foreign.js";
import { DTYPES, type DType, elementCount, type RealTensor, type Tensor } from "../../../src/core/tensor.js";
import { toFloat64 } from "../../../src/core/tensor-cast.js";
import { readFixture } from "../../fixtures.js";
import { evaluateForeign, NoLayer } from "./evaluate-foreign.js";
import { operator } from "./graphs.js";

/** The ONNX project's own node tests and small chains of operators with its results, as `node_cases.py` writes them. */

interface Stored {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Little-endian, base64. */
  readonly data: string;
}

export interface NodeCase {
  readonly name: string;
  readonly model: OnnxModel;
  readonly feeds: ReadonlyMap<string, Tensor>;
  readonly expected: Tensor;
  /** How far integers in between may put the result from the one of real numbers. */
  readonly rounding: number;
}

const { cases } = JSON.parse(gunzipSync(readFixture("onnx-node-cases.json.gz")).toString()) as {
  readonly cases: readonly {
    readonly name: string;
    readonly model: string;
    readonly feeds: Readonly<Record<string, Stored>>;
    readonly expected: Stored;
    readonly rounding?: number;
  }[];
};

export const NODE_CASES: readonly NodeCase[] = cases.map(
  ({ name, model, feeds, expected, rounding = 0 }) => ({
    name,
    model: decodeOnnx(Buffer.from(model, "base64"), { subject: name }),
    feeds: new Map(Object.entries(feeds).map(([input, tensor]) => [input, stored(tensor)])),
    expected: stored(expected),
    rounding,
  }),
);

function stored({ dtype, shape, data }: Stored): Tensor {
  const bytes = Uint8Array.from(Buffer.from(data, "base64"));
  return { dtype, shape, data: new DTYPES[dtype](bytes.buffer, 0, elementCount(shape)) } as Tensor;
}

/**
 * What a case's result is by our reading.
 *
 * @returns what it was read as instead, if that is nothing of an OSNet
 */
export function resultOf({ name, model, feeds }: NodeCase): Tensor | string {
  if (feeds.size === 0) return constantOf(name, model);
  const graph = normalise(model, name);
  const inputs = [...feeds].map(([input, tensor]) => [input, real(tensor)] as const);
  try {
    return evaluateForeign(graph, new Map(inputs));
  } catch (error) {
    if (error instanceof NoLayer) return error.message;
    throw error;
  }
}

/** What a graph without inputs computes, seen as what a node that we have no meaning for reads. */
function constantOf(name: string, model: OnnxModel): Tensor | string {
  const [output] = model.graph.outputs;
  const graph = {
    ...model.graph,
    inputs: [{ name: "images", dtype: "float32", shape: [1, 3, 1, 1] } as const],
    nodes: [...model.graph.nodes, operator("Unread", ["images", output?.name ?? ""], "read")],
    outputs: [{ name: "read" }],
  };
  const [read] = normalise({ ...model, graph }, name).outputs;
  const value: Value | undefined = read?.node?.op.kind === "other" ? read.node.op.operands[1] : undefined;
  return value?.kind === "constant" ? value.tensor : "numbers that are not known";
}

/** The numbers of a tensor of any type. */
export function real(tensor: Tensor): RealTensor {
  if (tensor.dtype.includes("float")) return toFloat64(tensor, "case");
  return { dtype: "float64", shape: tensor.shape, data: Float64Array.from(tensor.data, Number) };
}
