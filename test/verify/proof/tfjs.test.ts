import { describe, expect, it } from "vitest";
import { lowerToTfjs } from "../../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../../src/convert/export/tfjs-layers-model.js";
import { decodeTfjs, encodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import type { TfjsAttribute, TfjsModel } from "../../../src/convert/formats/tfjs/model.js";
import type { Checkpoint } from "../../../src/convert/open/checkpoint.js";
import { type Finding, proveDocument } from "../../../src/verify/proof/index.js";
import { FAMILIES, missing } from "../../fixtures.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { checkpointOf } from "./seeds.js";

/** Of a model, through the bytes of its files. */
function proved(model: TfjsModel, { graph, stateDict }: Checkpoint): Finding | string {
  const read = decodeTfjs(encodeTfjs(model), { subject: "model.json" });
  return proveDocument({ format: "tfjs", model: read }, graph, stateDict);
}

const size = { height: 64, width: 32 };

describe("the proof of a TensorFlow.js model", () => {
  describe.each(FAMILIES)("of %s", (family) => {
    it
      .skipIf(missing(`${family}.pth`))
      .each([
        [{}],
        [{ fuse: false, size }],
        [{ fold: false, fuse: false }],
        [{ gates: true, size: "dynamic", preprocess: "rgb" }],
      ] as const)("is found of a graph with %o", (options) => {
      const checkpoint = checkpointOf(`${family}.pth`);
      const finding = proved(lowerToTfjs(checkpoint.graph, checkpoint.stateDict, options), checkpoint);
      expect(finding).toMatchObject({ input: "preprocess" in options ? "rgb" : "normalised" });
    });

    it
      .skipIf(missing(`${family}.pth`))
      .each([[{ size }], [{ fold: false, size }], [{ preprocess: "bgr" }]] as const)(
      "is found of layers with %o",
      (options) => {
        const checkpoint = checkpointOf(`${family}.pth`);
        const finding = proved(
          lowerToTfjsLayers(checkpoint.graph, checkpoint.stateDict, options),
          checkpoint,
        );
        expect(finding).toMatchObject({ input: "preprocess" in options ? "bgr" : "normalised" });
      },
    );
  });
});

it.each(["__proto__", "constructor", "valueOf"])("no proof knows an attribute %s", (name) => {
  const checkpoint = tinyCheckpoint("block");
  const { nodes, ...model } = lowerToTfjs(checkpoint.graph, checkpoint.stateDict, { size });
  const given: TfjsAttribute = { type: "bool", value: false };
  const changed = nodes.map((node) =>
    node.op === "Relu" || node.op === "_FusedConv2D"
      ? { ...node, attributes: new Map([...node.attributes, [name, given]]) }
      : node,
  );
  expect(proved({ ...model, nodes: changed }, checkpoint)).toMatch(/Relu|_FusedConv2D/);
});
