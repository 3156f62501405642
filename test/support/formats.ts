import type { LayerGraph } from "../../src/arch/index.js";
import { lowerToOnnx } from "../../src/convert/export/onnx.js";
import type { ModelOptions } from "../../src/convert/export/options.js";
import { lowerToTfjs } from "../../src/convert/export/tfjs-graph-model.js";
import { encodeWeights } from "../../src/convert/export/write.js";
import { encodeOnnx } from "../../src/convert/formats/onnx/encode.js";
import type { FileFormat, WeightsFormat } from "../../src/convert/formats/registry.js";
import { encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import { openCheckpoint } from "../../src/convert/open/checkpoint.js";
import { liftCheckpoint } from "../../src/convert/open/lift.js";
import { openModel } from "../../src/convert/open/open-file.js";
import type { StateDict } from "../../src/core/tensor.js";

/** A file of any format: its bytes, and those of the files beside it by name. */
export interface FormatFiles {
  readonly main: Uint8Array;
  readonly beside: ReadonlyMap<string, Uint8Array>;
}

/** How tests write and read a format, whatever it is; a new format adds a row, and every contract test runs on it. */
interface FormatCase {
  /** A file with all weights of the network, none of them folded. */
  readonly write: (graph: LayerGraph, stateDict: StateDict, options?: ModelOptions) => FormatFiles;
  /** Its state dict; of a file that is damaged, all that a command would read of it. */
  readonly read: (files: FormatFiles, subject: string) => StateDict;
}

/** Everything that the state dict has: the classifier is computed only where the logits are an output. */
const UNFOLDED = { fold: false, output: "both", size: { height: 64, width: 32 } } as const;

const weights = (format: WeightsFormat): FormatCase => ({
  write: (_, stateDict) => ({ main: encodeWeights(stateDict, format, { subject: "w" }), beside: new Map() }),
  read: ({ main }, subject) => openCheckpoint(main, { subject, format }).stateDict,
});

export const FORMAT_CASES: Readonly<Record<FileFormat, FormatCase>> = {
  pth: weights("pth"),
  safetensors: weights("safetensors"),
  npz: weights("npz"),
  onnx: {
    write: (graph, stateDict, options) => ({
      main: encodeOnnx(lowerToOnnx(graph, stateDict, { ...UNFOLDED, ...options })),
      beside: new Map(),
    }),
    read: ({ main, beside }, name) =>
      liftCheckpoint(openModel("onnx", { name, bytes: main, beside })).stateDict,
  },
  tfjs: {
    write(graph, stateDict, options) {
      const { json, shards } = encodeTfjs(lowerToTfjs(graph, stateDict, { ...UNFOLDED, ...options }));
      return { main: json, beside: shards };
    },
    read: ({ main, beside }, name) =>
      liftCheckpoint(openModel("tfjs", { name, bytes: main, beside })).stateDict,
  },
};

/** Without what counts batches, which models do not store. */
export function parametersIn(stateDict: StateDict): StateDict {
  return new Map([...stateDict].filter(([path]) => !path.endsWith("num_batches_tracked")));
}
