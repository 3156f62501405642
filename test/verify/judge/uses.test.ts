import { expect, it } from "vitest";
import type { Tensor } from "../../../src/core/tensor.js";
import { countedUses } from "../../../src/verify/judge/uses.js";

it("releases numbers after the last use of the last tensor of them", () => {
  const uses = countedUses();
  const released: string[] = [];
  const data = new Float32Array(1);
  const [map, vector]: Tensor<"float32">[] = [
    { dtype: "float32", shape: [1, 1, 1, 1], data },
    { dtype: "float32", shape: [1, 1], data },
  ];
  const other: Tensor<"float32"> = { dtype: "float32", shape: [1], data: new Float32Array(1) };
  if (!map || !vector) throw new Error("no tensors");
  uses.hold(map, undefined);
  uses.keep(map);
  uses.hold(vector, () => released.push("both"));
  uses.hold(other, () => released.push("other"));
  uses.free(vector);
  uses.free(map);
  uses.free(other);
  expect(released).toEqual(["other"]);
  uses.free(map);
  uses.free(map);
  expect(released).toEqual(["other", "both"]);
});
