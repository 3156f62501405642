import { describe, expect, it } from "vitest";
import { expand, VARIANT_NAMES, variant } from "../../../src/arch/index.js";
import { nodeName } from "../../../src/convert/export/tfjs-names.js";

describe("node names", () => {
  it.each(VARIANT_NAMES)("%s: legal in TensorFlow, different, and back to the layer's", (name) => {
    const layers = expand(variant(name)).nodes.map((node) => node.name);
    const nodes = layers.map(nodeName);
    expect(new Set(nodes).size).toBe(layers.length);
    expect(nodes.filter((node) => !/^[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*$/.test(node))).toEqual([]);
    expect(nodes.map((node) => node.replaceAll(/-(\d+)(?=\.|$)/g, "[$1]"))).toEqual(layers);
  });

  it("spell a gate's stream with a hyphen", () => {
    expect(nodeName("conv2.0.gate[1].fc1")).toBe("conv2.0.gate-1.fc1");
    expect(nodeName("conv2.0.gate[12]")).toBe("conv2.0.gate-12");
  });
});
