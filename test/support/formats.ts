import type { LayerGraph } from "../../src/arch/index.js";
import { type Target, write } from "../../src/convert/export/write.js";
import { type FileFormat, isWeightsFormat } from "../../src/convert/formats/registry.js";
import { openCheckpoint } from "../../src/convert/open/checkpoint.js";
import { liftCheckpoint } from "../../src/convert/open/lift.js";
import { openModel } from "../../src/convert/open/open-file.js";
import type { StateDict } from "../../src/core/tensor.js";

/** A file of any format: its bytes, and those of the files beside it by name. */
export interface FormatFiles {
  readonly main: Uint8Array;
  readonly beside: ReadonlyMap<string, Uint8Array>;
}

/** Everything that the state dict has: the classifier is computed only where the logits are an output. */
const UNFOLDED = { fold: false, output: "both", size: { height: 64, width: 32 } } as const;

/** A file with all weights of the network, none of them folded. */
export async function fileOf(
  format: FileFormat,
  graph: LayerGraph,
  stateDict: StateDict,
): Promise<FormatFiles> {
  const source = { name: "w", graph, stateDict, decoded: { metadata: new Map() } };
  const target: Target = isWeightsFormat(format) ? { format } : { ...UNFOLDED, format };
  const { bytes, beside = new Map() } = await write(source, target, "w");
  return { main: bytes, beside };
}

/** Its state dict; of a file that is damaged, all that a command would read of it. */
export function stateDictOf(format: FileFormat, { main, beside }: FormatFiles, name: string): StateDict {
  return isWeightsFormat(format)
    ? openCheckpoint(main, { subject: name, format }).stateDict
    : liftCheckpoint(openModel(format, { name, bytes: main, beside })).stateDict;
}

/** Without what counts batches, which models do not store. */
export function parametersIn(stateDict: StateDict): StateDict {
  return new Map([...stateDict].filter(([path]) => !path.endsWith("num_batches_tracked")));
}
