import { describe, expect, it } from "vitest";
import { expand, INPUT_NAME, outputShapes, receptiveFields, variant } from "../../src/arch/index.js";
import { InputError } from "../../src/core/errors.js";

const osnet = expand(variant("osnet_x1_0"));
const ain = expand(variant("osnet_ain_x1_0"));
const ibn = expand(variant("osnet_ibn_x1_0"));
const find = (graph: typeof osnet, name: string) => graph.nodes.find((node) => node.name === name);

describe("expand", () => {
  it("is topological and names every layer once", () => {
    for (const graph of [osnet, ain, ibn]) {
      const seen = new Set<string>();
      for (const node of graph.nodes) {
        for (const input of node.inputs) expect(seen).toContain(input);
        expect(seen).not.toContain(node.name);
        seen.add(node.name);
      }
      for (const [alias, layer] of graph.aliases) {
        expect(seen).toContain(layer);
        expect(seen).not.toContain(alias);
      }
    }
  });

  it("puts every layer into a part of the network", () => {
    expect(osnet.nodes.map(({ part }) => part)).not.toContain(undefined);
    const parts = [
      "conv1.bn",
      "conv2.0.conv1.conv",
      "conv2.0.conv2b.0.bn",
      "conv2.0.gate[2].fc1",
      "conv2.2.0.conv",
    ];
    expect(parts.map((name) => find(osnet, name)?.part)).toEqual([
      "stem",
      "block",
      "stream",
      "gate",
      "transition",
    ]);
    expect(["pool2.1", "conv5.conv", "fc.0", "classifier"].map((name) => find(ain, name)?.part)).toEqual([
      "transition",
      "head",
      "head",
      "head",
    ]);
    for (const { name, part } of osnet.nodes) expect(part === "gate", name).toBe(name.includes(".gate["));
  });

  it("gives 6 × T gates, one set of weights to a block's streams", () => {
    expect(osnet.gates).toHaveLength(24);
    expect(osnet.gates[5]).toEqual({ block: "conv2.1", stream: 2, layer: "conv2.1.gate[2].gate_activation" });
    const weights = [1, 2, 3, 4].map((t) => find(osnet, `conv3.1.gate[${t}].fc1`)?.parameters.weight);
    expect(new Set(weights)).toEqual(new Set(["conv3.1.gate.fc1.weight"]));
  });

  it("gates stream t and adds the streams in order", () => {
    expect(find(osnet, "conv2.0.gate[3]")?.inputs).toEqual([
      "conv2.0.conv2c.2.relu",
      "conv2.0.gate[3].gate_activation",
    ]);
    expect(find(ain, "conv2.0.gate[3]")?.inputs[0]).toBe("conv2.0.conv2.2.layers.2.relu");
    expect(find(osnet, "conv2.0.aggregate")?.inputs).toEqual([1, 2, 3, 4].map((t) => `conv2.0.gate[${t}]`));
    expect(find(osnet, "conv2.0.conv2d.1.conv1")).toMatchObject({ block: "conv2.0", stream: 4 });
  });

  it("puts instance norm where each family has it", () => {
    expect(find(ibn, "conv1.bn")?.op.kind).toBe("instanceNorm");
    expect(find(ibn, "conv2.0.IN")?.inputs).toEqual(["conv2.0.add"]);
    expect(find(ibn, "conv2.0.conv3.bn")?.op.kind).toBe("batchNorm");
    expect(find(ibn, "conv3.0.IN")).toBeUndefined();
    expect(find(ain, "conv2.0.IN")?.inputs).toEqual(["conv2.0.conv3.conv"]);
    expect(find(ain, "conv2.0.conv3.bn")).toBeUndefined();
    expect(find(ain, "conv3.0.IN")).toBeUndefined();
    expect(find(ain, "conv2.0.add")?.inputs).toEqual(["conv2.0.IN", "conv2.0.downsample.bn"]);
  });

  it("names the transition as each dialect does", () => {
    expect(find(osnet, "conv2.2.1")?.op.kind).toBe("avgPool");
    expect(find(ain, "pool2.1")?.op.kind).toBe("avgPool");
    expect(osnet.aliases.get("conv2")).toBe("conv2.2.1");
    expect(ain.aliases.get("conv2")).toBe("conv2.1");
  });

  it("feeds the gate straight to conv3 in a block of one stream", () => {
    const spec = variant("osnet_ain_x1_0");
    const single = expand({
      ...spec,
      stages: spec.stages.map((stage) => ({
        ...stage,
        blocks: stage.blocks.map((b) => ({ ...b, streams: 1 })),
      })),
    });
    expect(find(single, "conv2.0.conv3.conv")?.inputs).toEqual(["conv2.0.gate[1]"]);
  });

  it("lists everything that no network can follow", () => {
    const spec = variant("osnet_x0_25");
    const broken = { ...spec, stem: { ...spec.stem, channels: 0 }, gate: { ...spec.gate, reduction: 64 } };
    try {
      expand(broken);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(InputError);
      expect((error as InputError).details).toContain(
        "stem.channels 0, which is not a positive whole number",
      );
      expect((error as InputError).details.join()).toContain("without a hidden unit");
    }
  });
});

describe("outputShapes", () => {
  const shapes = outputShapes(osnet, [2, 3, 256, 128]);

  it.each([
    [INPUT_NAME, [2, 3, 256, 128]],
    ["conv1.conv", [2, 64, 128, 64]],
    ["maxpool", [2, 64, 64, 32]],
    ["conv2.0.gate[1].fc1", [2, 4, 1, 1]],
    ["conv2.2.1", [2, 256, 32, 16]],
    ["conv4.1", [2, 512, 16, 8]],
    ["global_avgpool", [2, 512, 1, 1]],
    ["fc.2", [2, 512]],
    ["classifier", [2, 1000]],
  ] as const)("%s is %j", (layer, shape) => {
    expect(shapes.get(layer)).toEqual(shape);
  });

  it("refuses images that leave a layer without pixels", () => {
    expect(() => outputShapes(osnet, [1, 3, 7, 3])).toThrow(
      "image size 7x3: found an output of [1, 256, 1, 0] at layer conv2.2.1, expected at least one pixel; use larger images, such as 256x128.",
    );
  });
});

describe("receptiveFields", () => {
  it("is 2t + 1 pixels for stream t of every block (ICCV 2019, section 3.2)", () => {
    for (const { stream, inBlock } of receptiveFields(ain)) expect(inBlock).toBe(2 * stream + 1);
  });

  it("grows through the network in image pixels", () => {
    const fields = receptiveFields(osnet);
    // Stem 7 (stride 2), max-pool 3 (stride 2): 11 pixels, 4 apart; stream t adds 2t of those steps.
    expect(fields.slice(0, 4).map(({ inImage }) => inImage)).toEqual([19, 27, 35, 43]);
    expect(fields).toHaveLength(24);
  });
});
