import {
  type LayerGraph,
  type LayerNode,
  outputShapes,
  type ParameterRole,
  type Size2d,
} from "../../arch/index.js";
import { elementCount, type StateDict, sameShape, type Tensor } from "../../core/tensor.js";
import { isDType, toFloat32 } from "../../core/tensor-cast.js";
import type { WeightsResult } from "../outcome/report.js";
import { type AllowedZeros, refold } from "../weights/expected.js";

/**
 * The operation that computes a value of a document, in a vocabulary shared by all formats, with PyTorch's layouts:
 * maps are NCHW, weights OIHW and [out, in]. Each reader (onnx.ts, tf-graph.ts, tf-layers.ts) knows which operators of
 * its format mean which operation, with which attributes and forms of inputs; anything it does not understand
 * completely is unknown.
 */
export type Operation =
  | {
      readonly kind: "conv";
      readonly x: string;
      /** [out, in / groups, height, width]. */
      readonly weight: Tensor;
      readonly bias?: Tensor | undefined;
      readonly groups: number;
      readonly stride: Size2d;
      /** Rows and columns of zeros at both ends. */
      readonly padding: Size2d;
    }
  /** x · Wᵀ + b with W [out, in]. */
  | {
      readonly kind: "linear";
      readonly x: string;
      readonly weight: Tensor;
      readonly bias?: Tensor | undefined;
    }
  /** γ, β, mean, variance. */
  | {
      readonly kind: "batchNorm";
      readonly x: string;
      readonly constants: readonly Tensor[];
      readonly epsilon: number;
    }
  /** (x − mean) / √(variance + ε) over these axes, with γ and β by channel. */
  | {
      readonly kind: "normalise";
      readonly x: string;
      readonly axes: readonly number[];
      readonly epsilon: number;
      readonly gamma?: Tensor | undefined;
      readonly beta?: Tensor | undefined;
    }
  /** For a maximum, padding is less than any number; an average has no padding. */
  | {
      readonly kind: "pool";
      readonly type: "max" | "mean";
      readonly x: string;
      readonly window: Size2d;
      readonly stride: Size2d;
      readonly padding: Size2d;
    }
  /** The same number of rows and columns at both ends. */
  | { readonly kind: "pad"; readonly x: string; readonly sizes: Size2d; readonly value: number }
  /** Over these axes of a map, which are kept as 1 or removed. */
  | {
      readonly kind: "reduce";
      readonly type: "max" | "mean";
      readonly x: string;
      readonly axes: readonly number[];
      readonly keeps: boolean;
    }
  /** [N, …] to [N, D]. */
  | { readonly kind: "flatten"; readonly x: string; readonly width?: number | undefined }
  /** Channels in the opposite order. */
  | { readonly kind: "reverse"; readonly x: string }
  /** x · factor + offset. */
  | { readonly kind: "rescale"; readonly x: string; readonly factor: number; readonly offset: number }
  | { readonly kind: "call"; readonly name: Call; readonly inputs: readonly string[] }
  /** An unsupported operation and the reason, as a clause; empty if the operator itself is not supported. */
  | { readonly kind: "unknown"; readonly why: string };

/** Operators that say all by their names; several inputs are broadcast as in NumPy. */
export type Call =
  | "add"
  | "subtract"
  | "multiply"
  | "divide"
  | "squaredDifference"
  | "square"
  | "sqrt"
  | "rsqrt"
  | "relu"
  | "sigmoid"
  | "softsign"
  | "identity";

/** A document as the proof sees it, independent of its format. */
export interface ProofDocument {
  /** The value of the images. */
  readonly input: string;
  /** Height and width of the images, where the document fixes them. */
  readonly size: Size2d | undefined;
  readonly outputs: readonly { readonly name: string; readonly value: string }[];
  /** The operation that computes a value. */
  readonly operation: (value: string) => Operation;
  /** The value of a scalar float32 constant. */
  readonly number: (value: string) => number | undefined;
  /** A constant that is broadcast by channel over values of this rank, as [C]. */
  readonly channels: (value: string, rank: 2 | 4) => Tensor | undefined;
  /** The values that an output may be a named function of. */
  readonly tails: (output: string) => readonly Tail[];
  /** Describes a value: its node and operator. */
  readonly describe: (value: string) => string;
}

/** An operation after a result [N, D], which the report names. */
export interface Tail {
  /** The operation's input. */
  readonly value: string;
  readonly tail: string;
}

/** An operation in a form that a reader does not support. */
export function unknown(why = ""): Operation {
  return { kind: "unknown", why };
}

