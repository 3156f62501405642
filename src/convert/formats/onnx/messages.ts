/**
 * The messages of onnx.proto3 (IR version 13): as protobufjs decodes them, and field by field, for the writer (wire.ts)
 * and for the check before decoding (limits.ts).
 *
 * Declared here because `onnx-proto`'s declarations do not compile on their own and would become part of this package's
 * API; and loading that package takes 30 ms and 10 MB, a sixth of a whole conversion, which only reading needs. A test
 * encodes every field with both.
 */

/** protobufjs's representation of an int64: a number, or the two halves of one. */
export type Int64 = number | { readonly low: number; readonly high: number };

/** A field of a message; a missing one may be null. */
type Maybe<T> = T | null;

interface IStringStringEntryProto {
  key?: Maybe<string>;
  value?: Maybe<string>;
}

interface IOperatorSetIdProto {
  domain?: Maybe<string>;
  version?: Maybe<Int64>;
}

export interface ITensorProto {
  dims?: Maybe<Int64[]>;
  dataType?: Maybe<number>;
  segment?: Maybe<object>;
  floatData?: Maybe<number[]>;
  int32Data?: Maybe<number[]>;
  stringData?: Maybe<Uint8Array[]>;
  int64Data?: Maybe<Int64[]>;
  name?: Maybe<string>;
  rawData?: Maybe<Uint8Array>;
  externalData?: Maybe<IStringStringEntryProto[]>;
  dataLocation?: Maybe<number>;
  doubleData?: Maybe<number[]>;
  uint64Data?: Maybe<Int64[]>;
}

interface IDimension {
  dimValue?: Maybe<Int64>;
  dimParam?: Maybe<string>;
}

interface ITypeProto {
  tensorType?: Maybe<{
    elemType?: Maybe<number>;
    shape?: Maybe<{ dim?: Maybe<IDimension[]> }>;
  }>;
}

export interface IValueInfoProto {
  name?: Maybe<string>;
  type?: Maybe<ITypeProto>;
}

export interface IAttributeProto {
  name?: Maybe<string>;
  refAttrName?: Maybe<string>;
  type?: Maybe<number>;
  f?: Maybe<number>;
  i?: Maybe<Int64>;
  s?: Maybe<Uint8Array>;
  t?: Maybe<ITensorProto>;
  g?: Maybe<IGraphProto>;
  sparseTensor?: Maybe<object>;
  tp?: Maybe<object>;
  floats?: Maybe<number[]>;
  ints?: Maybe<Int64[]>;
  strings?: Maybe<Uint8Array[]>;
  tensors?: Maybe<ITensorProto[]>;
  graphs?: Maybe<IGraphProto[]>;
  sparseTensors?: Maybe<object[]>;
  typeProtos?: Maybe<object[]>;
}

export interface INodeProto {
  input?: Maybe<string[]>;
  output?: Maybe<string[]>;
  name?: Maybe<string>;
  opType?: Maybe<string>;
  domain?: Maybe<string>;
  attribute?: Maybe<IAttributeProto[]>;
}

export interface IFunctionProto {
  name?: Maybe<string>;
  input?: Maybe<string[]>;
  output?: Maybe<string[]>;
  /** Names of the attributes of a function. */
  attribute?: Maybe<string[]>;
  node?: Maybe<INodeProto[]>;
  opsetImport?: Maybe<IOperatorSetIdProto[]>;
  domain?: Maybe<string>;
}

export interface IGraphProto {
  node?: Maybe<INodeProto[]>;
  name?: Maybe<string>;
  initializer?: Maybe<ITensorProto[]>;
  sparseInitializer?: Maybe<object[]>;
  input?: Maybe<IValueInfoProto[]>;
  output?: Maybe<IValueInfoProto[]>;
  valueInfo?: Maybe<IValueInfoProto[]>;
  quantizationAnnotation?: Maybe<object[]>;
}

export interface IModelProto {
  irVersion?: Maybe<Int64>;
  opsetImport?: Maybe<IOperatorSetIdProto[]>;
  producerName?: Maybe<string>;
  producerVersion?: Maybe<string>;
  graph?: Maybe<IGraphProto>;
  metadataProps?: Maybe<IStringStringEntryProto[]>;
  trainingInfo?: Maybe<object[]>;
  functions?: Maybe<IFunctionProto[]>;
}

