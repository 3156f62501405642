import { describe, expect, test } from "vitest";
import { InputError } from "../../../src/core/errors.js";
import type { Tensor } from "../../../src/core/tensor.js";
import {
  float64Parameters,
  layerParameters,
  storedParameter,
} from "../../../src/verify/reference/evaluate-layer.js";
import { tensor } from "./random.js";

describe("float64Parameters", () => {
  test("every floating-point type exactly", () => {
    const source = float64Parameters(
      new Map<string, Tensor>([
        ["single", { dtype: "float32", shape: [1], data: Float32Array.of(0.1) }],
        ["half", { dtype: "float16", shape: [3], data: Uint16Array.of(0x3c01, 0x8001, 0x7c00) }],
        ["brain", { dtype: "bfloat16", shape: [2], data: Uint16Array.of(0x3f81, 0xff80) }],
      ]),
    );
    expect([...source("single")]).toEqual([Math.fround(0.1)]);
    expect([...source("half")]).toEqual([1 + 2 ** -10, -(2 ** -24), Number.POSITIVE_INFINITY]);
    expect([...source("brain")]).toEqual([1 + 2 ** -7, Number.NEGATIVE_INFINITY]);
  });

  test("converts a shared parameter once", () => {
    const source = float64Parameters(
      new Map<string, Tensor>([["w", { dtype: "float32", shape: [2], data: Float32Array.of(1, 2) }]]),
    );
    expect(source("w")).toBe(source("w"));
  });

  test("gives what is stored in float32 as it is, for those who only read the numbers", () => {
    const single = Float32Array.of(0.1);
    const half = Uint16Array.of(0x3c01);
    const source = float64Parameters(
      new Map<string, Tensor>([
        ["single", { dtype: "float32", shape: [1], data: single }],
        ["half", { dtype: "float16", shape: [1], data: half }],
      ]),
    );
    expect(storedParameter(source, "single")).toBe(single);
    expect([...storedParameter(source, "half")]).toEqual([1 + 2 ** -10]);
    expect([...storedParameter(() => Float64Array.of(3), "single")]).toEqual([3]);
    expect(() => storedParameter(source, "other")).toThrow(InputError);
  });

  test("names a parameter that is missing", () => {
    expect(() => float64Parameters(new Map())("conv1.conv.weight")).toThrow(
      "conv1.conv.weight: found no such parameter, expected one that the network reads; " +
        "use a complete state dict of this architecture.",
    );
  });
});

describe("layerParameters", () => {
  const source = float64Parameters(new Map([["fc.weight", tensor([2, 3], [1, 2, 3, 4, 5, 6])]]));

  test("by role", () => {
    const op = { ...CONV, inChannels: 3, outChannels: 2 };
    expect(layerParameters(op, { weight: "fc.weight" }, source)).toEqual({
      weight: Float64Array.of(1, 2, 3, 4, 5, 6),
    });
  });

  test("refuses another size", () => {
    const op = { ...CONV, inChannels: 4, outChannels: 2 };
    expect(() => layerParameters(op, { weight: "fc.weight" }, source)).toThrow(
      "fc.weight: found 6 elements, expected [2, 4, 1, 1]; use a state dict of this architecture.",
    );
  });

  test("refuses a node without a path for a role", () => {
    const op = { ...CONV, inChannels: 3, outChannels: 2, bias: true };
    expect(() => layerParameters(op, { weight: "fc.weight" }, source)).toThrow(InputError);
  });
});

const CONV = {
  kind: "conv",
  kernel: [1, 1],
  stride: [1, 1],
  padding: [0, 0],
  groups: 1,
  bias: false,
} as const;
