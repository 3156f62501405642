import { describe, expect, it } from "vitest";
import { lowerToOnnx, type OnnxOptions } from "../../../src/convert/export/onnx.js";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import {
  int,
  ints,
  type OnnxAttribute,
  type OnnxModel,
  onnxNode,
} from "../../../src/convert/formats/onnx/model.js";
import { matchGraph } from "../../../src/convert/import/match.js";
import type { Checkpoint } from "../../../src/convert/open/checkpoint.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { type Finding, proveDocument } from "../../../src/verify/proof/index.js";
import { FAMILIES, missing, readFixture } from "../../fixtures.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { followed, wholes } from "../../mutation/onnx-edits.js";
import { checkpointOf, EXPORTED } from "./seeds.js";

function proved(model: OnnxModel, { graph, stateDict }: Checkpoint): Finding | string {
  return proveDocument({ format: "onnx", model }, graph, stateDict);
}

/** A model of ours, through the bytes of its file. */
function written(checkpoint: Checkpoint, options: OnnxOptions): OnnxModel {
  return decodeOnnx(encodeOnnx(lowerToOnnx(checkpoint.graph, checkpoint.stateDict, options)), {
    subject: "m",
  });
}

describe("the proof of an ONNX file", () => {
  describe.each(FAMILIES)("of %s", (family) => {
    it
      .skipIf(missing(`${family}.pth`))
      .each([
        [{}],
        [{ fold: false }],
        [{ opset: 11, gates: true }],
        [{ opset: 18, fold: false, batch: 1 }],
        [{ opset: 26, preprocess: "bgr" }],
      ] as const)("is found with options %o", (options) => {
      const checkpoint = checkpointOf(`${family}.pth`);
      const finding = proved(written(checkpoint, options), checkpoint);
      expect(finding).toMatchObject({ input: "preprocess" in options ? "bgr" : "normalised" });
    });
  });

  it.skipIf(missing("cases/soundness/honest.onnx")).each(EXPORTED.filter((files) => !missing(...files)))(
    "is found of PyTorch's %s",
    (file, weights) => {
      const model = decodeOnnx(readFixture(file), { subject: file });
      expect(proved(model, checkpointOf(weights))).toMatchObject({
        input: "normalised",
        outputs: [{ layer: "fc.2" }],
      });
    },
  );

  it.skipIf(missing("cases/soundness/honest.onnx")).each([
    ["tail_times_two", "Mul"],
    ["tail_reversed_channels", "Gather"],
    ["tail_batch_mean", "ReduceMean"],
    ["input_times_two", "Mul"],
    ["first_output_is_another", "Mul"],
    ["if_on_truncated_cast", "If"],
    ["dead_gate_requantised", "DequantizeLinear"],
    ["stream_added_twice", "5 terms"],
  ])("is refused to %s, which names %s", (name, operator) => {
    const weights = name.startsWith("dead") ? "cases/soundness/dead_gate.pth" : "osnet_x0_25.pth";
    const file = `cases/soundness/${name}.onnx`;
    const finding = proved(decodeOnnx(readFixture(file), { subject: file }), checkpointOf(weights));
    expect(finding).toContain(operator);
  });

  it("is found for a norm with a floor as a Clip without maximum, however that is omitted", () => {
    const checkpoint = checkpointOf("osnet_x0_25.pth");
    const least: Tensor = { dtype: "float32", shape: [], data: Float32Array.of(1e-12) };
    const tail = (clip: readonly string[]): OnnxModel =>
      followed(
        "features",
        (before) => [
          onnxNode("norm", "ReduceL2", [before], { axes: ints(1) }),
          onnxNode("clipped", "Clip", ["norm", ...clip]),
          onnxNode("features", "Div", [before, "clipped"]),
        ],
        { least },
      )(written(checkpoint, { opset: 17 }));
    for (const clip of [["least"], ["least", ""]])
      expect(proved(tail(clip), checkpoint)).toMatchObject({ outputs: [{ layer: "fc.2" }] });
    for (const clip of [
      ["", "least"],
      ["least", "least"],
      ["", ""],
      ["least", "", ""],
    ])
      expect(proved(tail(clip), checkpoint)).toBeTypeOf("string");
  });

  it("is found for a norm repeated to as many rows as there are images, as torch.nn.functional.normalize exports", () => {
    const checkpoint = tinyCheckpoint("block");
    const images: Readonly<Record<string, OnnxAttribute>> = { start: int(0), end: int(1) };
    const tail = (parts: readonly string[], attributes = images): OnnxModel =>
      followed(
        "features",
        (before) => [
          onnxNode("norm", "ReduceL2", [before], { axes: ints(1) }),
          onnxNode("rows", "Shape", ["images"], attributes),
          onnxNode("shape", "Concat", parts, { axis: int(0) }),
          onnxNode("repeated", "Expand", ["norm", "shape"]),
          onnxNode("features", "Div", [before, "repeated"]),
        ],
        { width: wholes(512), one: wholes(1), two: wholes(2) },
      )(written(checkpoint, { opset: 17 }));
    expect(proved(tail(["rows", "width"]), checkpoint)).toMatchObject({
      outputs: [{ layer: "fc.2", tail: "L2-normalised" }],
    });
    for (const wrong of [
      tail(["width", "rows"]),
      tail(["two", "width"]),
      tail(["one", "rows", "width"]),
      tail(["rows", "width"], { start: int(1), end: int(2) }),
      tail(["rows", "width"], { end: int(2) }),
      tail(["rows", "width"], { start: int(0) }),
    ])
      expect(proved(wrong, checkpoint)).toBeTypeOf("string");
  });

  it("is found for groups of one channel as instance norms, and not for larger ones", () => {
    const checkpoint = tinyCheckpoint("ain");
    const grouped = (perGroup: number): OnnxModel => {
      const model = written(checkpoint, { opset: 21 });
      const nodes = model.graph.nodes.map((node) => {
        const channels = model.graph.initializers.get(node.inputs[1] ?? "")?.data.length ?? 0;
        return node.opType === "InstanceNormalization"
          ? {
              ...node,
              opType: "GroupNormalization",
              attributes: new Map(node.attributes).set("num_groups", int(channels / perGroup)),
            }
          : node;
      });
      return { ...model, graph: { ...model.graph, nodes } };
    };
    expect(proved(grouped(1), checkpoint)).toMatchObject({ outputs: [{ layer: "fc.2" }] });
    expect(proved(grouped(2), checkpoint)).toContain("groups of several channels");
    const { graph } = checkpoint;
    const differing = (perGroup: number): number =>
      matchGraph(grouped(perGroup), { subject: "m", graph }).differences.length;
    expect([differing(1), differing(2)]).toEqual([
      0,
      graph.nodes.filter(({ op }) => op.kind === "instanceNorm").length,
    ]);
  });
});
