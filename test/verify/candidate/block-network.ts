import type { LayerGraph } from "../../../src/arch/index.js";
import { lowerToOnnx, type OnnxOptions } from "../../../src/convert/export/onnx.js";
import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import type { Checkpoint } from "../../../src/convert/open/checkpoint.js";
import type { NamedBytes } from "../../../src/core/bytes.js";
import type { StateDict } from "../../../src/core/tensor.js";
import { type OpenOptions, openVerification } from "../../../src/verify/open.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import { withoutNames } from "../../mutation/candidates.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import type { OnnxEdit } from "../../mutation/onnx-edits.js";
import { SMALL } from "../../support/osnet.js";

/** A network of one block, as an ONNX file with edits. */

export const checkpoint: Checkpoint = tinyCheckpoint("block");
export const graph: LayerGraph = checkpoint.graph;
export const stateDict: StateDict = checkpoint.stateDict;

export interface Form extends OnnxOptions {
  readonly names?: boolean;
}

export function written(
  edit: OnnxEdit = (model) => model,
  { names = false, ...options }: Form = {},
): NamedBytes {
  const model = edit(lowerToOnnx(graph, stateDict, { size: SMALL, ...options }));
  return { name: "m.onnx", bytes: encodeOnnx(names ? model : withoutNames(model)) };
}

export async function judged(file: NamedBytes, options: OpenOptions = {}): Promise<ParityReport> {
  return verify(
    await openVerification(file, { name: "w.pth", bytes: new Uint8Array(), checkpoint }, options),
  );
}
