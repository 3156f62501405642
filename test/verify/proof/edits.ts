import {
  float,
  int,
  ints,
  type OnnxAttribute,
  type OnnxGraph,
  type OnnxModel,
  type OnnxNode,
  onnxNode,
  text,
} from "../../../src/convert/formats/onnx/model.js";
import { elementCount, type Tensor } from "../../../src/core/tensor.js";

/** One random change of an ONNX model, of every kind that a mistake or a trick may make. */

export interface Edited {
  readonly what: string;
  readonly model: OnnxModel;
}

export interface Random {
  readonly below: (count: number) => number;
  readonly pick: <T>(items: readonly T[]) => T;
}

export function randomOf(next: () => number): Random {
  const below = (count: number): number => Math.floor(next() * count);
  return { below, pick: (items) => items[below(items.length)] as (typeof items)[number] };
}

type Edit = (model: OnnxModel, random: Random) => Edited | undefined;

/** A random edit; those that do not apply are drawn again. */
export function edit(model: OnnxModel, random: Random): Edited {
  for (;;) {
    const edited = random.pick(EDITS)(model, random);
    if (edited) return edited;
  }
}

function withGraph(model: OnnxModel, what: string, graph: Partial<OnnxGraph>): Edited {
  return { what, model: { ...model, graph: { ...model.graph, ...graph } } };
}

/** The model with one node in another's place. */
function withNode(model: OnnxModel, old: OnnxNode, what: string, ...nodes: readonly OnnxNode[]): Edited {
  const all = model.graph.nodes.flatMap((node) => (node === old ? nodes : [node]));
  return withGraph(model, `${old.opType} ${old.outputs[0]}: ${what}`, { nodes: all });
}

/** Half of the time a node of a kind of which there are few, so that rare operators are edited as often as others. */
function anyNode({ graph: { nodes } }: OnnxModel, { pick, below }: Random): OnnxNode {
  if (below(2) === 0) return pick(nodes);
  const type = pick([...new Set(nodes.map(({ opType }) => opType))]);
  return pick(nodes.filter(({ opType }) => opType === type));
}

const NAMES = [
  ..."alpha beta transA transB axis axes keepdims epsilon momentum spatial training_mode is_test stash_type p".split(
    " ",
  ),
  ..."auto_pad ceil_mode count_include_pad storage_order dilations group kernel_shape pads strides".split(
    " ",
  ),
  ..."allowzero noop_with_empty_axes to saturate min max mode value start end perm broadcast consumed_inputs".split(
    " ",
  ),
];
const VALUES: readonly OnnxAttribute[] = [
  ...[-3, -2, -1, 0, 1, 2, 3, 10, 11].map(int),
  ...[0, 1, 1e-5, 1e-3, 0.999, 2, -1, 1e-12, Number.NaN, Number.POSITIVE_INFINITY].map(float),
  ...["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", "constant", "reflect", ""].map(text),
  ...[
    [],
    [0],
    [1],
    [2, 3],
    [-2, -1],
    [3, 2],
    [1, 1],
    [2, 2],
    [1, 2, 3],
    [0, 0, 0, 0],
    [1, 1, 1, 1],
    [0, 1, 0, 1],
    [3, 3],
  ].map((values) => ints(...values)),
];

const TYPES =
  "Relu Sigmoid Tanh Abs Neg Identity LeakyRelu Elu Gelu HardSigmoid Softmax LogSoftmax Floor Sqrt Exp Erf Sign Not Add Sub Mul Div Max Min Mean Sum Pow PRelu MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool ReduceMean ReduceMax ReduceSum ReduceL2 Conv ConvTranspose Gemm MatMul BatchNormalization InstanceNormalization LayerNormalization LpNormalization Dropout Flatten Reshape Squeeze Unsqueeze Transpose Cast Clip Pad Shape Size Concat Gather Expand Constant".split(
    " ",
  );

