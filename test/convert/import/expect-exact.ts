import { expect } from "vitest";
import type { LayerGraph } from "../../../src/arch/index.js";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import { matchGraph } from "../../../src/convert/import/match.js";
import { liftStateDict } from "../../../src/convert/open/lift.js";
import type { StateDict } from "../../../src/core/tensor.js";
import { anonymous } from "./graphs.js";

/** That a model without any names is the network, and gives back all of its weights bit for bit. */
export function expectExact(model: OnnxModel, graph: LayerGraph, weights: StateDict): void {
  const subject = "theirs.onnx";
  const match = matchGraph(anonymous(model), { subject, graph });
  expect(match.differences).toEqual([]);
  const { stateDict, reparameterised } = liftStateDict(match, { subject });
  expect(reparameterised).toEqual([]);
  for (const [path, tensor] of stateDict) expect(tensor, path).toEqual(weights.get(path));
}
