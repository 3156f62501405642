import { beforeAll, describe, expect, it } from "vitest";
import type { LayerGraph } from "../../../src/arch/index.js";
import type { RealTensor, StateDict, Tensor } from "../../../src/core/tensor.js";
import { seededImages } from "../../../src/verify/inputs/images.js";
import { observeVacuity } from "../../../src/verify/inputs/vacuity.js";
import type { Vacuity } from "../../../src/verify/outcome/report.js";
import { evaluate } from "../../../src/verify/reference/evaluate.js";
import { openFixture, withTensor } from "../../support/osnet.js";

const checkpoint = openFixture();
const ain = openFixture("osnet_ain_x0_25");
const IMAGES = seededImages(0, 2, 64, 32);

type Change = (layer: string, data: Float64Array) => void;

/** What a run of the reference leaves untested, its layers changed on their way to the observer. */
function vacuityOf(
  graph: LayerGraph,
  stateDict: StateDict,
  change: Change = () => undefined,
  images: Tensor<"float32"> = IMAGES,
): Vacuity {
  const observer = observeVacuity(graph, { images });
  for (const { name, tensor } of evaluate(graph, stateDict, images)) {
    change(name, tensor.data);
    observer.observe(name, tensor);
  }
  return observer.finish();
}

const lines = ({ untested }: Vacuity): readonly string[] =>
  untested.map(({ layer, stream, reason }) => `${layer}${stream ? ` (${stream})` : ""}: ${reason}`);

describe("what the fixture leaves untested", () => {
  let honest: readonly string[];
  beforeAll(() => {
    honest = lines(vacuityOf(checkpoint.graph, checkpoint.stateDict));
  });
  /** What is untested besides, if these layers are changed. */
  const besides = (change: Change): readonly string[] =>
    lines(vacuityOf(checkpoint.graph, checkpoint.stateDict, change)).filter((line) => !honest.includes(line));

  it("is the ReLU of its gates, whose only hidden unit always fires", () => {
    expect(honest).toEqual(
      checkpoint.graph.gates.map(
        ({ block, stream }) => `${block}.gate[${stream}].relu (${stream}): never clips: it could be absent`,
      ),
    );
  });

  it.each<readonly [what: string, change: Change, found: readonly string[]]>([
    [
      "a ReLU whose input is nowhere negative",
      (layer, data) => layer === "conv1.bn" && data.set(data.map(Math.abs)),
      ["conv1.relu: never clips: it could be absent"],
    ],
    [
      "a ReLU whose input is nowhere positive",
      (layer, data) => layer === "conv5.bn" && data.set(data.map((value) => -Math.abs(value))),
      ["conv5.relu: always clips: its input has no effect"],
    ],
    [
      "hidden units that fire in no stream",
      (layer, data) => /^conv3\.0\.gate\[\d\]\.relu$/.test(layer) && data.fill(0),
      ["conv3.0.gate.fc1: hidden unit 0 of 1 never fires, for any image or stream"],
    ],
    [
      "hidden units that fire in one stream",
      (layer, data) => /^conv3\.0\.gate\[[124]\]\.relu$/.test(layer) && data.fill(0),
      [],
    ],
    [
      "a constant gate",
      (layer, data) => layer === "conv3.1.gate[2].gate_activation" && data.fill(0.5),
      ["conv3.1.gate[2].gate_activation (2): the gate is the same for all images and channels"],
    ],
    [
      "a max-pool over constant windows, and average pools",
      (layer, data) => ["conv1.relu", "conv2.2.0.relu"].includes(layer) && data.fill(1),
      [
        "maxpool: every window is constant: maximum and average are the same",
        "conv2.2.1: every window is constant: maximum and average are the same",
      ],
    ],
    ["one window that varies", (layer, data) => layer === "conv1.relu" && data.fill(1).fill(2, -1), []],
  ])("%s", (_, change, found) => {
    expect(besides(change)).toEqual(found);
  });

  it("equal streams and gates, by the distance that distinguishes them", () => {
    const seen = new Map<string, Float64Array>();
    const alike = (share: number): Change => {
      const copy = (from: string, to: string, layer: string, data: Float64Array): void => {
        if (layer === from) seen.set(from, data.slice());
        if (layer === to) data.set((seen.get(from) ?? data).map((value) => value * (1 + share)));
      };
      return (layer, data) => {
        copy("conv4.0.conv2b.1.relu", "conv4.0.conv2d.3.relu", layer, data);
        copy("conv4.0.gate[1].gate_activation", "conv4.0.gate[3].gate_activation", layer, data);
      };
    };
    expect(besides(alike(1e-7))).toEqual([
      "conv4.0.conv2d.3.relu (4): its output is that of stream 2: swapping them would go unnoticed",
      "conv4.0.gate[3].gate_activation (3): its gate is that of stream 1: swapping them would go unnoticed",
    ]);
    expect(besides(alike(1e-3))).toEqual([]);
  });

  it("says nothing of layers that it is not shown, and judges a fused ReLU by its zeros", () => {
    const names = new Set(["conv1.relu", "conv5.relu"]);
    const observer = observeVacuity(checkpoint.graph);
    expect(observer.finish()).toEqual({ untested: [], collapsed: [] });
    for (const { name, tensor } of evaluate(checkpoint.graph, checkpoint.stateDict, IMAGES))
      if (names.has(name)) observer.observe(name, name === "conv5.relu" ? shifted(tensor) : tensor);
    expect(lines(observer.finish())).toEqual(["conv5.relu: never clips: it could be absent"]);
  });
});

