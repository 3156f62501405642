import { fixturePath } from "../fixtures.js";
import { convert, openFixture, withTensor, withValues } from "./osnet.js";

export const CHECKPOINT: string = fixturePath("osnet_x0_25.pth") ?? "";

/** Two models, one conversion of each, and a file of the first. */
export const SUITE: string = `
name: small
defaults: { size: 64x32, batch: 2 }
models:
  trained: { checkpoint: ${JSON.stringify(CHECKPOINT)} }
  seeded: { arch: osnet_ain_x0_25, seed: 3 }
candidates:
  onnx: { convert: onnx, options: { size: 64x32 } }
  shipped: { file: "{model}.onnx", models: [trained] }
`;

/** A model with one value of a gate changed. */
export function mutant(): Uint8Array {
  const { graph, stateDict, ...rest } = openFixture();
  const wrong = withTensor(stateDict, "conv3.0.gate.fc2.bias", (tensor) => withValues(tensor, { 5: 2.5 }));
  return convert({ ...rest, graph, stateDict: wrong });
}