type Kind = Operation["kind"];
export type OperationOf<K extends Kind> = Extract<Operation, { readonly kind: K }>;

/** A document's operations, without those that only pass values on, and its constants as parameters of layers. */
export interface Operations {
  readonly operation: (value: string) => Operation;
  /** The value before operators that pass it on. */
  readonly origin: (value: string) => string;
  /** The operation that computes a value, if it is of this kind. */
  readonly at: <K extends Kind>(value: string | undefined, kind: K) => OperationOf<K> | undefined;
  /** The inputs of a call, one or two; undefined for a sum or product of more. */
  readonly call: (value: string | undefined, name: Call) => readonly [string, string] | undefined;
  /** Both orders of a sum's or product's two inputs. */
  readonly orders: (
    value: string | undefined,
    name: "add" | "multiply",
  ) => readonly (readonly [string, string])[];
  readonly same: (a: string | undefined, b: string | undefined) => boolean;
  /** Whether a constant is this number, rounded to float32. */
  readonly isNumber: (value: string, wanted: number) => boolean;
  readonly channels: (value: string, rank: 2 | 4) => Tensor | undefined;
  /** Whether a tensor has the bits of a layer's parameter. */
  readonly isParameter: (layer: LayerNode, role: ParameterRole, tensor: Tensor | undefined) => boolean;
  /** The same for a constant that broadcasts by channel over the layer's values. */
  readonly isChannels: (layer: LayerNode, role: ParameterRole, value: string) => boolean;
}

/** Maximum number of consecutive operators that pass a value on: a document may have any number. */
const MAX_STEPS = 1000;

/** Calls with one input. All others have two, and sums and products may have more. */
const UNARY: ReadonlySet<Call> = new Set([
  "square",
  "sqrt",
  "rsqrt",
  "relu",
  "sigmoid",
  "softsign",
  "identity",
]);

export function operationsOf(graph: LayerGraph, document: ProofDocument, constants: Constants): Operations {
  // For dynamic images, the shapes of any size show the ranks.
  const shapes = outputShapes(graph, [1, 3, 64, 64]);
  // Each is read once, so that transposed weights are compared only once.
  const read = new Map<string, Operation>();
  const byChannel = new Map<string, Tensor | undefined>();
  const operation = (value: string): Operation => {
    const found = read.get(value) ?? document.operation(value);
    read.set(value, found);
    return found;
  };
  const origin = (value: string): string => {
    let name = value;
    for (let steps = 0; steps < MAX_STEPS; steps++) {
      const found = operation(name);
      if (found.kind !== "call" || found.name !== "identity") break;
      name = found.inputs[0] ?? "";
    }
    return name;
  };
  const at: Operations["at"] = <K extends Kind>(value: string | undefined, kind: K) => {
    const found = value === undefined ? undefined : operation(origin(value));
    return found?.kind === kind ? (found as OperationOf<K>) : undefined;
  };
  const call: Operations["call"] = (value, name) => {
    const found = at(value, "call");
    const [a = "", b = ""] = found?.inputs ?? [];
    return found?.name === name && found.inputs.length === (UNARY.has(name) ? 1 : 2) ? [a, b] : undefined;
  };
  const channels: Operations["channels"] = (value, rank) => {
    const key = `${rank} ${value}`;
    if (!byChannel.has(key)) byChannel.set(key, document.channels(value, rank));
    return byChannel.get(key);
  };
  const isParameter: Operations["isParameter"] = (layer, role, tensor) =>
    tensor !== undefined && constants.differs(layer, role, shaped(tensor, layer)) === undefined;
  return {
    operation,
    origin,
    at,
    call,
    orders(value, name) {
      const inputs = call(value, name);
      return inputs ? [inputs, [inputs[1], inputs[0]]] : [];
    },
    same: (a, b) => a !== undefined && b !== undefined && origin(a) === origin(b),
    isNumber: (value, wanted) => document.number(value) === Math.fround(wanted),
    channels,
    isParameter,
    isChannels: (layer, role, value) =>
      isParameter(layer, role, channels(value, shapes.get(layer.name)?.length === 2 ? 2 : 4)),
  };
}

/** The parameters of a layer norm have the shape [channels, 1, 1]. */
function shaped(tensor: Tensor, { op }: LayerNode): Tensor {
  const isVector = op.kind === "layerNorm" && sameShape(tensor.shape, [op.channels]);
  return isVector ? { ...tensor, shape: [op.channels, 1, 1] } : tensor;
}

