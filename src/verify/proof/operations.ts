import {
  type LayerGraph,
  type LayerNode,
  outputShapes,
  type ParameterRole,
  type Size2d,
} from "../../arch/index.js";
import { sameShape, type Tensor } from "../../core/tensor.js";
import type { Constants } from "./constants.js";

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
