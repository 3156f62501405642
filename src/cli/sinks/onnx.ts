import { lowerToOnnx, type OnnxOptions } from "../../convert/export/onnx.js";
import { kindsOf, type OutputSelection } from "../../convert/export/options.js";
import { encodeOnnx, encodeOnnxFiles } from "../../convert/formats/onnx/encode.js";
import { keptResults } from "../../convert/import/file-outputs.js";
import type { OnnxInterface } from "../../convert/import/onnx-interface.js";
import type { Io } from "../terminal.js";
import { type ModelSinkOptions, paritySink, zerosNote } from "./parity.js";
import type { Sink } from "./sink.js";

/** The options of ONNX files: those of the writer, under the same names. */
export interface OnnxSinkOptions extends ModelSinkOptions, Omit<OnnxOptions, "output"> {
  /** A file whose interface is taken where no option says otherwise. */
  readonly like?: string;
  readonly externalData?: boolean;
}

/** ONNX files, verified layer by layer in onnxruntime against the float64 reference. */
export async function onnxSink(options: OnnxSinkOptions, io: Io): Promise<Sink> {
  const like = options.like === undefined ? undefined : await readInterface(options.like, io);
  const output = outputOf(options.output, like);
  const exported: OnnxOptions = { ...like?.options, ...options, ...(output ? { output } : {}) };
  const hasSidecar = options.externalData ?? like?.externalData ?? false;
  const notes = (like?.notes ?? []).map((note) => `like ${options.like}: ${note}`);
  return {
    ...paritySink(options, io, ({ checkpoint: { graph, stateDict, outputs } }, name, nameBeside) => {
      const model = lowerToOnnx(graph, stateDict, { ...keptResults(outputs), ...exported });
      const all = [...notes, ...zerosNote(model.metadata)];
      if (!hasSidecar) return { bytes: encodeOnnx(model), notes: all };
      const [usual] = sidecarsOf(name);
      const encoded = encodeOnnxFiles(model, usual);
      const sidecar = nameBeside?.(usual, encoded.data) ?? usual;
      // The model names its weight file.
      const { bytes, data } = sidecar === usual ? encoded : encodeOnnxFiles(model, sidecar);
      return { bytes, beside: new Map([[sidecar, data]]), notes: all };
    }),
    ...(hasSidecar ? { beside: sidecarsOf } : {}),
  };
}

/** As torch's exporter calls it. */
function sidecarsOf(name: string): readonly [string] {
  return [`${name}.data`];
}

/** What of another file's interface the user has not said otherwise: of its outputs, the names. */
function outputOf(
  given: OutputSelection | undefined,
  like: OnnxInterface | undefined,
): OnnxOptions["output"] | undefined {
  const theirs = like?.options.output;
  if (given === undefined || theirs === undefined || typeof theirs === "string") return given ?? theirs;
  return kindsOf(given).map((kind) => theirs.find((output) => output.kind === kind) ?? { kind, name: kind });
}

async function readInterface(path: string, io: Io): Promise<OnnxInterface> {
  const { readModel } = await import("../inputs.js");
  const { openOnnxInterface } = await import("../../convert/import/onnx-interface.js");
  return openOnnxInterface(await readModel(path, io));
}
