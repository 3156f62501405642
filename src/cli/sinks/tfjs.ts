import { lowerToTfjs } from "../../convert/export/tfjs/graph-model.js";
import { lowerToTfjsLayers } from "../../convert/export/tfjs/layers-model.js";
import { encodeTfjs } from "../../convert/formats/tfjs/codec.js";
import type { QuantizedDType } from "../../convert/formats/tfjs/model.js";
import { keptResults, withoutNorms } from "../../convert/import/file-outputs.js";
import { badArgument } from "../options.js";
import type { Io } from "../terminal.js";
import { type ModelSinkOptions, paritySink, zerosNote } from "./parity.js";
import type { Sink } from "./sink.js";

/** The options of TensorFlow.js models, as commander hands them over. */
export interface TfjsSinkOptions extends ModelSinkOptions {
  readonly fuse?: boolean;
  readonly tfjsFormat?: "graph" | "layers";
  readonly quantize?: QuantizedDType;
}

/** TensorFlow.js models, verified layer by layer in tfjs's WebAssembly against the float64 reference. */
export function tfjsSink(options: TfjsSinkOptions, io: Io): Sink {
  const isGraph = isGraphFormat(options);
  return paritySink(options, io, ({ checkpoint: { graph, stateDict, outputs } }, _output, nameShard) => {
    const kept = isGraph || !outputs ? outputs : withoutNorms(outputs);
    const all = { ...keptResults(kept), ...options };
    const model = isGraph ? lowerToTfjs(graph, stateDict, all) : lowerToTfjsLayers(graph, stateDict, all);
    const { json, shards } = encodeTfjs(model, nameShard);
    return { bytes: json, beside: shards, notes: zerosNote(new Map(Object.entries(model.metadata ?? {}))) };
  });
}

/** Keras layers have no names for inputs and outputs, and nothing to fuse. */
const GRAPH_OPTIONS = {
  inputName: "--input-name",
  outputName: "--output-name",
} as const satisfies Partial<Record<keyof TfjsSinkOptions, string>>;

/** @throws InputError (`argument`) if the format does not have what is asked of it */
function isGraphFormat(options: TfjsSinkOptions): boolean {
  const { tfjsFormat = "graph", fuse = true } = options;
  if (tfjsFormat === "graph") return true;
  const surplus = Object.entries(GRAPH_OPTIONS).find(
    ([key]) => options[key as keyof typeof GRAPH_OPTIONS] !== undefined,
  );
  const [, flag] = surplus ?? (fuse ? [] : ["fuse", "--no-fuse"]);
  if (flag !== undefined)
    throw badArgument(
      flag,
      "a layers model",
      "a graph model, which has this option",
      "remove one of the two",
    );
  return false;
}
