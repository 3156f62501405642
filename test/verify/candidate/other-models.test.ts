import { describe, expect, it } from "vitest";
import { lowerToOnnx } from "../../../src/convert/export/onnx.js";
import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import type { NamedBytes } from "../../../src/core/bytes.js";
import { isDType } from "../../../src/core/tensor-cast.js";
import { openVerification } from "../../../src/verify/open.js";
import { renderReport } from "../../../src/verify/reports/index.js";
import { verify } from "../../../src/verify/verify.js";
import { multiplied, type OnnxEdit } from "../../mutation/onnx-edits.js";
import { SMALL, withTensor } from "../../support/osnet.js";
import { graph, judged, stateDict, written } from "./block-network.js";

/** Models as the reference, or as the source of a candidate. */

/** The same function as another exporter folds it: constants a unit in the last place away. */
const otherwiseRounded: OnnxEdit = (model: OnnxModel) => ({
  ...model,
  graph: {
    ...model.graph,
    initializers: new Map(
      [...model.graph.initializers].map(([name, tensor]) => {
        if (!isDType(tensor, "float32") || !name.includes("folded")) return [name, tensor];
        const data = tensor.data.map((value, i) => (i % 3 === 0 ? value * (1 + 2 ** -23) : value));
        return [name, { ...tensor, data }];
      }),
    ),
  },
});

describe("a model as the reference", () => {
  const reference = { ...written(otherwiseRounded, { names: true }), name: "r.onnx" };

  it("may have folded batch norms with other roundings", async () => {
    expect(reference.bytes).not.toEqual(written(undefined, { names: true }).bytes);
    for (const form of [{}, { names: true }]) {
      const report = await verify(await openVerification(written(undefined, form), reference));
      expect(report.faults, JSON.stringify(form)).toEqual([]);
    }
  });

  it("is not called a checkpoint", async () => {
    const report = await verify(await openVerification(written(), reference));
    expect(await renderReport(report, "xml")).toContain("constants agree with the reference&#39;s");
  });

  it("fixes the size of images that the candidate leaves open", async () => {
    const open = written(undefined, { size: "dynamic" });
    expect((await openVerification(open, reference)).images.shape.slice(2)).toEqual([64, 32]);
  });

  it("that takes no image of the candidate's is refused in a sentence", async () => {
    const large = written(undefined, { size: { height: 128, width: 64 } });
    await expect(openVerification(large, reference)).rejects.toMatchObject({
      problem: { code: "argument", found: expect.stringContaining("64, 32") },
    });
  });
});

describe("a model that was made from another one", () => {
  it("has that one's own outputs, image by image where it takes one", async () => {
    const source = written(undefined, { names: true, batch: 1 });
    const report = await judged(written(), { source });
    expect(report.faults).toEqual([]);
  });

  it("or is at fault, whatever its weights are", async () => {
    const source = written((model) => multiplied("conv2.0", 1.1)(model), { names: true });
    const { passed, faults } = await judged(written(), { source });
    expect(passed).toBe(false);
    expect(faults[0]?.explanation).toContain("of the model that it was made from");
  });

  /** A model whose embedding is as many times as large, in a precision. */
  function scaledSource(factor: number, dtype: "float16" | "float32"): NamedBytes {
    const scaled = ["fc.1.weight", "fc.1.bias"].reduce(
      (weights, path) =>
        withTensor(weights, path, ({ shape, data }) => ({
          dtype: "float32",
          shape,
          data: Float32Array.from(data as Float32Array, (value) => factor * value),
        })),
      stateDict,
    );
    return {
      name: "source.onnx",
      bytes: encodeOnnx(lowerToOnnx(graph, scaled, { size: SMALL, dtype })),
    };
  }

  it("in half precision is met within 1/16 of its largest output, in single precision within 1e-3", async () => {
    const outcome = async (factor: number, dtype: "float16" | "float32") =>
      (await judged(written(), { source: scaledSource(factor, dtype) })).faults.map(({ layer }) => layer);
    expect(await outcome(1.05, "float16")).toEqual([]);
    expect(await outcome(1.08, "float16")).toEqual(["fc.2"]);
    expect(await outcome(1.0005, "float32")).toEqual([]);
    expect(await outcome(1.05, "float32")).toEqual(["fc.2"]);
  });
});