/** The types of numbers, as onnx.proto3 names them; `int32` also of enumerations. */
export type NumberType = "int32" | "int64" | "uint64" | "float" | "double";

/** The type of a field; a function returns a nested message's fields. */
export type FieldType = NumberType | "string" | "bytes" | (() => Message<object>);

/** A field of a message. */
export interface Field {
  /** As protobufjs names it. */
  readonly name: string;
  /** The field number. */
  readonly number: number;
  readonly type: FieldType;
  /** Lists; and `ModelProto.graph`, which is merged as in protobuf. */
  readonly isRepeated: boolean;
  /** A member of a `oneof`, of which a message has one: protobuf uses the last, and protobufjs keeps all. */
  readonly isChoice?: boolean;
  /** Fields that onnx-proto, which is older, does not have and therefore drops: refused unless empty. */
  readonly refusedAs?: string;
}

/** The fields of the message `M`, and further ones that are only checked. */
export interface Message<M, Others extends string = never> {
  readonly fields: { readonly [Name in (keyof M & string) | Others]-?: Field };
  readonly byNumber: ReadonlyMap<number, Field>;
  /** From the last number to the first: messages are written backwards. */
  readonly backwards: readonly Field[];
}

type Unnamed = Omit<Field, "name">;

const one = (number: number, type: FieldType): Unnamed => ({ number, type, isRepeated: false });
const choice = (number: number, type: FieldType): Unnamed => ({ ...one(number, type), isChoice: true });
const many = (number: number, type: FieldType): Unnamed => ({ number, type, isRepeated: true });

/** A message of these fields, in ascending order of their numbers, which is the order of the bytes. */
function message<M, Others extends string = never>(
  fields: { readonly [Name in (keyof M & string) | Others]-?: Unnamed } & Readonly<Record<string, Unnamed>>,
): Message<M, Others> {
  const named = Object.entries<Unnamed>(fields).map(([name, field]): Field => ({ name, ...field }));
  return {
    fields: Object.fromEntries(named.map((field) => [field.name, field])) as Message<M, Others>["fields"],
    byNumber: new Map(named.map((field) => [field.number, field])),
    backwards: named.toReversed(),
  };
}