/** Compares a document's constants with a checkpoint's. */
export interface Constants {
  /**
   * The difference between a constant and a layer's parameter; undefined if it has the same shape and bits. A missing
   * constant, such as an optional bias, must be zeros in the checkpoint.
   */
  readonly differs: (layer: LayerNode, role: ParameterRole, found: Tensor | undefined) => string | undefined;
  /**
   * As `differs`, for the product of a layer and the batch norm after it: to within the rounding of folding
   * (expected.ts).
   */
  readonly differsFolded: (
    layer: LayerNode | undefined,
    norm: LayerNode,
    role: "weight" | "bias",
    found: Tensor | undefined,
  ) => string | undefined;
  /** Constants that were found equal, each counted once. */
  readonly compared: () => { readonly exact: number; readonly folded: number };
  /** Weights that the document has as zeros because they have no effect. */
  readonly zeroed: () => WeightsResult["zeroed"];
}

/**
 * @param stateDict the checkpoint's, which has every parameter of the graph with its shape
 * @param zeros weights that may be zeros instead
 */
export function constantsOf(graph: LayerGraph, stateDict: StateDict, zeros: AllowedZeros): Constants {
  const layers = new Map(graph.nodes.map((node) => [node.name, node]));
  const results = new Map<Tensor | undefined, Map<string, string | undefined>>();
  // The weight and the bias of a layer are compared in sequence. All products together take 30 MiB.
  let last: { readonly key: string; readonly product: ReturnType<typeof refold> } | undefined;
  const counted = { exact: new Set<string>(), folded: new Set<string>() };

  const once = (
    found: Tensor | undefined,
    key: string,
    compare: () => string | undefined,
  ): string | undefined => {
    const own = results.get(found) ?? new Map<string, string | undefined>();
    results.set(found, own);
    if (!own.has(key)) own.set(key, compare());
    return own.get(key);
  };

  return {
    differs(layer, role, found) {
      const path = layer.parameters[role] ?? "";
      return once(found, path, () => {
        const tensor = stateDict.get(path);
        if (!tensor) return `the checkpoint has no ${path}`;
        const expected = toFloat32(tensor, path);
        const taken = (data: Float32Array): Float32Array =>
          role === "weight" && found ? zeros.taken(layer, false, data, realOf(found)) : data;
        const problem = compare({ ...expected, data: taken(expected.data) }, found, 0);
        if (problem === undefined) counted.exact.add(path);
        return problem && `${problem} ${path}`;
      });
    },
    differsFolded(layer, norm, role, found) {
      const own = layer ?? norm;
      const key = `${layer?.name ?? ""} × ${norm.name}`;
      return once(found, `${key} ${role}`, () => {
        if (last?.key !== key)
          last = { key, product: refold(layer && layers.get(layer.name), norm, stateDict) };
        const expected = last.product.get(role);
        if (!expected) return `the checkpoint has no ${norm.name}`;
        const { values, bounds } = expected;
        const data =
          role === "weight" && found ? zeros.taken(norm, layer !== undefined, values, realOf(found)) : values;
        const shape =
          role === "weight" ? (stateDict.get(own.parameters.weight ?? "")?.shape ?? []) : [data.length];
        const problem = compare({ dtype: "float32", shape, data }, found, bounds());
        if (problem === undefined) counted.folded.add(`${key} ${role}`);
        return problem && `${problem} the ${role} of ${own.name} with ${norm.name}`;
      });
    },
    zeroed: () => zeros.result(),
    compared: () => ({ exact: counted.exact.size, folded: counted.folded.size }),
  };
}

/** A constant's numbers; empty if it is not float32, which `compare` refuses. */
function realOf(found: Tensor): Float32Array {
  return isDType(found, "float32") ? found.data : new Float32Array();
}

/** Compares bits if no bound is given, so −0 differs from 0; non-finite values are never equal. */
function compare(
  expected: Tensor<"float32">,
  found: Tensor | undefined,
  bounds: Float64Array | 0,
): string | undefined {
  if (found && !isDType(found, "float32")) return `a ${found.dtype} constant as`;
  if (found && !sameShape(found.shape, expected.shape))
    return `a constant of shape [${found.shape}] instead of [${expected.shape}] as`;
  const data = found?.data ?? new Float32Array(elementCount(expected.shape));
  for (let index = 0; index < expected.data.length; index++) {
    const wanted = expected.data[index] as number;
    const value = data[index] as number;
    if (!(Math.abs(value) < Infinity)) return "a constant that is not finite as";
    const isNear = bounds ? Math.abs(value - wanted) <= (bounds[index] as number) : Object.is(value, wanted);
    // An operator without its optional bias adds nothing, as if it added zeros of either sign.
    if (!isNear && !(found === undefined && wanted === 0)) return "a constant that differs from";
  }
  return undefined;
}
