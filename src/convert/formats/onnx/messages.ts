import type onnxProto from "onnx-proto";

/**
 * The messages of onnx.proto3 as the `onnx-proto` package types them. Types only: loading the package takes 30 ms and
 * 10 MB, a sixth of a whole conversion, and only reading needs it.
 */
export type IAttributeProto = onnxProto.onnx.IAttributeProto;
export type IFunctionProto = onnxProto.onnx.IFunctionProto;
export type IGraphProto = onnxProto.onnx.IGraphProto;
export type IModelProto = onnxProto.onnx.IModelProto;
export type INodeProto = onnxProto.onnx.INodeProto;
export type ITensorProto = onnxProto.onnx.ITensorProto;
export type IValueInfoProto = onnxProto.onnx.IValueInfoProto;

/** How protobufjs gives an int64: a number, or the two halves of one. */
export type Int64 = number | { readonly low: number; readonly high: number };

/** An int64 as a number, held within ±(2⁵³ − 1), beyond which numbers are not exact. */
export function int64ToNumber(value: Int64 | null | undefined): number {
  if (typeof value === "number") return value;
  if (!value) return 0;
  const number = value.high * 2 ** 32 + (value.low >>> 0);
  return Math.max(Number.MIN_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, number));
}

/** An int64, exactly. */
export function int64ToBigInt(value: Int64): bigint {
  return typeof value === "number" ? BigInt(value) : (BigInt(value.high) << 32n) | BigInt(value.low >>> 0);
}
