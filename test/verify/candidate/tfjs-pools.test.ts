import { describe, expect, it } from "vitest";
import { lowerToTfjs } from "../../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../../src/convert/export/tfjs-layers-model.js";
import { encodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import type { TfjsGraphModel, TfjsModel } from "../../../src/convert/formats/tfjs/model.js";
import { openVerification } from "../../../src/verify/open.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import { anonymous } from "../../convert/import/tfjs/models.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { SMALL } from "../../support/osnet.js";

/**
 * Pools of other windows in TensorFlow.js, whose global pools are windows of the size of the map: behind another max pool
 * the map has another size, and they no longer cover it. That is the max pool's fault, and nobody else's.
 */

const TINY = tinyCheckpoint("block");

async function judged(model: TfjsModel, checkpoint = TINY): Promise<ParityReport> {
  const { json, shards } = encodeTfjs(model);
  return verify(
    await openVerification(
      { name: "model.json", bytes: json, beside: shards },
      { name: "w.pth", bytes: new Uint8Array(), checkpoint },
      { backend: "tfjs-wasm" },
    ),
  );
}

type Attribute = NonNullable<ReturnType<TfjsGraphModel["nodes"][number]["attributes"]["get"]>>;

function withAttributes(
  model: TfjsGraphModel,
  layer: string,
  attributes: Readonly<Record<string, Attribute>>,
): TfjsGraphModel {
  const nodes = model.nodes.map((node) =>
    node.name === layer
      ? { ...node, attributes: new Map([...node.attributes, ...Object.entries(attributes)]) }
      : node,
  );
  expect(nodes).not.toEqual(model.nodes);
  return { ...model, nodes };
}

const sizes = (height: number, width: number): Attribute => ({ type: "ints", value: [1, height, width, 1] });
const SAME: Attribute = { type: "string", value: "SAME" };

/** Behind which each operator still runs. */
const WINDOWS: readonly [says: string, attributes: Readonly<Record<string, Attribute>>][] = [
  ["padded twice", { padding: SAME }],
  ["of 2×2 pixels", { ksize: sizes(2, 2) }],
  ["of 2×2 pixels, padded twice", { ksize: sizes(2, 2), padding: SAME }],
  ["of 3×2 pixels", { ksize: sizes(3, 2) }],
];

const FORMS = [
  ["ours", (model: TfjsModel) => model],
  ["another converter's", anonymous],
] as const;

describe.each(FORMS)("a max pool of other windows in a graph model, %s", (_, form) => {
  it.each(WINDOWS)("is one fault at its layer: %s", async (_says, attributes) => {
    const model = lowerToTfjs(TINY.graph, TINY.stateDict, { size: SMALL });
    const { passed, faults } = await judged(form(withAttributes(model, "maxpool", attributes)));
    expect([passed, faults.map(({ layer, kind }) => [layer, kind])]).toEqual([
      false,
      [["maxpool", "structure"]],
    ]);
    expect(faults[0]?.explanation).toMatch(/kernel|padding/);
  });

  it.runIf(form === anonymous)("is one fault in a network of three blocks", async () => {
    const checkpoint = tinyCheckpoint("osnet");
    const model = lowerToTfjs(checkpoint.graph, checkpoint.stateDict, { size: SMALL });
    const { passed, faults } = await judged(
      form(withAttributes(model, "maxpool", { padding: SAME })),
      checkpoint,
    );
    expect([passed, faults.map(({ layer }) => layer)]).toEqual([false, ["maxpool"]]);
  });
});

describe.each(FORMS)("a max pool of other windows in a layers model, %s", (_, form) => {
  it.each([
    ["padded twice", { padding: "same" }],
    ["of 2×2 pixels", { pool_size: [2, 2] }],
    ["of single pixels", { pool_size: [1, 1] }],
  ])("is one fault at its layer: %s", async (_says, config) => {
    const model = lowerToTfjsLayers(TINY.graph, TINY.stateDict, { size: SMALL });
    let pools = 0;
    const topology = JSON.parse(JSON.stringify(model.topology), (_key, value) => {
      if (value?.class_name !== "MaxPooling2D") return value;
      pools++;
      return { ...value, config: { ...value.config, ...config } };
    });
    expect(pools).toBe(1);
    const { passed, faults } = await judged(form({ ...model, topology }));
    expect([passed, faults.map(({ layer }) => layer)]).toEqual([false, ["maxpool"]]);
  });
});

describe.each(FORMS)("another activation before the max pool of a layers model, %s", (_, form) => {
  it.each(["relu6", "softplus"])("is one fault at its layer: %s", async (activation) => {
    const model = lowerToTfjsLayers(TINY.graph, TINY.stateDict, { size: SMALL });
    const topology = JSON.parse(JSON.stringify(model.topology), (_key, value) =>
      value?.config?.name === "conv1.relu" ? { ...value, config: { ...value.config, activation } } : value,
    );
    expect(topology).not.toEqual(model.topology);
    const { passed, faults } = await judged(form({ ...model, topology }));
    expect([passed, faults.map(({ layer }) => layer)]).toEqual([false, ["conv1.relu"]]);
    expect(faults[0]?.explanation).not.toContain("axes");
  });
});

describe.each(FORMS)("a window that does not cover the map, %s", (_, form) => {
  /** The last pool leaves the last column out; its strides are such that one pixel is left of the map all the same. */
  function withoutColumn(): TfjsGraphModel {
    const model = lowerToTfjs(TINY.graph, TINY.stateDict, { size: SMALL });
    const last = model.nodes.findLast(({ op }) => op === "AvgPool");
    return withAttributes(model, last?.name ?? "", { ksize: sizes(1, 3) });
  }

  it("is a fault of its own", async () => {
    const { passed, faults } = await judged(form(withoutColumn()));
    expect([passed, faults.map(({ layer }) => layer)]).toEqual([false, ["global_avgpool"]]);
  });

  it("is one beside the fault of a max pool", async () => {
    const { passed, faults } = await judged(
      form(withAttributes(withoutColumn(), "maxpool", { padding: SAME })),
    );
    expect([passed, faults.map(({ layer }) => layer)]).toEqual([false, ["maxpool", "global_avgpool"]]);
  });
});

describe("a model that WebAssembly would not run", () => {
  it("fails at the replaced layer, and does not affect later models", async () => {
    const model = lowerToTfjs(TINY.graph, TINY.stateDict, { size: SMALL });
    // Behind it the map is smaller than the windows of the gates.
    const small = withAttributes(model, "maxpool", { ksize: sizes(5, 5) });
    for (const [, form] of FORMS)
      expect(await judged(form(small))).toMatchObject({
        passed: false,
        layers: [],
        output: null,
        proof: { status: "sampled" },
        faults: [{ layer: "maxpool", explanation: "found kernel [5, 5], expected kernel [3, 3]" }],
        warnings: [
          expect.stringMatching(/^no value was compared: found a window that is larger than its map/),
        ],
      });
    expect(await judged(model)).toMatchObject({ passed: true, faults: [] });
  });

  it("is one fault where a convolution without padding makes a map that the gate's window does not fit", async () => {
    const model = lowerToTfjs(TINY.graph, TINY.stateDict, { size: SMALL });
    const depthwise = model.nodes.find(({ op }) => op === "FusedDepthwiseConv2dNative")?.name ?? "";
    const padding: Attribute = { type: "string", value: "VALID" };
    const { passed, faults } = await judged(withAttributes(model, depthwise, { padding }));
    expect({ passed, layers: faults.map(({ layer }) => layer) }).toEqual({
      passed: false,
      layers: ["conv2.0.conv2a.conv2"],
    });
    expect(await judged(model)).toMatchObject({ passed: true, faults: [] });
  });
});
