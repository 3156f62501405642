import { lowerToTfjs, lowerToTfjsLayers } from "../../convert/export/tfjs/index.js";
import { encodeTfjs } from "../../convert/formats/tfjs/codec.js";
import type { QuantizedDType } from "../../convert/formats/tfjs/model.js";
import { InputError } from "../../core/errors.js";
import { type LoweringOptions, loweringOptions, paritySink } from "./parity.js";
import type { Sink } from "./sink.js";

/** The options of TensorFlow.js models, as commander hands them over. */
export interface TfjsSinkOptions extends LoweringOptions {
  readonly fuse?: boolean;
  readonly tfjsFormat?: string;
  readonly quantize?: QuantizedDType;
}

/** TensorFlow.js models, verified layer by layer in tfjs's WebAssembly against the float64 reference. */
export function tfjsSink(options: TfjsSinkOptions): Sink {
  const { quantize } = options;
  const lowering = { ...loweringOptions(options), ...(quantize ? { quantize } : {}) };
  const isGraph = isGraphFormat(options);
  return paritySink(options, ({ checkpoint: { graph, stateDict } }) => {
    const model = isGraph
      ? lowerToTfjs(graph, stateDict, { ...lowering, fuse: options.fuse ?? true })
      : lowerToTfjsLayers(graph, stateDict, lowering);
    const { json, shards } = encodeTfjs(model);
    return { bytes: json, shards, notes: [] };
  });
}

/** Keras layers have no names for inputs and outputs, and nothing to fuse. */
const GRAPH_OPTIONS = {
  inputName: "--input-name",
  outputName: "--output-name",
} as const satisfies Partial<Record<keyof TfjsSinkOptions, string>>;

/** @throws InputError (`argument`) if the format is unknown, or has not all that is asked of it */
function isGraphFormat(options: TfjsSinkOptions): boolean {
  const { tfjsFormat = "graph", fuse = true } = options;
  if (tfjsFormat === "graph") return true;
  if (tfjsFormat !== "layers")
    throw badOption("--tfjs-format", JSON.stringify(tfjsFormat), "graph or layers", "choose one of them");
  const surplus = Object.entries(GRAPH_OPTIONS).find(
    ([key]) => options[key as keyof typeof GRAPH_OPTIONS] !== undefined,
  );
  const [, flag] = surplus ?? (fuse ? [] : ["fuse", "--no-fuse"]);
  if (flag !== undefined)
    throw badOption(flag, "a layers model", "a graph model, which has it", "leave one of the two out");
  return false;
}

function badOption(subject: string, found: string, expected: string, remedy: string): InputError {
  return new InputError({ code: "argument", subject, found, expected, remedy });
}
