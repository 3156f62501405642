import { describe, expect, it } from "vitest";
import { IMAGENET } from "../../src/convert/export/options.js";
import { lowerToTfjs } from "../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../src/convert/export/tfjs-layers-model.js";
import { castStateDict } from "../../src/convert/export/weights.js";
import {
  float,
  int,
  ints,
  type OnnxModel,
  type OnnxNode,
  onnxNode,
} from "../../src/convert/formats/onnx/model.js";
import { encodeTfjs } from "../../src/convert/formats/tfjs/codec.js";
import type { Checkpoint } from "../../src/convert/open/checkpoint.js";
import type { NamedBytes } from "../../src/core/bytes.js";
import type { StateDict, Tensor } from "../../src/core/tensor.js";
import { isDType } from "../../src/core/tensor-cast.js";
import type { Verification } from "../../src/verify/candidate/candidate.js";
import type { Cause } from "../../src/verify/explain/index.js";
import { seededImages } from "../../src/verify/inputs/images.js";
import { openVerification } from "../../src/verify/open.js";
import type { ParityReport } from "../../src/verify/outcome/report.js";
import { verify } from "../../src/verify/verify.js";
import { tinyCheckpoint } from "../mutation/families.js";
import {
  fedBy,
  floats,
  followed,
  gelu,
  generalisedMean,
  multiplied,
  type OnnxEdit,
  replaced,
  scalar,
  silu,
  squared,
  tempered,
  wholes,
} from "../mutation/onnx-edits.js";
import { scaled } from "../mutation/scaled.js";
import {
  convert,
  openFixture,
  openReference,
  rewriteOnnx,
  SMALL,
  withTensor,
  withValues,
} from "../support/osnet.js";

const checkpoint = tinyCheckpoint("block");
const honest = convert(checkpoint);

function opened(bytes: Uint8Array, of: Checkpoint = checkpoint): Promise<Verification> {
  return openVerification({ name: "m.onnx", bytes }, openReference(of), { size: SMALL });
}

/** What was changed, at which layer it must be found, as what, and with which number or name. */
const MISTAKES: readonly [name: string, edit: OnnxEdit, layer: string, cause: Cause, says: RegExp][] = [
  [
    "averaged streams",
    multiplied("conv2.0.aggregate", 1 / 3),
    "conv2.0.aggregate",
    "terms-weighted",
    /3|0\.33/,
  ],
  ["a subtracted residual", operatorOf("conv2.0.add", "Sub"), "conv2.0.add", "terms-weighted", /downsample/],
  ["a squared ReLU", squared("conv2.0.conv1.relu"), "conv2.0.conv1.relu", "relu-other", /square/],
  ["a GELU at the end", gelu("fc.2"), "fc.2", "relu-other", /GELU/],
  ["a SiLU at the end", silu("fc.2"), "fc.2", "relu-other", /SiLU/],
  ["a GeM pool", generalisedMean("global_avgpool", 3), "global_avgpool", "pooling", /power 3\b/],
  [
    "a gate's temperature",
    tempered("conv2.0.gate[2].gate_activation", 2),
    "conv2.0.gate[2].gate_activation",
    "sigmoid-temperature",
    /2|0\.5/,
  ],
];

function operatorOf(value: string, opType: string): OnnxEdit {
  return (model) => ({
    ...model,
    graph: {
      ...model.graph,
      nodes: model.graph.nodes.map((node) => (node.outputs.includes(value) ? { ...node, opType } : node)),
    },
  });
}

describe("one mistake is one fault, at its layer", () => {
  it.each(MISTAKES)("%s", async (_, edit, layer, cause, says) => {
    const { passed, faults } = await verify(await opened(rewriteOnnx(honest, edit)));
    expect(passed).toBe(false);
    expect(faults.map((fault) => [fault.layer, fault.cause])).toEqual([[layer, cause]]);
    expect(faults[0]?.explanation).toMatch(says);
  });
});

const PARAMETERS = ["weight", "bias", "running_mean", "running_var"];

