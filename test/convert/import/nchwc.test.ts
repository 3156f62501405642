import { describe, expect, it } from "vitest";
import { lowerToOnnx } from "../../../src/convert/export/onnx.js";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import { matchGraph } from "../../../src/convert/import/match.js";
import { fromBlocks } from "../../../src/convert/import/nchwc.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { TINY_FAMILIES, tinyCheckpoint } from "../../mutation/families.js";
import { SMALL } from "../../support/osnet.js";
import { anonymous, dropNode, withNodes } from "./graphs.js";
import { inBlocks } from "./in-blocks.js";

/** Channels in blocks, as onnxruntime's optimiser writes them for processors of both kinds. */

function plain(family: (typeof TINY_FAMILIES)[number]): OnnxModel {
  const { graph, stateDict } = tinyCheckpoint(family);
  return anonymous(lowerToOnnx(graph, stateDict, { size: SMALL }));
}

describe.each([8, 16] as const)("blocks of %i channels", (size) => {
  it.each(TINY_FAMILIES)("are read: %s", (family) => {
    const model = plain(family);
    const { graph } = tinyCheckpoint(family);
    const options = { subject: "m.onnx", graph };
    const [wanted, found] = [matchGraph(model, options), matchGraph(inBlocks(model, size), options)];
    expect(found.differences).toEqual([]);
    expect(found.constants).toEqual(wanted.constants);
    const sizes = [...found.readings.values()].flatMap(({ blocks }) => blocks?.size ?? []);
    expect(new Set(sizes)).toEqual(new Set([size]));
  });
});

describe("a graph in blocks", () => {
  const blocked = inBlocks(plain("osnet"), 8);
  const { graph } = tinyCheckpoint("osnet");
  const differencesOf = (model: OnnxModel): readonly string[] =>
    matchGraph(model, { subject: "m.onnx", graph }).differences.map(
      ({ layer, found }) => `${layer}: ${found}`,
    );

  it("without a reordering to blocks is a difference where its result is read", () => {
    const node = blocked.graph.nodes.find(({ opType }) => opType === "ReorderInput");
    expect(differencesOf(dropNode(blocked, node?.outputs[0] ?? ""))).toEqual([
      expect.stringMatching(/^conv2\.0\.\S+: .*channels read as blocks of 8/),
    ]);
  });

  it("that may be of 8 or 16 channels is refused", () => {
    const pools = withNodes(plain("osnet"), (nodes) =>
      nodes.map((node) => (node.opType === "MaxPool" ? { ...node, domain: "com.microsoft.nchwc" } : node)),
    );
    expect(() => matchGraph(pools, { subject: "m.onnx", graph })).toThrow(
      "whose size (8 or 16) cannot be inferred",
    );
  });
});

describe("a value in blocks", () => {
  it("has the channels that are meant, in their order", () => {
    const data = Float32Array.from({ length: 32 }, (_, index) => index);
    const tensor: Tensor<"float32"> = { dtype: "float32", shape: [1, 16, 1, 2], data };
    const { shape, data: read } = fromBlocks(tensor, { size: 8, channels: 10 });
    expect(shape).toEqual([1, 10, 1, 2]);
    expect([...read]).toEqual([0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15, 16, 24, 17, 25]);
    expect(fromBlocks({ ...tensor, shape: [1, 2, 1, 2, 8] }, { size: 8, channels: 10 }).data).toEqual(read);
  });
});