/** Nodes of one input that an edge may be given. */
const INSERTED: readonly (readonly [string, Readonly<Record<string, OnnxAttribute>>, ...Tensor[]])[] = [
  ...["Identity", "Relu", "Abs", "Neg", "Sigmoid", "Tanh", "Floor", "Dropout", "Softmax", "Flatten"].map(
    (type) => [type, {}] as const,
  ),
  ...[1, 10, 11, 16, 6].map((to) => ["Cast", { to: int(to) }] as const),
  ["LeakyRelu", { alpha: float(1e-3) }],
  ["Clip", {}],
  ["Clip", { min: float(-1e30), max: float(1e30) }],
  ["Clip", {}, scalar(0)],
  ["Clip", {}, scalar(-1e4), scalar(1e4)],
  ["Mul", {}, scalar(1)],
  ["Mul", {}, scalar(1 + 2 ** -10)],
  ["Add", {}, scalar(0)],
  ["Add", {}, scalar(1e-3)],
  ["Div", {}, scalar(1)],
  ["Pow", {}, scalar(1)],
  ["Pad", { mode: text("constant") }, whole(0, 0, 0, 0, 0, 0, 0, 0)],
  ["Pad", { mode: text("reflect") }, whole(0, 0, 0, 0, 0, 0, 0, 0)],
  ["Pad", { mode: text("constant") }, whole(0, 0, 0, 0, 0, 0, 0, 1)],
  ["Pad", { pads: ints(0, 0, 0, 0, 0, 0, 0, 0), value: float(1) }],
  ["Pad", { pads: ints(0, 0, 1, 0, 0, 0, -1, 0) }],
  ["Transpose", {}],
  ["Transpose", { perm: ints(0, 1, 3, 2) }],
  ["Transpose", { perm: ints(0, 1, 2, 3) }],
  ["ReduceMean", { axes: ints(2, 3), keepdims: int(1) }],
  ["MaxPool", { kernel_shape: ints(1, 1) }],
  ["AveragePool", { kernel_shape: ints(3, 3), pads: ints(1, 1, 1, 1) }],
  ["Reshape", {}, whole(0, 0, -1, 1)],
  ["Reshape", {}, whole(0, 0, 0, 0)],
  ["Reshape", {}, whole(-1, 0)],
  ["Squeeze", {}],
  ["Squeeze", {}, whole(2, 3)],
  ["QuantizeLinear", {}, scalar(0.1)],
];

function scalar(value: number): Tensor<"float32"> {
  return { dtype: "float32", shape: [], data: Float32Array.of(value) };
}

function whole(...values: readonly number[]): Tensor<"int64"> {
  return { dtype: "int64", shape: [values.length], data: BigInt64Array.from(values, BigInt) };
}

/** A node on an edge, whose constants are initializers of their own. */
function inserted(
  { pick }: Random,
  output: string,
  input: string,
): Pick<OnnxGraph, "nodes" | "initializers"> & { what: string } {
  const [type, attributes, ...tensors] = pick(INSERTED);
  const constants = tensors.map((tensor, index) => [`${output}/constant${index}`, tensor] as const);
  const node = onnxNode(output, type, [input, ...constants.map(([name]) => name)], attributes);
  const given = tensors.map(({ data }) => String(data)).join("; ");
  return {
    what: `${type} ${JSON.stringify(attributes)} ${given}`,
    nodes: [node],
    initializers: new Map(constants),
  };
}

const EDITS: readonly Edit[] = [
  attribute,
  attribute,
  attribute,
  operator,
  inputs,
  inputs,
  constant,
  constant,
  constant,
  insert,
  insert,
  bypass,
  outputs,
  interfaces,
];

/** Another value of an attribute, one less, one more, or one of another type. */
function attribute(model: OnnxModel, random: Random): Edited {
  const { pick, below } = random;
  const node = anyNode(model, random);
  const attributes = new Map(node.attributes);
  const own = [...attributes.keys()];
  const name = own.length > 0 && below(4) > 0 ? pick(own) : pick(NAMES);
  const old = attributes.get(name);
  const choice = below(4);
  if (choice === 0) attributes.delete(name);
  else if (choice === 1 || !old) attributes.set(name, pick(VALUES));
  else attributes.set(name, nudged(old, random));
  const shown = attributes.get(name);
  return withNode(
    model,
    node,
    `${name} = ${shown ? JSON.stringify(shown.type === "tensor" ? "tensor" : shown.value) : "left out"}`,
    {
      ...node,
      attributes,
    },
  );
}

function nudged(old: OnnxAttribute, random: Random): OnnxAttribute {
  const { pick, below } = random;
  if (old.type === "int") return int(old.value + pick([-2, -1, 1, 2]));
  if (old.type === "float") return float(old.value * pick([0, -1, 1 + 2 ** -10, 10, 0.5]));
  if (old.type === "tensor") return { type: "tensor", value: changed(old.value, random).tensor };
  if (old.type === "ints") {
    const at = below(old.value.length);
    const moved = old.value.map((value, index) => (index === at ? value + pick([-1, 1, 2]) : value));
    return ints(
      ...pick([
        moved,
        old.value.toReversed(),
        old.value.slice(1),
        [...old.value, 0],
        [...old.value, ...old.value],
      ]),
    );
  }
  return pick(VALUES);
}

