import { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import { describe, expect, it } from "vitest";
import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import {
  int,
  ints,
  type OnnxAttributeRecord,
  type OnnxModel,
  type OnnxNode,
  onnxNode,
} from "../../../src/convert/formats/onnx/model.js";
import { readGraph } from "../../../src/convert/import/normalise.js";
import type { Size, Value } from "../../../src/convert/import/operators/foreign.js";
import { mulberry32 } from "../../../src/core/functions.js";
import { type DType, elementCount, type Shape, type Tensor } from "../../../src/core/tensor.js";
import { float32 } from "../export/graphs.js";
import { int64 } from "./graphs.js";

/**
 * Random graphs of operators that move, count and combine axes, run by onnxruntime at two sizes: whatever the reader says
 * of a size, a list of sizes or a constant must be so at both. Sizes that are taken for known decide what a Reshape means.
 */

const CHANNELS = 3;
/** Batch, height and width of the two runs. */
const RUNS = [
  [2, 8, 4],
  [5, 16, 12],
] as const;
const OPERATORS = 50;
const SEEDS = [4, 9, 19, 33];

/** A value in each of the runs. */
type Values = readonly [OrtTensor, OrtTensor];

interface Random {
  /** A whole number below this. */
  below(count: number): number;
  of<T>(...items: readonly T[]): T;
}

interface Graph {
  readonly nodes: OnnxNode[];
  readonly constants: Map<string, Tensor>;
  readonly values: Map<string, Values>;
}

/** A tensor whose elements are all this. */
const full = (shape: Shape, value: number): Tensor<"float32"> =>
  float32(shape, Array<number>(elementCount(shape)).fill(value));

const toOrt = ({ dtype, shape, data }: Tensor): OrtTensor =>
  new OrtTensor(dtype as "float32", data as Float32Array, shape);

async function runOf(node: OnnxNode, { constants, values }: Graph, run: 0 | 1): Promise<OrtTensor> {
  const fed = [...new Set(node.inputs)].filter((name) => !constants.has(name));
  const dtypeOf = (name: string): DType => values.get(name)?.[run].type as DType;
  const bytes = encodeOnnx(
    modelOf(
      [node],
      fed.map((name) => ({ name, dtype: dtypeOf(name) })),
      constants,
    ),
  );
  const session = await InferenceSession.create(bytes, {
    graphOptimizationLevel: "disabled",
    logSeverityLevel: 4,
  });
  try {
    const feeds = Object.fromEntries(fed.map((name) => [name, values.get(name)?.[run] as OrtTensor]));
    return (await session.run(feeds))[node.outputs[0] ?? ""] as OrtTensor;
  } finally {
    await session.release();
  }
}

function modelOf(
  nodes: readonly OnnxNode[],
  inputs: OnnxModel["graph"]["inputs"],
  constants: ReadonlyMap<string, Tensor>,
): OnnxModel {
  const read = new Set(nodes.flatMap((node) => node.inputs));
  const initializers = new Map([...constants].filter(([name]) => read.has(name)));
  const outputs = (nodes.at(-1)?.outputs ?? []).map((name) => ({ name }));
  return {
    irVersion: 8,
    opset: 18,
    customOpsets: new Map(),
    producer: { name: "", version: "" },
    metadata: new Map(),
    graph: { name: "g", nodes, inputs, outputs, initializers },
  };
}

/** An operator over values that there are, or undefined if there is none to choose. */
function chosen(graph: Graph, random: Random): OnnxNode | undefined {
  const ofType = (type: string): string | undefined => {
    const names = [...graph.values].filter(([, [value]]) => value.type === type).map(([name]) => name);
    // Late ones more often: chains find more than trees.
    return names.at(-1 - Math.min(random.below(names.length), random.below(names.length)));
  };
  const constant = (tensor: Tensor): string => {
    const name = `c${graph.constants.size}`;
    graph.constants.set(name, tensor);
    return name;
  };
  const list = (...numbers: readonly number[]): string => constant(int64(...numbers));
  const [x = "", s] = [ofType("float32"), ofType("int64")];
  const dims = graph.values.get(x)?.[0].dims ?? [];
  /** A window that is larger than its map ends onnxruntime's process. */
  const fits = (size: number): boolean =>
    (graph.values.get(x) ?? []).every(({ dims: [, , ...plane] }) => plane.every((length) => length >= size));
  const axis = (): number => random.below(Math.max(1, dims.length));
  const some = (count: number, ...of: readonly number[]): readonly number[] =>
    Array.from({ length: count }, () => random.of(...of));
  const target = (): string => {
    if (s !== undefined && random.below(2) === 0) return s;
    return list(...some(1 + random.below(4), -1, 0, 1, CHANNELS, 2));
  };
  const make = (opType: string, inputs: readonly string[], attributes: OnnxAttributeRecord = {}): OnnxNode =>
    onnxNode(`v${graph.nodes.length}`, opType, inputs, attributes);
  const onMaps: readonly (() => OnnxNode | undefined)[] = [
    () => make(random.of("Relu", "Sigmoid", "Identity", "Sqrt"), [x]),
    () => make(random.of("Add", "Mul", "Max", "Sum"), [x, ofType("float32") ?? x]),
    () => make("Add", [x, constant(full(some(random.below(5), 1, CHANNELS), 1))]),
    () => make(random.of("GlobalAveragePool", "GlobalMaxPool"), [x]),
    () =>
      fits(1)
        ? make("MaxPool", [x], { kernel_shape: ints(3, 3), strides: ints(2, 2), pads: ints(1, 1, 1, 1) })
        : undefined,
    () => make(random.of("ReduceMean", "ReduceSum"), [x, list(axis())], { keepdims: int(random.below(2)) }),
    () => {
      const kernel = fits(3) ? random.of(1, 3) : 1;
      if (!fits(1)) return undefined;
      const weight = constant(full([random.of(1, CHANNELS), dims[1] ?? 1, kernel, kernel], 1));
      return make("Conv", [x, weight], { pads: ints(...some(4, 0, 1)) });
    },
    () => make("Flatten", [x], { axis: int(random.of(1, 1, 0, 2)) }),
    () => make("Reshape", [x, target()]),
    () => make("Squeeze", random.below(2) === 0 ? [x] : [x, list(axis())]),
    () => make("Unsqueeze", [x, list(random.below(dims.length + 1))]),
    () => {
      const other = random.of(x, ofType("float32") ?? x);
      // onnxruntime does not survive a list of none beside a map.
      const isAlike = graph.values.get(other)?.[0].dims.length === dims.length;
      return isAlike ? make("Concat", [x, other], { axis: int(axis()) }) : undefined;
    },
    () => make("Tile", [x, list(...some(dims.length, 1, 1, 2))]),
    () => make("Expand", [x, target()]),
    () => make("Shape", [x], random.below(2) === 0 ? {} : { start: int(random.below(3) - 1) }),
    () => make("Shape", [x]),
    () => make("Transpose", [x], { perm: ints(...dims.map((_, at) => at).toReversed()) }),
    () => make("MatMul", [x, constant(full([dims.at(-1) ?? 1, CHANNELS], 1))]),
  ];
  const onSizes = (list0: string): readonly (() => OnnxNode | undefined)[] => [
    () => make("Gather", [list0, list(...some(1 + random.below(2), 0, 1, -1))]),
    () => make("Gather", [list0, constant({ ...int64(random.of(0, 1, -1)), shape: [] })]),
    () => make("Slice", [list0, list(random.of(0, 1, -1)), list(random.of(1, 2, 1e7)), list(0)]),
    () => make("Concat", [list0, list(-1)], { axis: int(0) }),
    () => make("Concat", [list0, list0], { axis: int(0) }),
    () =>
      make(random.of("Add", "Mul", "Sub", "Max", "Min"), [
        list0,
        random.of(ofType("int64") ?? list0, list(2)),
      ]),
    () => make("Div", [list0, list(2)]),
    () => make("Unsqueeze", [list0, list(0)]),
    () => make("Squeeze", [list0]),
    () => make("Reshape", [list0, list(-1)]),
    () => make("Cast", [list0], { to: int(random.of(6, 7)) }),
    () => make("ConstantOfShape", [list0]),
    () => make("Size", [random.of(list0, x)]),
    () => make("Squeeze", [constant(full(some(1 + random.below(3), 1, 2), 0)), list0]),
    () => make("Expand", [constant(full(some(random.below(4), 1), 0)), list0]),
  ];
  return random.of(...onMaps, ...(s === undefined ? [] : onSizes(s)))();
}

async function randomGraph(seed: number): Promise<Graph> {
  const uniform = mulberry32(seed);
  const below = (count: number): number => Math.floor(uniform() * count);
  const random: Random = { below, of: (...items) => items[below(items.length)] as (typeof items)[number] };
  const images = RUNS.map(([batch, height, width]) => toOrt(full([batch, CHANNELS, height, width], 0.5))) as [
    OrtTensor,
    OrtTensor,
  ];
  const graph: Graph = { nodes: [], constants: new Map(), values: new Map([["images", images]]) };
  while (graph.nodes.length < OPERATORS) {
    const node = chosen(graph, random);
    if (!node) continue;
    try {
      const values = [await runOf(node, graph, 0), await runOf(node, graph, 1)] as const;
      if (values.some(({ size, dims }) => size > 20_000 || dims.length > 6)) continue;
      graph.nodes.push(node);
      graph.values.set(node.outputs[0] ?? "", values);
    } catch {
      // Most random shapes do not fit.
    }
  }
  return graph;
}

/** What is said of a value and is not so in a run. */
function untrue(read: Value, values: Values, graph: Graph): readonly unknown[] {
  return values.flatMap((value, run) => {
    const sizeIn = (size: Size): number | undefined => {
      if (typeof size !== "object") return size === "batch" ? RUNS[run]?.[0] : size;
      const { reading, value: name = "" } = size.of;
      return reading ? undefined : graph.values.get(name)?.[run as 0 | 1].dims[size.axis];
    };
    const numbers = Array.from(value.data as ArrayLike<number | bigint>, Number);
    const differ = (said: readonly (number | undefined)[], real: readonly number[]): readonly unknown[] =>
      said.length !== real.length || said.some((one, at) => one !== undefined && one !== real[at])
        ? [{ run, said, real }]
        : [];
    if (read.kind === "constant")
      return [
        ...differ(read.tensor.shape, value.dims),
        ...differ(Array.from(read.tensor.data as ArrayLike<number | bigint>, Number), numbers),
      ];
    if (read.kind === "shape")
      return [
        ...(read.length === undefined ? [] : differ([read.length], [value.size])),
        ...(read.sizes ? differ(read.sizes.map(sizeIn), numbers) : []),
      ];
    if (read.kind !== "node" || read.planes || read.node.op.kind === "other") return [];
    const { rank, channels, size, isGuess } = read.node.form;
    const { layout, isLine, isFlat } = read.reading ?? {};
    if (isGuess) return [];
    const plane = rank === "pooled" ? [1, 1] : [size?.[0], size?.[1]];
    const said = [RUNS[run]?.[0], channels, ...(rank === "flat" ? [] : plane)];
    const laid = layout && said.length === 4 ? layout.map((at) => said[at]) : said;
    return differ(isLine ? [...said.slice(0, 2), 1] : isFlat ? said.slice(0, 2) : laid, value.dims);
  });
}

describe("sizes and constants that are read", () => {
  it.each(SEEDS)("are those of onnxruntime at any size: random graph %d", async (seed) => {
    const graph = await randomGraph(seed);
    const input = { name: "images", dtype: "float32", shape: ["n", CHANNELS, "h", "w"] } as const;
    const { values } = readGraph(modelOf(graph.nodes, [input], graph.constants).graph, "m");
    const nodeOf = new Map(graph.nodes.map((node) => [node.outputs[0] ?? "", node]));
    const told = (name: string): string => {
      const { opType = "", inputs = [] } = nodeOf.get(name) ?? {};
      const shape = (input: string): string =>
        `${input} [${graph.values.get(input)?.[0].dims ?? "constant"}]`;
      return `${name} = ${opType}(${inputs.map(shape).join(", ")}) ${inputs.map(told)}`;
    };
    const wrong = [...graph.values].flatMap(([name, known]) => {
      const read = values.get(name);
      return read ? untrue(read, known, graph).map((what) => [told(name), what]) : [];
    });
    expect(wrong).toEqual([]);
  });
});