function shifted(tensor: RealTensor): RealTensor {
  return { ...tensor, dtype: "float64", data: Float64Array.from(tensor.data, (value) => value + 1) };
}

describe("instance norms", () => {
  const norm = ain.graph.nodes.find(({ op }) => op.kind === "instanceNorm");
  const { inputs: [source = ""] = [], name = "" } = norm ?? {};
  const planes = (value: (index: number) => number) => {
    const observer = observeVacuity(ain.graph);
    const data = Float64Array.from({ length: 2 * 8 * 16 }, (_, index) => value(index));
    observer.observe(source, { dtype: "float64", shape: [2, 8, 4, 4], data });
    return lines(observer.finish());
  };

  // ε = 1e-5 changes values by ε/2σ²: 2⁻²⁴ at a variance of 84.
  it.each([
    ["a variance of 1", 1, true],
    ["a variance of 64", 8, true],
    ["a variance of 100", 10, false],
    ["no variance", 0, false],
    ["a variance that is rounding", 1e-9, false],
    ["a small variance", 1e-4, true],
  ])("%s", (_, deviation, shows) => {
    const found = planes((index) => 0.5 + (index % 2 === 0 ? deviation : -deviation));
    expect(found).toEqual(shows ? [] : [`${name}: ε = 0.00001 has no visible effect on these images`]);
  });

  it("one channel that shows it is enough", () => {
    expect(planes((index) => (index < 240 ? 0 : index))).toEqual([]);
  });
});

describe("the collapse detector", () => {
  it("finds different images with one embedding, and not equal images", () => {
    const { graph, stateDict } = checkpoint;
    const [first] = [seededImages(0, 1, 64, 32).data];
    const data = Float32Array.from([...IMAGES.data, ...first]);
    const three: Tensor<"float32"> = { ...IMAGES, shape: [3, 3, 64, 32], data };
    expect(vacuityOf(graph, stateDict, undefined, three).collapsed).toEqual([]);
    // A last batch norm that multiplies by 0 gives every image its bias.
    const constant = withTensor(stateDict, "fc.1.weight", ({ shape, data: { length } }) => ({
      dtype: "float32",
      shape,
      data: new Float32Array(length),
    }));
    expect(vacuityOf(graph, constant, undefined, three).collapsed).toEqual([
      [0, 1],
      [1, 2],
    ]);
  });
});