describe("one mistake in several layers is one fault", () => {
  /** The same network except for the ε of its batch norms, one of them of another. */
  const withEpsilon = (epsilon: number, other = epsilon): Checkpoint => {
    const nodes = checkpoint.graph.nodes.map((node) =>
      node.op.kind === "batchNorm"
        ? { ...node, op: { ...node.op, epsilon: node.name === "conv3.bn" ? other : epsilon } }
        : node,
    );
    return { ...checkpoint, graph: { ...checkpoint.graph, nodes } };
  };

  it.each([
    ["kept", false, "numeric"],
    ["folded", true, "weights"],
  ])("the ε of all batch norms, %s", async (_, fold, kind) => {
    const faultsOf = async (right: Checkpoint): Promise<ParityReport["faults"]> =>
      (await verify(await opened(convert(right, { fold })))).faults;
    expect(await faultsOf(withEpsilon(0.03))).toMatchObject([
      { layer: "conv1.bn", kind, explanation: expect.stringMatching(/3e-2.* all 13 |0\.03/) },
    ]);
    expect(await faultsOf(withEpsilon(0.03, 1e-5))).toMatchObject([
      { layer: "conv1.bn", kind, explanation: expect.stringMatching(/12 of 13 /) },
    ]);
    // Two are two.
    const [first, ...others] = await faultsOf(withEpsilon(0.03, 0.02));
    if (fold) expect(first?.explanation).toContain("of 12 of 13 folded batch norms is 0.03");
    expect(others.map(({ layer }) => layer)).toEqual(["conv3.bn"]);
  });

  it("the ε of all batch norms, with zeros for weights that it makes negligible", async () => {
    const right = times(checkpoint, (path, i) => (path === "conv2.0.conv1.bn.weight" && i === 0 ? 1e-17 : 1));
    const zeroed = ({ graph, stateDict }: Checkpoint): Uint8Array =>
      rewriteOnnx(convert({ ...right, graph, stateDict }), (model) => ({
        ...model,
        graph: {
          ...model.graph,
          initializers: withTensor(model.graph.initializers, "conv2.0.conv1.bn.folded.weight", (tensor) =>
            withValues(tensor, { 0: 0 }),
          ),
        },
      }));
    const faultsOf = async (of: Checkpoint): Promise<readonly string[]> =>
      (await verify(await opened(zeroed({ ...of, stateDict: right.stateDict }), right))).faults.map(
        ({ layer }) => layer,
      );
    expect(await faultsOf(withEpsilon(0.03))).toEqual(["conv1.bn"]);
    expect(await faultsOf(checkpoint)).toEqual(["conv2.0.conv1.bn"]);
  });

  it("the ε of all batch norms, folded but for one", async () => {
    const bytes = rewriteOnnx(convert(withEpsilon(0.03)), (model) =>
      replaced(
        "fc.1",
        (node) => [
          {
            ...node,
            name: "fc.0",
            outputs: ["fc.0"],
            inputs: [node.inputs[0] ?? "", "plain.weight", "plain.bias"],
          },
          onnxNode("fc.1", "BatchNormalization", ["fc.0", ...PARAMETERS.map((each) => `fc.1.${each}`)], {
            epsilon: float(Math.fround(0.03)),
          }),
        ],
        Object.fromEntries([
          ["plain.weight", checkpoint.stateDict.get("fc.0.weight") as Tensor],
          ["plain.bias", checkpoint.stateDict.get("fc.0.bias") as Tensor],
          ...PARAMETERS.map(
            (each) => [`fc.1.${each}`, checkpoint.stateDict.get(`fc.1.${each}`) as Tensor] as const,
          ),
        ]),
      )({ ...model, metadata: new Map() }),
    );
    const { faults } = await verify(await opened(bytes));
    expect(faults).toMatchObject([{ layer: "conv1.bn", kind: "weights" }]);
  });

  it("batch norms for all instance norms, folded or not", async () => {
    const ibn = tinyCheckpoint("ibn");
    const bytes = rewriteOnnx(convert(ibn), (model) => {
      const initializers = new Map(model.graph.initializers);
      const nodes = model.graph.nodes.flatMap((node): OnnxNode[] => {
        if (node.opType === "InstanceNormalization" && node.outputs[0] !== "conv1.bn")
          return [
            {
              ...node,
              opType: "BatchNormalization",
              inputs: [...node.inputs, "mean", "variance"],
              attributes: new Map(),
            },
          ];
        if (node.opType === "InstanceNormalization") return [];
        if (!node.outputs.includes("conv1.conv")) return [node];
        const [images = "", weight = ""] = node.inputs;
        const tensor = initializers.get(weight) as Tensor<"float32">;
        initializers.set("conv1.folded", { ...tensor, data: tensor.data.map((value) => value * 1.5) });
        return [{ ...node, inputs: [images, "conv1.folded", "conv1.bias"], outputs: ["conv1.bn"] }];
      });
      const ones = floats(...Array<number>(32).fill(1));
      initializers.set("conv1.bias", floats(...Array<number>(8).fill(0)));
      initializers.set("mean", { ...ones, data: new Float32Array(32) }).set("variance", ones);
      return { ...model, metadata: new Map(), graph: { ...model.graph, nodes, initializers } };
    });
    const { faults } = await verify(await opened(bytes, ibn));
    expect(faults).toMatchObject([
      {
        layer: "conv1.bn",
        kind: "structure",
        explanation: expect.stringMatching(/found a batch norm.* all 3 /),
      },
    ]);
  });

  it.each<readonly [string, (node: OnnxNode, stream: number) => readonly OnnxNode[], number[]]>([
    [
      "1 − g for a gate g",
      (node, stream) => [
        onnxNode(`inverted.${stream}`, "Sub", ["one", node.inputs[1] ?? ""]),
        { ...node, inputs: node.inputs.with(1, `inverted.${stream}`) },
      ],
      [1, 2, 3],
    ],
    [
      "the first stream's gate for all",
      (node) => [{ ...node, inputs: node.inputs.with(1, "conv2.0.gate[1].gate_activation") }],
      [2, 3],
    ],
  ])("%s", async (_, by, streams) => {
    const edit: OnnxEdit = (model) =>
      [1, 2, 3].reduce<OnnxModel>(
        (before, t) => replaced(`conv2.0.gate[${t}]`, (node) => by(node, t), { one: scalar(1) })(before),
        { ...model, metadata: new Map<string, string>() },
      );
    const { faults } = await verify(await opened(rewriteOnnx(honest, edit)));
    expect(faults).toMatchObject([{ layer: `conv2.0.gate[${streams[0]}]`, kind: "structure", streams }]);
    expect(faults[0]?.explanation).not.toContain("global_avgpool");
  });

  it("two modules exchanged, and all weights rounded", async () => {
    const given = castStateDict(checkpoint.stateDict, "bfloat16", "w.pth");
    const [first, second] = ["conv2.0.conv2b.0.", "conv2.0.conv2b.1."] as const;
    const ownerOf = (path: string): string =>
      path.startsWith(first) ? path.replace(first, second) : path.replace(second, first);
    const exchanged = new Map([...given.keys()].map((path) => [path, given.get(ownerOf(path)) as Tensor]));
    const { faults } = await verify(await opened(convert({ ...checkpoint, stateDict: exchanged })));
    expect(faults.map(({ cause }) => cause)).toEqual(["weights-rounded", "weights-elsewhere"]);
    expect(faults.at(-1)?.explanation).toContain("conv2.0.conv2b.0 and conv2.0.conv2b.1 have each other's");
  });

  it("a softmax over the streams for their gates", async () => {
    const streams = [1, 2, 3];
    const stacked = (node: OnnxNode): OnnxNode[] => {
      const [, stream, part] =
        /^conv2\.0\.gate\[(\d)\](\.gate_activation)?$/.exec(node.outputs[0] ?? "") ?? [];
      if (stream !== undefined)
        return [
          onnxNode(`${part ? "gates" : "streams"}.${stream}`, "Unsqueeze", [node.inputs[0] ?? "", "first"]),
        ];
      if (node.inputs.includes("conv2.0.gate[1]")) return [];
      if (!node.outputs.includes("conv2.0.aggregate")) return [node];
      const stack = (name: string): OnnxNode =>
        onnxNode(
          name,
          "Concat",
          streams.map((t) => `${name}.${t}`),
          { axis: int(0) },
        );
      return [
        stack("streams"),
        stack("gates"),
        onnxNode("softmax", "Softmax", ["gates"], { axis: int(0) }),
        onnxNode("products", "Mul", ["softmax", "streams"]),
        onnxNode("conv2.0.aggregate", "ReduceSum", ["products", "first"], { keepdims: int(0) }),
      ];
    };
    const edit: OnnxEdit = ({ graph, ...model }) => ({
      ...model,
      opset: 13,
      metadata: new Map(),
      graph: {
        ...graph,
        nodes: graph.nodes.flatMap(stacked),
        initializers: new Map([...graph.initializers, ["first", wholes(0)]]),
      },
    });
    const { faults } = await verify(await opened(rewriteOnnx(honest, edit)));
    expect(faults).toMatchObject([{ layer: "conv2.0.gate[1].gate_activation", kind: "structure", streams }]);
    expect(faults[0]?.explanation).toContain("Softmax");
  });

  it("what is done to the images, in a file whose end is flattened by a Reshape", async () => {
    const edit: OnnxEdit = (model) =>
      fedBy(
        [onnxNode("turned", "ReduceMean", ["images"], { axes: ints(1) })],
        "turned",
      )(
        replaced(
          "global_avgpool.flatten",
          (node) => [onnxNode(node.outputs[0] ?? "", "Reshape", [node.inputs[0] ?? "", "shape"])],
          { shape: wholes(0, -1) },
        )({ ...model, opset: 13, metadata: new Map() }),
      );
    const { faults } = await verify(await opened(rewriteOnnx(honest, edit)));
    expect(faults.map(({ layer }) => layer)).toEqual(["images"]);
  });

  it("a generalised mean by powers before the pool and behind its flattening", async () => {
    const edit: OnnxEdit = (model) =>
      followed("global_avgpool.flatten", (before) => [
        onnxNode("global_avgpool.flatten", "Pow", [before, "root"]),
      ])(
        replaced(
          "global_avgpool",
          (node) => [
            onnxNode("positive", "Clip", [node.inputs[0] ?? "", "least"]),
            onnxNode("cubed", "Pow", ["positive", "power"]),
            { ...node, inputs: node.inputs.with(0, "cubed") },
          ],
          { least: scalar(1e-6), power: scalar(3), root: scalar(1 / 3) },
        )({ ...model, metadata: new Map() }),
      );
    const { faults } = await verify(await opened(rewriteOnnx(honest, edit)));
    expect(faults).toMatchObject([{ layer: "global_avgpool", kind: "structure" }]);
    expect(faults[0]?.explanation).toMatch(/Pow before it and Pow after it/);
  });

  it("an instance norm before the sum, not after it", async () => {
    const ibn = tinyCheckpoint("ibn block");
    const edit: OnnxEdit = (model) =>
      replaced("conv2.0.add", (add) => [
        onnxNode("normed", "InstanceNormalization", [
          add.inputs[0] ?? "",
          "conv2.0.IN.weight",
          "conv2.0.IN.bias",
        ]),
        { ...add, inputs: add.inputs.with(0, "normed"), outputs: ["conv2.0.IN"] },
      ])(replaced("conv2.0.IN", () => [])({ ...model, metadata: new Map<string, string>() }));
    const { faults } = await verify(await opened(rewriteOnnx(convert(ibn), edit), ibn));
    expect(faults).toMatchObject([{ layer: "conv2.0.add", kind: "structure" }]);
  });
});

