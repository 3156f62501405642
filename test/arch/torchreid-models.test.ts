import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import {
  expand,
  identify,
  multiplyAdds,
  parameterCount,
  parametersOf,
  VARIANT_NAMES,
  variant,
} from "../../src/arch/index.js";
import type { DType, Shape } from "../../src/core/tensor.js";
import { readFixture } from "../fixtures.js";

/** What torchreid says of a model that it built: its state dict in order, and compute_model_complexity at 256×128. */
interface TorchreidModel {
  readonly built: { readonly module?: string; readonly pool?: "avg" | "max" };
  readonly flops: number;
  readonly parameters: number;
  readonly stateDict: readonly (readonly [path: string, shape: Shape, dtype: DType])[];
}

const MODELS: Readonly<Record<string, TorchreidModel>> = JSON.parse(
  gunzipSync(readFixture("torchreid-models.json.gz")).toString(),
);

describe.each(Object.entries(MODELS))("torchreid's %s", (_name, model) => {
  const stateDict = new Map(model.stateDict.map(([path, shape, dtype]) => [path, { shape, dtype }]));
  // Attribute models classify at test time, which their names and shapes do not show.
  const attributes = model.built.module === "attribute" && variant(`osnet_${model.built.pool ?? "avg"}pool`);
  const { graph, spec } = identify(stateDict, attributes ? { spec: attributes } : {});

  it("is identified, and expands to the same state dict in the same order", () => {
    const parameters = parametersOf(graph).map(({ path, shape, dtype }) => [path, shape, dtype]);
    expect(parameters).toEqual(model.stateDict);
    expect(identify(stateDict, { spec }).spec).toEqual(spec);
  });

  it("has torchreid's number of parameters and multiply-adds", () => {
    expect(parameterCount(graph).total).toBe(model.parameters);
    expect(multiplyAdds(graph, [1, 3, 256, 128])).toBe(model.flops);
  });
});

describe("the variant table", () => {
  it.each(VARIANT_NAMES.filter((name) => name in MODELS))(
    "%s expands to torchreid's state dict without looking at it",
    (name) => {
      const parameters = parametersOf(expand(variant(name))).map(({ path, shape, dtype }) => [
        path,
        shape,
        dtype,
      ]);
      expect(parameters).toEqual(MODELS[name]?.stateDict);
    },
  );

  it("covers the nine named models of torchreid", () => {
    expect(VARIANT_NAMES.filter((name) => name in MODELS)).toHaveLength(9);
  });

  // Zhou et al., ICCV 2019, table 6 and torchreid's model zoo: millions of parameters, GFLOPs at 256×128.
  it.each([
    ["osnet_x1_0", 2.2, 978.9],
    ["osnet_x0_75", 1.3, 571.8],
    ["osnet_x0_5", 0.6, 272.9],
    ["osnet_x0_25", 0.2, 82.3],
    ["osnet_ibn_x1_0", 2.2, 978.9],
    ["osnet_ain_x1_0", 2.2, 978.9],
  ] as const)("%s has the paper's %f M parameters and %f M multiply-adds", (name, parameters, work) => {
    const graph = expand(variant(name));
    expect(Number((parameterCount(graph).embedding / 1e6).toFixed(1))).toBe(parameters);
    expect(Number((multiplyAdds(graph, [1, 3, 256, 128]) / 1e6).toFixed(1))).toBe(work);
  });
});
