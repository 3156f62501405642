import type { NamedBytes } from "../../core/bytes.js";
import { type OnnxOptions, OPSET_RANGE } from "../export/onnx.js";
import { type OnnxDType, RESULT_KINDS, type ResultKind } from "../export/options.js";
import { fedInputs, type OnnxDimension, type OnnxModel, type OnnxValue } from "../formats/onnx/model.js";
import { zerosForAbsent } from "../formats/refusals.js";
import type { GraphMatch } from "../import/match.js";
import { imageShape } from "../import/normalise.js";
import type { Preprocess } from "../import/operators/foreign.js";
import { describePreprocess, pixelOrder } from "../import/preprocess.js";
import { openModel } from "./open-file.js";

/** The interface of an ONNX file, as options for writing another one with the same interface. */
export interface OnnxInterface {
  /** Names, opset, sizes, outputs and gates, as `lowerToOnnx` takes them. */
  readonly options: OnnxOptions;
  /** Whether its weights are in a file beside it. */
  readonly externalData: boolean;
  /** The parts that cannot be reproduced, one clause each. */
  readonly notes: readonly string[];
}

/**
 * Reads the interface of an ONNX file from any exporter; its weight files may be missing.
 *
 * @throws InputError if the file is not an ONNX file (`format`), or not an OSNet (`unsupported`)
 */
export function openOnnxInterface(file: NamedBytes): OnnxInterface {
  const { onnx, match } = openModel("onnx", file, zerosForAbsent());
  return onnxInterface(onnx, match());
}

/** Reads the interface of a matched file: names, opset, batch, size, outputs, folding, types, preprocessing. */
function onnxInterface(model: OnnxModel, match: GraphMatch): OnnxInterface {
  const [oldest, newest] = OPSET_RANGE;
  const opset = Math.max(oldest, Math.min(newest, model.opset));
  const [input] = fedInputs(model.graph);
  const [batch = null, , height = null, width = null] = imageShape(model);
  const { gates } = match.graph;
  const names = new Set(match.outputs.map(({ layer }) => layer));
  const hasGates = gates.length > 0 && gates.every(({ layer }) => names.has(layer));
  const output = resultsOf(match);
  const order = match.preprocess && pixelOrder(match.preprocess);
  return {
    options: {
      opset,
      batch: fixed(batch) ?? "dynamic",
      size: sizeOf(height, width),
      fold: match.absorbed.size > 0,
      ...(input ? { inputName: input.name } : {}),
      ...(output.length > 0 ? { output } : {}),
      ...(hasGates ? { gates: true } : {}),
      dtype: weightsDType(match),
      ioDtype: halfOrFloat(input?.dtype),
      ...(order ? { preprocess: order } : {}),
    },
    externalData: model.sidecars !== undefined || model.missing !== undefined,
    notes: [
      ...(opset === model.opset ? [] : [`opset ${opset}, the nearest to the file's ${model.opset}`]),
      ...(match.preprocess && !order ? [unlikePixels(match.preprocess)] : []),
      ...typeNotes(input, match),
      ...outputNotes(match, hasGates),
    ],
  };
}

function fixed(size: OnnxDimension): number | undefined {
  return typeof size === "number" ? size : undefined;
}

function sizeOf(height: OnnxDimension, width: OnnxDimension): NonNullable<OnnxOptions["size"]> {
  const [rows, columns] = [fixed(height), fixed(width)];
  return rows !== undefined && columns !== undefined ? { height: rows, width: columns } : "dynamic";
}

/** The results among a file's outputs, under the names that they have there. */
function resultsOf({
  graph,
  outputs,
}: GraphMatch): readonly { readonly kind: ResultKind; readonly name: string }[] {
  return outputs.flatMap(({ name, layer }) => {
    const kind = RESULT_KINDS.find((candidate) => graph.outputs[candidate] === layer);
    return kind ? [{ kind, name }] : [];
  });
}

/** The element type of most of its weights. */
function weightsDType({ constants }: GraphMatch): OnnxDType {
  const weights = [...constants.values()].flatMap(({ weight }) => weight ?? []);
  const half = weights.filter(({ dtype }) => dtype === "float16").length;
  return 2 * half > weights.length ? "float16" : "float32";
}

function halfOrFloat(dtype: OnnxValue["dtype"]): OnnxDType {
  return dtype === "float16" ? "float16" : "float32";
}

function unlikePixels(preprocess: Preprocess): string {
  return `its preprocessing is not written: ${describePreprocess(preprocess)}`;
}

function typeNotes(input: OnnxValue | undefined, { roundings }: GraphMatch): readonly string[] {
  const dtype = input?.dtype;
  return [
    ...(dtype === undefined || dtype === "float32" || dtype === "float16"
      ? []
      : [`its input is ${dtype}; the one written is float32`]),
    ...(roundings.size > 0 ? ["its weights are quantised; those written are not"] : []),
  ];
}

function outputNotes({ graph, outputs }: GraphMatch, hasGates: boolean): readonly string[] {
  const { features, logits, probabilities } = graph.outputs;
  const gates = new Set(hasGates ? graph.gates.map(({ layer }) => layer) : []);
  return outputs.flatMap(({ name, layer, tail }) => {
    if (![features, logits, probabilities].includes(layer) && !gates.has(layer))
      return [`its output ${name} is the layer ${layer}, which cannot be written as an output`];
    return tail.length > 0 ? [`${tail.join(", ")} after its output ${name} is not written`] : [];
  });
}