/** Pictures as normalised RGB, NCHW: one colour for both images but for rows or columns that show noise. */
function pictures(
  level: number,
  shows: (row: number, column: number) => boolean = () => false,
): Tensor<"float32"> {
  const { height, width } = SMALL;
  const noise = seededImages(1, 2, height, width);
  const plane = height * width;
  return {
    ...noise,
    data: noise.data.map((value, i) => {
      const channel = Math.floor(i / plane) % 3;
      const pixel = i % plane;
      if (shows(Math.floor(pixel / width), pixel % width)) return value;
      return (level - (IMAGENET.mean[channel] ?? 0)) / (IMAGENET.deviation[channel] ?? 1);
    }),
  };
}

/** A state dict with every tensor for which there is a factor multiplied. */
function times(
  { stateDict, ...rest }: Checkpoint,
  factorOf: (path: string, index: number) => number,
): Checkpoint {
  const changed: StateDict = new Map(
    [...stateDict].map(([path, tensor]) => {
      if (!isDType(tensor, "float32")) return [path, tensor];
      const row = tensor.data.length / (tensor.shape[0] ?? 1);
      const data = tensor.data.map((value, i) => value * factorOf(path, Math.floor(i / row)));
      return [path, { ...tensor, data }];
    }),
  );
  return { ...rest, stateDict: changed };
}

