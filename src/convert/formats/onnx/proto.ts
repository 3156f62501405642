/**
 * The messages of onnx.proto3 as protobufjs decodes them. Declared here and not taken from `onnx-proto`, whose
 * declarations do not compile by themselves and would reach those who use this package; and loading that package takes
 * 30 ms and 10 MB, a sixth of a whole conversion, which only reading needs.
 */

/** How protobufjs gives an int64: a number, or the two halves of one. */
export type Int64 = number | { readonly low: number; readonly high: number };

/** A field of a message; one that the file does not have may be null. */
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
  /** Names of the attributes that a call gives. */
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
