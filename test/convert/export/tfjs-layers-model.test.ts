import { describe, expect, it } from "vitest";
import { lowerToTfjsLayers, type TfjsLayersOptions } from "../../../src/convert/export/tfjs-layers-model.js";
import { kerasCall } from "../../../src/convert/export/tfjs-names.js";
import { encodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import type { TfjsLayersModel } from "../../../src/convert/formats/tfjs/model.js";
import { InputError } from "../../../src/core/errors.js";
import { GRAPH, graphOf, STATE } from "./graphs.js";

const SIZE = { height: 64, width: 32 } as const;
const lower = (options: TfjsLayersOptions = {}): TfjsLayersModel =>
  lowerToTfjsLayers(GRAPH, STATE, { size: SIZE, ...options });

/** As much of a Keras model as the tests read. */
interface Keras {
  readonly layers: readonly {
    readonly class_name: string;
    readonly name: string;
    readonly config: Readonly<Record<string, unknown>>;
    readonly inbound_nodes: readonly (readonly [string, number, number, object])[][];
  }[];
  readonly output_layers: readonly (readonly [string, number, number])[];
}

function kerasOf({ topology }: TfjsLayersModel): Keras {
  return (topology as unknown as { readonly model_config: { readonly config: Keras } }).model_config.config;
}

function layerOf(model: TfjsLayersModel, name: string): Keras["layers"][number] {
  const layer = kerasOf(model).layers.find((candidate) => candidate.name === name);
  if (!layer) throw new Error(`no ${name}`);
  return layer;
}

describe("lowerToTfjsLayers", () => {
  it("calls a gate's module once per stream, with one copy of its weights", () => {
    const model = lower();
    const { class_name: className, inbound_nodes: calls } = layerOf(model, "conv2.0.gate.fc1");
    expect(className).toBe("Conv2D");
    expect(calls).toEqual([
      [["conv2.0.gate.global_avgpool", 0, 0, {}]],
      [["conv2.0.gate.global_avgpool", 1, 0, {}]],
    ]);
    expect(kerasCall("conv2.0.gate[2].fc1")).toEqual({ layer: "conv2.0.gate.fc1", call: 1 });
    expect(model.weights.get("conv2.0.gate.fc1/kernel")?.tensor.shape).toEqual([1, 1, 8, 2]);
  });

  it("reads only calls that are made before", () => {
    const made = new Map<string, number>();
    for (const { name, inbound_nodes: calls } of kerasOf(lower({ output: "both" })).layers) {
      const inputs = calls.flat().filter(([layer, call]) => (made.get(layer) ?? 0) <= call);
      expect(inputs).toEqual([]);
      made.set(name, Math.max(calls.length, 1));
    }
  });

  it("pads the stem on both sides before it, and a 3×3 convolution as Keras does", () => {
    const model = lower();
    expect(layerOf(model, "conv1.bn-padded").config.padding).toEqual([
      [3, 3],
      [3, 3],
    ]);
    expect(layerOf(model, "conv1.bn").config).toMatchObject({
      padding: "valid",
      strides: [2, 2],
      use_bias: true,
    });
    expect(layerOf(model, "conv2.0.conv2a.bn")).toMatchObject({
      class_name: "DepthwiseConv2D",
      config: { padding: "same", kernel_size: [3, 3] },
    });
  });

  it("spreads an instance norm over a LayerNormalization and a channel-wise affine map", () => {
    const model = lower();
    expect(layerOf(model, "conv2.0.IN-normalized")).toMatchObject({
      class_name: "LayerNormalization",
      config: { axis: [1, 2], epsilon: 1e-5, center: false, scale: false },
    });
    expect(model.weights.get("conv2.0.IN/depthwise_kernel")?.tensor.shape).toEqual([1, 1, 16, 1]);
    expect(model.weights.get("conv2.0.IN/bias")?.tensor.shape).toEqual([16]);
  });

  it("keeps batch norms with fold off", () => {
    const model = lower({ fold: false });
    expect(layerOf(model, "conv1.bn").config).toMatchObject({ epsilon: 1e-5, momentum: 0.9 });
    const names = [...model.weights.keys()].filter((name) => name.startsWith("conv1.bn/"));
    expect(names).toEqual(
      ["gamma", "beta", "moving_mean", "moving_variance"].map((name) => `conv1.bn/${name}`),
    );
  });

  it("returns what is asked for, and the same bytes every time", () => {
    const model = lower({ output: "both", gates: true });
    expect(kerasOf(model).output_layers.slice(0, 4)).toEqual([
      ["fc.2", 0, 0],
      ["classifier", 0, 0],
      ["conv2.0.gate.gate_activation", 0, 0],
      ["conv2.0.gate.gate_activation", 1, 0],
    ]);
    expect(encodeTfjs(lower())).toEqual(encodeTfjs(lower()));
  });

  it("refuses images of any size, and a padded max-pool of negative numbers", () => {
    expect(() => lower({ size: "dynamic" })).toThrow(InputError);
    const pool = graphOf({
      name: "pool",
      op: { kind: "maxPool", kernel: [3, 3], stride: [2, 2], padding: [1, 1] },
      inputs: ["images"],
      parameters: {},
    });
    expect(() => lowerToTfjsLayers(pool, new Map(), { size: SIZE })).toThrow(/no Keras layer/);
  });
});