function productsOf({ graph }: Checkpoint): ReadonlySet<string> {
  return new Set(
    graph.nodes.flatMap(({ op, parameters }) =>
      op.kind === "conv" || op.kind === "linear" ? Object.values(parameters) : [],
    ),
  );
}

const products = productsOf(checkpoint);

function agreed({ passed, faults }: ParityReport): void {
  expect(faults).toEqual([]);
  expect(passed).toBe(true);
}

describe("no fault is found in a right file", () => {
  it("on pictures of one colour, and letterboxed ones", async () => {
    const verification = await opened(honest);
    const { height } = SMALL;
    for (const images of [
      pictures(0),
      pictures(1),
      pictures(0.5, (row) => row >= height / 4 && row < (3 * height) / 4),
      pictures(0, (_, column) => column >= 8 && column < 24),
    ])
      agreed(await verify({ ...verification, images }));
  });

  it.each([
    [
      "channels whose maps are constant",
      (path: string, i: number) => Number(i % 5 !== 3 || !/\bbn\.weight$/.test(path)),
    ],
    [
      "channels that are 0",
      (path: string, i: number) => Number(i % 5 !== 3 || !/\bbn\.(weight|bias)$/.test(path)),
    ],
    ["weights × 1e-4", (path: string) => (products.has(path) ? 1e-4 : 1)],
  ])("with %s", async (_, factorOf) => {
    const right = times(checkpoint, factorOf);
    for (const fold of [true, false]) agreed(await verify(await opened(convert(right, { fold }), right)));
  });

  it.each([1e-6, 1e6])("with weights × %s that the norms behind them take back", async (factor) => {
    const right = scaled(checkpoint, factor);
    agreed(await verify(await opened(convert(right, { fold: false }), right)));
  });
});