function operator(model: OnnxModel, random: Random): Edited {
  const { pick, below } = random;
  const node = anyNode(model, random);
  if (below(5) === 0) {
    const domain = pick(["com.microsoft", "ai.onnx.ml", "custom"]);
    const { model: edited, what } = withNode(model, node, `domain ${domain}`, { ...node, domain });
    return { what, model: { ...edited, customOpsets: new Map([[domain, 1]]) } };
  }
  const opType = pick(TYPES);
  return withNode(model, node, `is ${opType}`, { ...node, opType });
}

/** Any value of the graph, those nearby more often. */
function anyValue({ graph }: OnnxModel, { pick, below }: Random, near: number): string {
  const nodes = below(2) === 0 ? graph.nodes : graph.nodes.slice(Math.max(0, near - 12), near + 12);
  return pick([
    ...nodes.flatMap((node) => node.outputs),
    ...graph.inputs.map(({ name }) => name),
    ...(below(4) === 0 ? graph.initializers.keys() : []),
  ]);
}

function inputs(model: OnnxModel, random: Random): Edited | undefined {
  const { pick, below } = random;
  const node = anyNode(model, random);
  if (node.inputs.length === 0) return undefined;
  const at = below(node.inputs.length);
  const value = anyValue(model, random, model.graph.nodes.indexOf(node));
  const changes: readonly (readonly [string, readonly string[]])[] = [
    [`input ${at} is ${value}`, node.inputs.with(at, value)],
    [`input ${at} is ${value}`, node.inputs.with(at, value)],
    ["inputs reversed", node.inputs.toReversed()],
    ["without its last input", node.inputs.slice(0, -1)],
    [`another input ${value}`, [...node.inputs, value]],
    [`input ${at} left out`, node.inputs.with(at, "")],
    ["an empty input at the end", [...node.inputs, ""]],
    ["reads itself", node.inputs.with(at, node.outputs[0] ?? "")],
  ];
  const [what, changedInputs] = pick(changes);
  return withNode(model, node, what, { ...node, inputs: changedInputs });
}

/** A tensor with something changed, from a bit to all of it. */
function changed(
  tensor: Tensor,
  { pick, below }: Random,
): { readonly what: string; readonly tensor: Tensor } {
  const { dtype, shape } = tensor;
  const data = tensor.data.slice();
  const at = below(data.length);
  if (data instanceof BigInt64Array) {
    data[at] = (data[at] ?? 0n) + pick([-1n, 1n, 2n, 512n, 2n ** 32n]);
    return { what: `whole number ${at} is ${data[at]}`, tensor: { dtype: "int64", shape, data } };
  }
  const choice = below(9);
  const old = data[at] as number;
  const sized = {
    ...tensor,
    shape: pick([shape.toReversed(), [1, ...shape], [...shape, 1], [elementCount(shape)]]),
  };
  if (choice === 0) return { what: `shape [${sized.shape}]`, tensor: sized };
  if (choice === 1)
    return {
      what: "in float64",
      tensor: { dtype: "float64", shape, data: Float64Array.from(data as Float32Array) },
    };
  if (choice === 2) {
    const factor = pick([0, -1, 2, 1 + 2 ** -20, 1e-30, 1e30]);
    for (let index = 0; index < data.length; index++) data[index] = (data[index] as number) * factor;
    return { what: `times ${factor}`, tensor: { ...tensor, data } as Tensor };
  }
  if (choice === 3) {
    data.reverse();
    return { what: "reversed", tensor: { ...tensor, data } as Tensor };
  }
  const values = [
    old * 2,
    old + 1e-3,
    -old,
    0,
    -0,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    1e-42,
    old * (1 + 2 ** -23),
    old + 1e38,
  ];
  data[at] = pick(values);
  return { what: `element ${at} is ${data[at]} for ${old}`, tensor: { dtype, shape, data } as Tensor };
}

function constant(model: OnnxModel, random: Random): Edited {
  const { pick, below } = random;
  const { initializers } = model.graph;
  const names = [...initializers.keys()];
  // Half of the time one of a size of which there are few.
  const size = pick([...new Set([...initializers.values()].map(({ data }) => data.length))]);
  const name = pick(
    below(2) === 0 ? names : names.filter((each) => initializers.get(each)?.data.length === size),
  );
  const tensor = initializers.get(name) as Tensor;
  const same = names.filter(
    (each) => each !== name && String(initializers.get(each)?.shape) === String(tensor.shape),
  );
  const other = same.length > 0 && below(6) === 0 ? pick(same) : undefined;
  const next =
    other === undefined
      ? changed(tensor, random)
      : { what: `that of ${other}`, tensor: initializers.get(other) as Tensor };
  return withGraph(model, `constant ${name}: ${next.what}`, {
    initializers: new Map(initializers).set(name, next.tensor),
  });
}

