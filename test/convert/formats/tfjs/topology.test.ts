import { describe, expect, it } from "vitest";
import type { LayerCall } from "../../../../src/convert/formats/tfjs/topology.js";
import { layerWeights, readTopology } from "../../../../src/convert/formats/tfjs/topology.js";

const call = (layer: string): LayerCall => ({
  layer,
  className: "Dense",
  config: {},
  value: `${layer}#0`,
  inputs: [],
  hasArguments: false,
});

/** The places of weights of these names in a model with the layers `a`, `a/b` and `c`. */
function placesOf(...names: readonly string[]): readonly string[] {
  const weights = new Map(
    names.map((name, at) => [
      name,
      { tensor: { dtype: "float32", shape: [1], data: Float32Array.of(at) } as const },
    ]),
  );
  const calls = ["a", "a/b", "c"].map(call);
  const found = layerWeights({ format: "layers-model", topology: {}, weights }, calls, "m");
  return [...found]
    .sort(([, { data: one }], [, { data: two }]) => Number(one[0]) - Number(two[0]))
    .map(([name]) => name);
}

describe("the weights of a Keras model", () => {
  it("are found as tfjs finds them", () => {
    const names = ["a/kernel", "a/b/kernel", "c/c/kernel", "ax/kernel", "c/x/y/kernel", "kernel"];
    expect(placesOf(...names)).toEqual(names.toSpliced(2, 1, "c/kernel"));
    expect(placesOf("layers/dense/vars/0", "layers/dense_2/vars/1")).toEqual(["a/kernel", "c/bias"]);
  });

  it.each([
    ["c/kernel", "c/x/kernel"],
    ["c/x/kernel", "c/y/kernel"],
    ["c/kernel", "layers/dense_2/vars/0"],
  ])("are one for each place: not %s and %s", (...names) => {
    expect(() => placesOf(...names)).toThrow(
      `found a second weight ${JSON.stringify(names[1])} for "c/kernel"`,
    );
  });
});

describe("the order of layers", () => {
  const layer = (name: string, className: string, config: object, inputs: readonly string[]): object => ({
    name,
    class_name: className,
    config: { name, ...config },
    inbound_nodes: inputs.length === 0 ? [] : [inputs.map((input) => [input, 0, 0, {}])],
  });
  const read = (turn: (layers: readonly object[]) => readonly object[]): unknown => {
    const images = layer("images", "InputLayer", { batch_input_shape: [null, 2] }, []);
    const chain = Array.from({ length: 400 }, (_, at) =>
      layer(`l${at}`, "Activation", { activation: "linear" }, [at === 0 ? "images" : `l${at - 1}`]),
    );
    const config = {
      name: "m",
      layers: [images, ...turn(chain)],
      input_layers: [["images", 0, 0]],
      output_layers: [["l399", 0, 0]],
    };
    const topology = { model_config: { class_name: "Functional", config } } as never;
    return readTopology({ format: "layers-model", topology, weights: new Map() }, "m");
  };

  it("is nearly that in which tfjs computes them, which else goes through all of them for each", () => {
    expect(() => read((chain) => chain)).not.toThrow();
    expect(() => read((chain) => chain.toReversed())).toThrow(
      "401 layers that tfjs has to go through 400 times",
    );
  });
});