it("is one fault that a network overflows in float32, at the first layer that does", async () => {
  const large = productsOf(openFixture());
  const right = times(openFixture(), (path) => (large.has(path) ? 1e4 : 1));
  const { passed, faults } = await verify(await opened(convert(right), right));
  expect(passed).toBe(false);
  expect(faults).toHaveLength(1);
  expect(faults[0]).toMatchObject({ layer: "conv2.0.conv2d.3.bn", kind: "numeric", cause: "overflow" });
});

interface KerasLayer {
  class_name: string;
  readonly name: string;
  readonly config: Record<string, unknown>;
}

/** A layers model of the network with one layer changed. */
function layersModel(name: string, change: (layer: KerasLayer) => void): NamedBytes {
  const { graph, stateDict } = checkpoint;
  const { json, shards } = encodeTfjs(lowerToTfjsLayers(graph, stateDict, { size: SMALL }));
  const document = JSON.parse(new TextDecoder().decode(json));
  const layers: readonly KerasLayer[] = document.modelTopology.model_config.config.layers;
  const layer = layers.find((each) => each.name === name);
  if (!layer) throw new Error(`no layer ${name} among ${layers.map((each) => each.name).join(", ")}`);
  change(layer);
  return { name: "model.json", bytes: new TextEncoder().encode(JSON.stringify(document)), beside: shards };
}

