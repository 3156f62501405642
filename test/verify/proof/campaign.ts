import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import type { Checkpoint } from "../../../src/convert/open/checkpoint.js";
import { InputError } from "../../../src/core/errors.js";
import { mulberry32 } from "../../../src/core/functions.js";
import { type Finding, proveDocument } from "../../../src/verify/proof/index.js";
import { edit, randomOf } from "./edits.js";
import { difference } from "./settle.js";

/** A file that is proven, with the checkpoint that it is proven against. */
export interface Seed {
  readonly name: string;
  readonly open: () => { readonly model: OnnxModel; readonly checkpoint: Checkpoint };
}

export interface Outcome {
  readonly edits: number;
  /** Edits that the proof did not survive. */
  readonly refused: number;
  /** Edits after which the file is proven, and gives what it gave. */
  readonly same: number;
  /** Edits after which the file is proven, and gives something else. */
  readonly wrong: readonly string[];
  /** What was changed where the proof stayed. */
  readonly kept: readonly string[];
}

/** What the proof says of a file, as its bytes are read; a file that is not read is refused. */
function proved(model: OnnxModel, { graph, stateDict }: Checkpoint): Finding | string {
  try {
    const read = decodeOnnx(encodeOnnx(model), { subject: "edited.onnx" });
    return proveDocument({ format: "onnx", model: read }, graph, stateDict);
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
}

/** Makes edits of proven files, one each, and settles those that the proof survives. */
export async function campaign(seeds: readonly Seed[], edits: number, seed: number): Promise<Outcome> {
  const kept: string[] = [];
  const wrong: string[] = [];
  for (let index = 0; index < edits; index++) {
    const random = randomOf(mulberry32(seed * 1_000_003 + index));
    const { name, open } = random.pick(seeds);
    const { model, checkpoint } = open();
    const edited = edit(model, random);
    const finding = proved(edited.model, checkpoint);
    const [first] = typeof finding === "string" ? [] : finding.outputs;
    const { features, evaluation } = checkpoint.graph.outputs;
    // What the proof names as another result, or as normalised, is not the function that the file was.
    if (first?.layer !== (checkpoint.graph.outputs[evaluation] ?? features) || first.tail !== undefined)
      continue;
    const label = `${name}, edit ${index}: ${edited.what}`;
    const problem = await difference(model, edited.model);
    if (problem === undefined) kept.push(label);
    else wrong.push(`${label}: ${problem}`);
  }
  return { edits, refused: edits - kept.length - wrong.length, same: kept.length, wrong, kept };
}