/** A node on an edge, or behind a value for all that read it. */
function insert(model: OnnxModel, random: Random): Edited | undefined {
  const { below } = random;
  const node = anyNode(model, random);
  const at = below(Math.max(1, node.inputs.length));
  const input = node.inputs[at];
  if (!input) return undefined;
  const { what, nodes, initializers } = inserted(random, "inserted", input);
  const edited = withNode(model, node, `${what} before input ${at}`, ...nodes, {
    ...node,
    inputs: node.inputs.with(at, "inserted"),
  });
  return withGraph(edited.model, edited.what, {
    initializers: new Map([...model.graph.initializers, ...initializers]),
  });
}

/** A node left out: what reads it reads one of its inputs. */
function bypass(model: OnnxModel, random: Random): Edited | undefined {
  const node = anyNode(model, random);
  const [output = ""] = node.outputs;
  if (node.inputs.length === 0) return undefined;
  const input = random.pick(node.inputs);
  const handed = model.graph.outputs.some(({ name }) => name === output);
  const nodes = model.graph.nodes.flatMap((each) => {
    if (each === node) return handed ? [onnxNode(output, "Identity", [input])] : [];
    return [{ ...each, inputs: each.inputs.map((name) => (name === output && !handed ? input : name)) }];
  });
  return withGraph(model, `${node.opType} ${output} left out for ${input}`, { nodes });
}

/** The outputs: another value, more, fewer, another order, something behind them. */
function outputs(model: OnnxModel, random: Random): Edited {
  const { pick, below } = random;
  const { graph } = model;
  const value = anyValue(model, random, graph.nodes.length - below(graph.nodes.length));
  const extra = { name: value, dtype: "float32" } as const;
  const [first, ...others] = graph.outputs;
  const choice = below(6);
  if (choice === 0)
    return withGraph(model, `outputs: ${value} first`, { outputs: [extra, ...graph.outputs] });
  if (choice === 1) return withGraph(model, `outputs: ${value} last`, { outputs: [...graph.outputs, extra] });
  if (choice === 2) return withGraph(model, "outputs reversed", { outputs: graph.outputs.toReversed() });
  if (choice === 3 && first)
    return withGraph(model, "output declared otherwise", {
      outputs: [
        {
          ...first,
          dtype: pick(["float16", "int64", "float32"]),
          shape: pick([
            [2, 2],
            ["n", "d"],
          ]),
        },
        ...others,
      ],
    });
  const { what, nodes, initializers } = inserted(random, "tail", first?.name ?? "");
  return withGraph(model, `outputs: ${what} behind`, {
    nodes: [...graph.nodes, ...nodes],
    initializers: new Map([...graph.initializers, ...initializers]),
    outputs: [{ name: "tail" }, ...others],
  });
}

/** What a file says around its nodes: opset, inputs, names. */
function interfaces(model: OnnxModel, random: Random): Edited {
  const { pick, below } = random;
  const { graph, opset } = model;
  const [input, ...others] = graph.inputs;
  const name = pick([...graph.initializers.keys()]);
  const node = anyNode(model, random);
  switch (below(7)) {
    case 0: {
      const other = pick([opset - 1, opset + 1, opset + 5, 1, 6, 7, 9, 10, 11, 12, 13, 17, 18, 21, 30]);
      return { what: `opset ${other} for ${opset}`, model: { ...model, opset: other } };
    }
    case 1:
      return withGraph(model, `input ${name} with a default`, {
        inputs: [...graph.inputs, { name, dtype: "float32" }],
      });
    case 2:
      return withGraph(model, `initializer ${name} gone, an input instead`, {
        inputs: [...graph.inputs, { name, dtype: "float32" }],
        initializers: new Map([...graph.initializers].filter(([key]) => key !== name)),
      });
    case 3: {
      const dtype = pick(["float16", "float64", "uint8", "int64"] as const);
      return withGraph(model, `input of ${dtype}`, {
        inputs: [{ ...input, name: input?.name ?? "", dtype }, ...others],
      });
    }
    case 4: {
      const shape = [pick([1, 2, "n"]), pick([1, 3, "c"]), pick([64, "h"]), pick([32, "w"])];
      return withGraph(model, `input of shape ${shape}`, {
        inputs: [{ ...input, name: input?.name ?? "", shape }, ...others],
      });
    }
    case 5: {
      const value = pick(graph.nodes.flatMap((each) => each.outputs));
      return withNode(model, node, `computes ${value}`, { ...node, outputs: [value] });
    }
    default:
      return withNode(model, node, "another output", {
        ...node,
        outputs: [...node.outputs, pick(["", "extra"])],
      });
  }
}