const ENTRY: Message<IStringStringEntryProto> = message({ key: one(1, "string"), value: one(2, "string") });
/** Nothing in it is read. */
const OPAQUE: Message<object> = message({});
const DIMENSION: Message<IDimension> = message({
  dimValue: choice(1, "int64"),
  dimParam: choice(2, "string"),
  denotation: one(3, "string"),
});
const SHAPE: Message<object> = message({ dim: many(1, () => DIMENSION) });
const TENSOR_TYPE: Message<object> = message({ elemType: one(1, "int32"), shape: one(2, () => SHAPE) });
const ELEMENT_TYPE: Message<object> = message({ elemType: one(1, () => TYPE) });
const MAP_TYPE: Message<object> = message({ keyType: one(1, "int32"), valueType: one(2, () => TYPE) });
const TYPE: Message<ITypeProto> = message({
  tensorType: choice(1, () => TENSOR_TYPE),
  sequenceType: choice(4, () => ELEMENT_TYPE),
  mapType: choice(5, () => MAP_TYPE),
  denotation: one(6, "string"),
  opaqueType: choice(7, () => OPAQUE),
  sparseTensorType: choice(8, () => TENSOR_TYPE),
  optionalType: choice(9, () => ELEMENT_TYPE),
});
export const VALUE: Message<IValueInfoProto> = message({
  name: one(1, "string"),
  type: one(2, () => TYPE),
  docString: one(3, "string"),
  metadataProps: many(4, () => ENTRY),
});
const SEGMENT: Message<object> = message({ begin: one(1, "int64"), end: one(2, "int64") });
export const TENSOR: Message<ITensorProto> = message({
  dims: many(1, "int64"),
  dataType: one(2, "int32"),
  segment: one(3, () => SEGMENT),
  floatData: many(4, "float"),
  int32Data: many(5, "int32"),
  stringData: many(6, "bytes"),
  int64Data: many(7, "int64"),
  name: one(8, "string"),
  rawData: one(9, "bytes"),
  doubleData: many(10, "double"),
  uint64Data: many(11, "uint64"),
  docString: one(12, "string"),
  externalData: many(13, () => ENTRY),
  dataLocation: one(14, "int32"),
  metadataProps: many(16, () => ENTRY),
});
const SPARSE: Message<object> = message({
  values: one(1, () => TENSOR),
  indices: one(2, () => TENSOR),
  dims: many(3, "int64"),
});
export const ATTRIBUTE: Message<IAttributeProto> = message({
  name: one(1, "string"),
  f: one(2, "float"),
  i: one(3, "int64"),
  s: one(4, "bytes"),
  t: one(5, () => TENSOR),
  g: one(6, () => GRAPH),
  floats: many(7, "float"),
  ints: many(8, "int64"),
  strings: many(9, "bytes"),
  tensors: many(10, () => TENSOR),
  graphs: many(11, () => GRAPH),
  docString: one(13, "string"),
  tp: one(14, () => TYPE),
  typeProtos: many(15, () => TYPE),
  type: one(20, "int32"),
  refAttrName: one(21, "string"),
  sparseTensor: one(22, () => SPARSE),
  sparseTensors: many(23, () => SPARSE),
});
export const NODE: Message<INodeProto> = message({
  input: many(1, "string"),
  output: many(2, "string"),
  name: one(3, "string"),
  opType: one(4, "string"),
  attribute: many(5, () => ATTRIBUTE),
  docString: one(6, "string"),
  domain: one(7, "string"),
  overload: { ...one(8, "string"), refusedAs: "a call to an overloaded function" },
  metadataProps: many(9, () => ENTRY),
  deviceConfigurations: many(10, () => OPAQUE),
});
const ANNOTATION: Message<object> = message({
  tensorName: one(1, "string"),
  quantParameterTensorNames: many(2, () => ENTRY),
});
export const GRAPH: Message<IGraphProto> = message({
  node: many(1, () => NODE),
  name: one(2, "string"),
  initializer: many(5, () => TENSOR),
  docString: one(10, "string"),
  input: many(11, () => VALUE),
  output: many(12, () => VALUE),
  valueInfo: many(13, () => VALUE),
  quantizationAnnotation: many(14, () => ANNOTATION),
  sparseInitializer: many(15, () => SPARSE),
  metadataProps: many(16, () => ENTRY),
});
const TRAINING: Message<object> = message({
  initialization: one(1, () => GRAPH),
  algorithm: one(2, () => GRAPH),
  initializationBinding: many(3, () => ENTRY),
  updateBinding: many(4, () => ENTRY),
});
const OPSET: Message<IOperatorSetIdProto> = message({ domain: one(1, "string"), version: one(2, "int64") });
export const FUNCTION: Message<IFunctionProto, "attributeProto"> = message({
  name: one(1, "string"),
  sinceVersion: one(2, "int64"),
  status: one(3, "int32"),
  input: many(4, "string"),
  output: many(5, "string"),
  attribute: many(6, "string"),
  node: many(7, () => NODE),
  docString: one(8, "string"),
  opsetImport: many(9, () => OPSET),
  domain: one(10, "string"),
  attributeProto: many(11, () => ATTRIBUTE),
  valueInfo: many(12, () => VALUE),
  overload: { ...one(13, "string"), refusedAs: "an overloaded function" },
  metadataProps: many(14, () => ENTRY),
});
export const MODEL: Message<IModelProto> = message({
  irVersion: one(1, "int64"),
  producerName: one(2, "string"),
  producerVersion: one(3, "string"),
  domain: one(4, "string"),
  modelVersion: one(5, "int64"),
  docString: one(6, "string"),
  graph: many(7, () => GRAPH),
  opsetImport: many(8, () => OPSET),
  metadataProps: many(14, () => ENTRY),
  trainingInfo: many(20, () => TRAINING),
  functions: many(25, () => FUNCTION),
  configuration: many(26, () => OPAQUE),
});
