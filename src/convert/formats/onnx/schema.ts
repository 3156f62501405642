import type {
  IAttributeProto,
  IGraphProto,
  IModelProto,
  INodeProto,
  ITensorProto,
  IValueInfoProto,
} from "./proto.js";
import { WireWriter } from "./wire.js";

/**
 * The fields of onnx.proto3 that the project writes, in ascending order of their numbers, which is the order of the
 * bytes. Written without `onnx-proto` for the sake of start-up (see messages.ts); a test holds the two to the same
 * bytes.
 */

/** How a field's value becomes bytes: repeated numbers are packed, as in proto3; a function gives a nested schema. */
type FieldKind = "varint" | "float" | "string" | "bytes" | (() => Schema);
type Field<Name extends string = string> = readonly [name: Name, number: number, kind: FieldKind];
/** In descending order, as messages are written backwards. */
type Schema = readonly Field[];

/** The schema of the message `M`; its fields' names are checked against it. */
function schema<M>(...fields: readonly Field<keyof M & string>[]): Schema {
  return fields.toReversed();
}

const DIMENSION: Schema = [
  ["dimParam", 2, "string"],
  ["dimValue", 1, "varint"],
];
const SHAPE: Schema = [["dim", 1, () => DIMENSION]];
const TENSOR_TYPE: Schema = [
  ["shape", 2, () => SHAPE],
  ["elemType", 1, "varint"],
];
const TYPE: Schema = [["tensorType", 1, () => TENSOR_TYPE]];
const VALUE: Schema = schema<IValueInfoProto>(["name", 1, "string"], ["type", 2, () => TYPE]);
const ENTRY: Schema = [
  ["value", 2, "string"],
  ["key", 1, "string"],
];
const TENSOR: Schema = schema<ITensorProto>(
  ["dims", 1, "varint"],
  ["dataType", 2, "varint"],
  ["name", 8, "string"],
  ["rawData", 9, "bytes"],
  ["externalData", 13, () => ENTRY],
  ["dataLocation", 14, "varint"],
);
const ATTRIBUTE: Schema = schema<IAttributeProto>(
  ["name", 1, "string"],
  ["f", 2, "float"],
  ["i", 3, "varint"],
  ["s", 4, "bytes"],
  ["t", 5, () => TENSOR],
  ["g", 6, () => GRAPH],
  ["floats", 7, "float"],
  ["ints", 8, "varint"],
  ["strings", 9, "bytes"],
  ["type", 20, "varint"],
);
const NODE: Schema = schema<INodeProto>(
  ["input", 1, "string"],
  ["output", 2, "string"],
  ["name", 3, "string"],
  ["opType", 4, "string"],
  ["attribute", 5, () => ATTRIBUTE],
  ["domain", 7, "string"],
);
const GRAPH: Schema = schema<IGraphProto>(
  ["node", 1, () => NODE],
  ["name", 2, "string"],
  ["initializer", 5, () => TENSOR],
  ["input", 11, () => VALUE],
  ["output", 12, () => VALUE],
);
const OPSET: Schema = [
  ["version", 2, "varint"],
  ["domain", 1, "string"],
];
const MODEL: Schema = schema<IModelProto>(
  ["irVersion", 1, "varint"],
  ["producerName", 2, "string"],
  ["producerVersion", 3, "string"],
  ["graph", 7, () => GRAPH],
  ["opsetImport", 8, () => OPSET],
  ["metadataProps", 14, () => ENTRY],
);

/**
 * The encoding of a ModelProto, whole or a fragment to be merged: fields that it does not have are left out.
 *
 * @param capacity about the size of the result, or more
 */
export function serializeModel(model: IModelProto, capacity: number): Uint8Array {
  const writer = new WireWriter(capacity);
  serialize(writer, MODEL, model);
  return writer.finish();
}

function serialize(writer: WireWriter, fields: Schema, message: object): void {
  const values = message as Readonly<Record<string, unknown>>;
  for (const [name, number, kind] of fields) {
    const value = values[name];
    if (value === undefined) continue;
    if (kind === "varint" || kind === "float") serializeNumbers(writer, number, kind, value);
    else if (!Array.isArray(value)) serializeDelimited(writer, number, kind, value);
    else
      for (let index = value.length - 1; index >= 0; index--)
        serializeDelimited(writer, number, kind, value[index]);
  }
}

function serializeNumbers(
  writer: WireWriter,
  number: number,
  kind: "varint" | "float",
  value: unknown,
): void {
  if (!Array.isArray(value)) writer.number(number, kind, value as number);
  else if (value.length > 0)
    writer.delimited(number, () => {
      for (let index = value.length - 1; index >= 0; index--) writer[kind](value[index]);
    });
}

function serializeDelimited(
  writer: WireWriter,
  number: number,
  kind: Exclude<FieldKind, "varint" | "float">,
  value: unknown,
): void {
  writer.delimited(number, () => {
    if (kind === "bytes") writer.bytes(value as Uint8Array);
    else if (kind === "string") writer.text(value as string);
    else serialize(writer, kind(), value as object);
  });
}
