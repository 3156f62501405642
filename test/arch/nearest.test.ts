import { describe, expect, it } from "vitest";
import {
  type BlockSpec,
  describeNetwork,
  nearestVariant,
  type OsnetSpec,
  VARIANT_NAMES,
  variant,
} from "../../src/arch/index.js";

const SMALL = variant("osnet_x0_25");

/** A spec with every block of one stage, or of all, changed. */
function withBlocks(spec: OsnetSpec, change: Partial<BlockSpec>, stage?: number): OsnetSpec {
  return {
    ...spec,
    stages: spec.stages.map((entry, index) =>
      stage === undefined || index === stage
        ? { ...entry, blocks: entry.blocks.map((block) => ({ ...block, ...change })) }
        : entry,
    ),
  };
}

describe("nearestVariant", () => {
  it.each(VARIANT_NAMES)("%s is itself, whatever its embedding and classes", (name) => {
    const spec = variant(name);
    const head = spec.head && { ...spec.head, classes: 7 };
    expect(nearestVariant({ ...spec, embedding: [128, 64], head })).toEqual({
      variant: name,
      differences: [],
    });
  });

  it.each<[string, OsnetSpec]>([
    [
      "osnet_x0_25 with instance norm outside the residual in conv2",
      withBlocks(SMALL, { instanceNorm: "outside" }, 0),
    ],
    [
      "osnet_x0_25 with instance norm in the stem, and instance norm outside the residual in conv2",
      { ...withBlocks(SMALL, { instanceNorm: "outside" }, 0), stem: { channels: 16, norm: "instance" } },
    ],
    ["osnet_x0_25 with 3 streams in every block", withBlocks(SMALL, { streams: 3 })],
    ["osnet_x0_25 with bottleneck reduction 2 in conv4", withBlocks(SMALL, { reduction: 2 }, 2)],
    [
      "osnet_x0_25 with gate reduction 4, and layer norm in the gates",
      { ...SMALL, gate: { reduction: 4, activation: "sigmoid", layerNorm: true } },
    ],
    ["osnet_x0_25 with linear gates", { ...SMALL, gate: { ...SMALL.gate, activation: "linear" } }],
    ["osnet_x0_25 with global max pooling", { ...SMALL, pooling: "max" }],
    [
      "osnet_x0_25 with 1 block in conv4 (not 2)",
      {
        ...SMALL,
        stages: SMALL.stages.map((stage, index) =>
          index === 2 ? { ...stage, blocks: stage.blocks.slice(0, 1) } : stage,
        ),
      },
    ],
    [
      "osnet_x0_25 with channels 16/64/96/160 (not 16/64/96/128)",
      {
        ...SMALL,
        stages: SMALL.stages.map((stage, index) =>
          index === 2
            ? {
                ...stage,
                blocks: stage.blocks.map((block, position) => ({
                  ...block,
                  inChannels: position === 0 ? 96 : 160,
                  outChannels: 160,
                })),
              }
            : stage,
        ),
      },
    ],
  ])("%s", (text, spec) => {
    expect(describeNetwork(spec)).toBe(text);
  });
});