describe("one mistake in a layers model is one fault", () => {
  const merged = (className: string) => (layer: KerasLayer) => {
    layer.class_name = className;
  };

  it.each<readonly [string, (layer: KerasLayer) => void, string, Cause]>([
    ["conv2.0.gate", merged("Average"), "conv2.0.gate[1]", "gate-other"],
    ["conv2.0.gate", merged("Add"), "conv2.0.gate[1]", "gate-other"],
    ["conv2.0.aggregate", merged("Average"), "conv2.0.aggregate", "terms-weighted"],
    // Zeros around the max pool exceed what an ELU leaves below 0.
    [
      "conv1.relu",
      ({ config }) => {
        config.activation = "elu";
      },
      "conv1.relu",
      "relu-other",
    ],
    [
      "maxpool-padded",
      ({ config }) => {
        config.padding = [
          [0, 2],
          [0, 2],
        ];
      },
      "maxpool",
      "same-padding",
    ],
  ])("%s", async (name, change, layer, cause) => {
    const { passed, faults } = await verify(
      await openVerification(layersModel(name, change), openReference(checkpoint)),
    );
    expect(passed).toBe(false);
    expect(faults).toMatchObject([{ layer, cause }]);
  });
});

describe("an osnet-convert file that takes pixels, without the metadata", () => {
  const { graph, stateDict } = checkpoint;
  const lost = (text: string): string => text.replace(/,?"osnet.preprocess":"rgb"/, "");
  const tfjs = ({ json, shards }: ReturnType<typeof encodeTfjs>): NamedBytes => ({
    name: "model.json",
    bytes: new TextEncoder().encode(lost(new TextDecoder().decode(json))),
    beside: shards,
  });
  const options = { size: SMALL, preprocess: "rgb" } as const;
  const files: Readonly<Record<string, NamedBytes>> = {
    onnx: {
      name: "m.onnx",
      bytes: rewriteOnnx(convert(checkpoint, options), (model) => ({
        ...model,
        metadata: new Map([...model.metadata].filter(([key]) => key !== "osnet.preprocess")),
      })),
    },
    "tfjs graph": tfjs(encodeTfjs(lowerToTfjs(graph, stateDict, options))),
    "tfjs layers": tfjs(encodeTfjs(lowerToTfjsLayers(graph, stateDict, options))),
  };

  it.each(Object.keys(files))("is given pixels: %s", async (kind) => {
    const file = files[kind];
    if (!file) throw new Error(kind);
    const verification = await openVerification(file, openReference(checkpoint));
    expect(verification.imagesSource).toContain("from values of 0 to 255");
    expect((await verify(verification)).faults).toEqual([]);
  });
});

it("images that an osnet-convert file normalises again are one fault, at the images", async () => {
  const column = (data: readonly number[]): Tensor => ({
    dtype: "float32",
    shape: [1, 3, 1, 1],
    data: Float32Array.from(data),
  });
  const edit = fedBy(
    [onnxNode("less", "Sub", ["images", "mean"]), onnxNode("once.more", "Div", ["less", "deviation"])],
    "once.more",
    { mean: column(IMAGENET.mean), deviation: column(IMAGENET.deviation) },
  );
  const { passed, faults } = await verify(await opened(rewriteOnnx(honest, edit)));
  expect(passed).toBe(false);
  expect(faults).toMatchObject([
    { layer: "images", kind: "structure", explanation: expect.stringContaining("normalised twice") },
  ]);
});
