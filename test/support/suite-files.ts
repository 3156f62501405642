import { tinyCheckpoint } from "../mutation/families.js";
import { convert, withTensor, withValues } from "./osnet.js";
import { tinyBytes, tinySpecFile } from "./tiny-file.js";

/** Two models, one conversion of each, and a file of the first. */
export const SUITE: string = `
name: small
defaults: { size: 64x32, batch: 2 }
models:
  trained: { checkpoint: w.pth }
  seeded: { arch: ain.json, seed: 3 }
candidates:
  onnx: { convert: onnx, options: { size: 64x32 } }
  shipped: { file: "{model}.onnx", models: [trained] }
`;

/** What it names, but for the file of the first. */
export const SUITE_FILES: Readonly<Record<string, Uint8Array | string>> = {
  "w.pth": tinyBytes("block"),
  "ain.json": tinySpecFile("ain block"),
};

/** A model with one value of a gate changed. */
export function mutant(): Uint8Array {
  const { graph, stateDict, ...rest } = tinyCheckpoint("block");
  const wrong = withTensor(stateDict, "conv2.0.gate.fc2.bias", (tensor) => withValues(tensor, { 5: 2.5 }));
  return convert({ ...rest, graph, stateDict: wrong });
}
