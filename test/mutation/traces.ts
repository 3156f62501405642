import type { LayerNode, ParameterRole } from "../../src/arch/index.js";
import { type Checkpoint, openCheckpoint } from "../../src/convert/open/checkpoint.js";
import { InputError } from "../../src/core/errors.js";
import type { Tensor } from "../../src/core/tensor.js";
import { checkpoint as archive, global, str, tensor } from "../convert/formats/pth/build.js";
import { ONE_BLOCK, TINY_FAMILIES, type TinyFamily, tinyCheckpoint } from "./families.js";
import type { ReaderMutant } from "./readers.js";

/**
 * TorchScript archives, as `torch.jit.trace` writes them: a class for each module, whose code calls torch's functions, and a network that
 * calls the modules. With another call in one place the weights are the same, so that a reader must refuse the archive and name the layer.
 */

/** A line of the network's `forward`, and the layer that it computes. */
interface Line {
  readonly layer: string;
  /** The value that it assigns, and what it assigns to it. */
  readonly value: string;
  readonly expression: string;
}

/** A trace as text: the body of each module's `forward` by the module's path, with its parameters, and the network's. */
export interface TracedCode {
  readonly modules: ReadonlyMap<string, { readonly parameters: readonly string[]; readonly body: string }>;
  readonly lines: readonly Line[];
  /** The value that it returns. */
  readonly result: string;
}

const ROLES: Readonly<Record<ParameterRole, string>> = {
  weight: "weight",
  bias: "bias",
  runningMean: "running_mean",
  runningVar: "running_var",
};

const EPSILON = "1.0000000000000001e-05";

/** The call of torch's function that a layer is, of `x` and its own parameters. */
function callOf({ op, parameters }: LayerNode): string {
  const own = (role: ParameterRole): string => (parameters[role] === undefined ? "None" : ROLES[role]);
  const list = (values: readonly number[]): string => `[${values.join(", ")}]`;
  switch (op.kind) {
    case "conv":
      return `torch._convolution(x, weight, ${own("bias")}, ${list(op.stride)}, ${list(op.padding)}, [1, 1], False, [0, 0], ${op.groups}, False, False, True, True)`;
    case "linear":
      return "torch.linear(x, weight, bias)";
    case "batchNorm":
      return `torch.batch_norm(x, weight, bias, running_mean, running_var, False, 0.10000000000000001, ${EPSILON}, True)`;
    case "instanceNorm":
      return `torch.instance_norm(x, weight, bias, None, None, True, 0.10000000000000001, ${EPSILON}, True)`;
    case "layerNorm":
      return `torch.layer_norm(x, [${op.channels}, 1, 1], weight, bias, ${EPSILON})`;
    case "maxPool":
      return `torch.max_pool2d(x, ${list(op.kernel)}, ${list(op.stride)}, ${list(op.padding)}, [1, 1])`;
    case "avgPool":
      return `torch.avg_pool2d(x, ${list(op.kernel)}, ${list(op.stride)}, [0, 0])`;
    case "globalAvgPool":
      return "torch.adaptive_avg_pool2d(x, [1, 1])";
    case "relu":
      return "torch.relu(x)";
    case "sigmoid":
      return "torch.sigmoid(x)";
    default:
      throw new Error(`no module for ${op.kind}`);
  }
}

/** What a trace of a network says, as far as its embedding. */
export function traceOf({ graph }: Checkpoint): TracedCode {
  const modules = new Map<string, { readonly parameters: readonly string[]; readonly body: string }>();
  const lines: Line[] = [];
  const values = new Map<string, string>();
  const { features } = graph.outputs;
  const last = graph.nodes.findIndex(({ name }) => name === features);
  for (const [index, node] of graph.nodes.slice(0, last + 1).entries()) {
    const inputs = node.inputs.map((input) => values.get(input) ?? "x");
    const [first = "x", second = ""] = inputs;
    const value = node.op.kind === "input" ? "x" : `v${index}`;
    values.set(node.name, value);
    if (node.op.kind === "input") continue;
    const add = (expression: string, assigned = value): void => {
      lines.push({ layer: node.name, value: assigned, expression });
    };
    const isBlockEnd = node.op.kind === "relu" && node.name === node.block;
    if (node.op.kind === "scale") add(`torch.mul(${second}, ${first})`);
    else if (node.op.kind === "add")
      inputs.slice(1).reduce((sum, input, at) => {
        const assigned = at === inputs.length - 2 ? value : `${value}_${at}`;
        add(`torch.add(${sum}, ${input})`, assigned);
        return assigned;
      }, first);
    else if (node.op.kind === "flatten") {
      add(`ops.prim.NumToTensor(torch.size(${first}, 0))`, `${value}_size`);
      add(`torch.view(${first}, [int(${value}_size), -1])`);
    } else if (isBlockEnd) add(`torch.relu(${first})`);
    else {
      // The calls of one module in all streams.
      const path = node.name.replace(/\[\d+\]/, "");
      modules.set(path, { parameters: parametersOf(node), body: `return ${callOf(node)}` });
      add(`(${moduleName(path)}).forward(${first}, )`);
    }
  }
  return { modules, lines, result: values.get(features) ?? "" };
}

/** The names that a module's own tensors have in it. */
function parametersOf({ parameters }: LayerNode): readonly string[] {
  return (Object.keys(parameters) as ParameterRole[]).map((role) => ROLES[role]);
}

/** What the network's `forward` calls a module. */
function moduleName(path: string): string {
  return `m_${path.replaceAll(".", "_")}`;
}

/** The archive of a trace. */
export function tracedArchive({ stateDict }: Checkpoint, code: TracedCode): Uint8Array {
  const storages: Record<string, Uint8Array> = {};
  const files: Record<string, string> = { "constants.pkl": ")." };
  const stored = (path: string): string => {
    const { shape, data } = stateDict.get(path) as Tensor;
    const key = String(Object.keys(storages).length);
    storages[key] = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const stride = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));
    return tensor({ key, numel: data.length, shape, stride });
  };
  const children = new Map<string, Set<string>>();
  for (const path of code.modules.keys())
    path.split(".").forEach((name, depth, names) => {
      const around = names.slice(0, depth).join(".");
      children.set(around, (children.get(around) ?? new Set()).add(name));
    });
  const object = (path: string): string => {
    const own = code.modules.get(path);
    const inside = [...(children.get(path) ?? [])];
    const file = path === "" ? "net" : `layer.${moduleName(path)}`;
    const className = `__torch__.${file}.${path === "" ? "Net" : "Layer"}`;
    const declared = (name: string, type: string): string =>
      /^\d/.test(name) ? `  __annotations__["${name}"] = ${type}` : `  ${name} : ${type}`;
    const below = inside.map((name) => (path === "" ? name : `${path}.${name}`));
    files[`code/__torch__/${file.replaceAll(".", "/")}.py`] = [
      `class ${path === "" ? "Net" : "Layer"}(Module):`,
      `  __parameters__ = [${(own?.parameters ?? [])
        .filter((name) => !/^running/.test(name))
        .map((name) => `"${name}", `)
        .join("")}]`,
      `  __buffers__ = [${(own?.parameters ?? [])
        .filter((name) => /^running/.test(name))
        .map((name) => `"${name}", `)
        .join("")}]`,
      ...(own?.parameters ?? []).map((name) => `  ${name} : Tensor`),
      "  training : bool",
      ...inside.map((name, at) => declared(name, `__torch__.layer.${moduleName(below[at] ?? "")}.Layer`)),
      ...(path === "" ? forwardOf(code) : own ? methodOf(className, own) : []),
      "",
    ].join("\n");
    const state = [
      `${str("training")}\x89`,
      ...(own?.parameters ?? []).map((name) => str(name) + stored(`${path}.${name}`)),
      ...inside.map((name, at) => str(name) + object(below[at] ?? "")),
    ];
    return `${global(className)})\x81}(${state.join("")}ub`;
  };
  return archive(object(""), storages, files);
}

function methodOf(
  className: string,
  { parameters, body }: { readonly parameters: readonly string[]; readonly body: string },
): readonly string[] {
  return [
    `  def forward(self: ${className},`,
    "    x: Tensor) -> Tensor:",
    ...parameters.map((name) => `    ${name} = self.${name}`),
    ...body.split("\n").map((line) => `    ${line}`),
  ];
}

function forwardOf({ modules, lines, result }: TracedCode): readonly string[] {
  const reached = (path: string): string =>
    path
      .split(".")
      .reduce(
        (of, name) =>
          /^\d/.test(name) ? `getattr(${of}, "${name}")` : `${of === "self" ? of : `(${of})`}.${name}`,
        "self",
      );
  return [
    "  def forward(self: __torch__.net.Net,",
    "    x: Tensor) -> Tensor:",
    ...[...modules.keys()].map((path) => `    ${moduleName(path)} = ${reached(path)}`),
    ...lines.map(({ value, expression }) => `    ${value} = ${expression}`),
    `    return ${result}`,
  ];
}

/** One mistake: what it is called, which calls may have it, and what then is in their place. */
interface TraceOperator {
  readonly operator: string;
  readonly says: string;
  /** Of the function that is called. */
  readonly of: RegExp;
  /** Of a module's body, or of a line's expression. */
  readonly change: (code: string) => string;
}

const EPSILONS = "traced code with another ε";
const WINDOW = "traced code with another window";
const POOL = "traced code that pools otherwise";
const ACTIVATION = "traced code with another activation";
const NORM = "traced code that normalises otherwise";
const ADDED = "traced code with an operation more";

const replace =
  (from: string | RegExp, to: string) =>
  (code: string): string =>
    code.replace(from, to);

/** The module's call, and something behind it. */
const behind =
  (call: string) =>
  (code: string): string =>
    `${code.replace(/^return /, "y = ")}\nreturn ${call}`;

const NORMS = /^torch\.(?:batch|instance|layer)_norm/;
const CONV = /^torch\._convolution/;
/** Of kernels of one pixel, dilation says nothing. */
const PADDED = /^torch\._convolution\(.*\], \[[1-9], [1-9]\], \[1, 1\], False/;

const MODULES: readonly TraceOperator[] = [
  { operator: EPSILONS, says: "ε 1e-3", of: NORMS, change: replace(EPSILON, "0.001") },
  { operator: EPSILONS, says: "ε 1e-6", of: NORMS, change: replace(EPSILON, "9.9999999999999995e-07") },
  { operator: WINDOW, says: "stride 3", of: CONV, change: replace(/\[\d, \d\]/, "[3, 3]") },
  { operator: WINDOW, says: "padding 2", of: CONV, change: replace(/(\[\d, \d\], )\[\d, \d\]/, "$1[2, 2]") },
  { operator: WINDOW, says: "dilation 2", of: PADDED, change: replace("[1, 1], False", "[2, 2], False") },
  { operator: WINDOW, says: "transposed", of: CONV, change: replace("[1, 1], False", "[1, 1], True") },
  {
    operator: POOL,
    says: "rounded up",
    of: /^torch\.(?:max|avg)_pool2d/,
    change: replace(/\)$/, ", True)"),
  },
  {
    operator: POOL,
    says: "a window of 4",
    of: /^torch\.(?:max|avg)_pool2d/,
    change: replace(/\[\d, \d\]/, "[4, 4]"),
  },
  {
    operator: POOL,
    says: "two rows",
    of: /^torch\.adaptive_avg_pool2d/,
    change: replace("[1, 1]", "[2, 1]"),
  },
  {
    operator: POOL,
    says: "the maximum",
    of: /^torch\.adaptive_avg_pool2d/,
    change: replace("adaptive_avg_pool2d(x, [1, 1])", "amax(x, [2, 3], True)"),
  },
  {
    operator: ACTIVATION,
    says: "leaky",
    of: /^torch\.relu/,
    change: replace("relu(x)", "leaky_relu(x, 0.01)"),
  },
  {
    operator: ACTIVATION,
    says: "ReLU6",
    of: /^torch\.relu/,
    change: replace("relu(x)", "hardtanh(x, 0., 6.)"),
  },
  { operator: ACTIVATION, says: "none", of: /^torch\.relu/, change: () => "return x" },
  {
    operator: ACTIVATION,
    says: "hard sigmoid",
    of: /^torch\.sigmoid/,
    change: replace("sigmoid", "hardsigmoid"),
  },
  { operator: ACTIVATION, says: "tanh", of: /^torch\.sigmoid/, change: replace("sigmoid", "tanh") },
  {
    operator: NORM,
    says: "in training",
    of: /^torch\.batch_norm/,
    change: replace("running_var, False", "running_var, True"),
  },
  {
    operator: NORM,
    says: "by an instance",
    of: /^torch\.batch_norm/,
    change: () =>
      `return torch.instance_norm(x, weight, bias, None, None, True, 0.10000000000000001, ${EPSILON}, True)`,
  },
  {
    operator: NORM,
    says: "mean and variance exchanged",
    of: /^torch\.batch_norm/,
    change: replace("running_mean, running_var", "running_var, running_mean"),
  },
  { operator: ADDED, says: "× 2", of: /./, change: behind("torch.add(y, y)") },
  { operator: ADDED, says: "negated", of: /./, change: behind("torch.neg(y)") },
  { operator: ADDED, says: "doubled in place", of: CONV, change: behind("torch.add_(y, y)") },
  { operator: ADDED, says: "dropout that is on", of: CONV, change: behind("torch.dropout(y, 0.5, True)") },
];

/** Wrong lines of the network, by the layer that they compute. */
function wiring({
  lines,
}: TracedCode): readonly (readonly [operator: string, line: Line, expression: string])[] {
  const products = lines.filter(({ expression }) => expression.startsWith("torch.mul("));
  const sums = lines.filter(
    ({ expression, layer }) => /^torch\.add\(/.test(expression) && layer.endsWith(".add"),
  );
  const streams = lines.filter(
    ({ expression, layer }) => /^torch\.add\(/.test(expression) && layer.endsWith(".aggregate"),
  );
  const operands = ({ expression }: Line): readonly string[] =>
    /\((\w+), (\w+)\)/.exec(expression)?.slice(1) ?? [];
  const spread = <T>(items: readonly T[]): readonly T[] =>
    [...new Set([0, Math.floor(items.length / 2)])].flatMap((at) => items[at] ?? []);
  return [
    ...spread(products).map((line) => ["traced code without a gate", line, operands(line)[1] ?? ""] as const),
    ...spread(products.slice(1)).map((line) => {
      const other = products[products.indexOf(line) - 1] as Line;
      return [
        "traced code with another stream's gate",
        line,
        `torch.mul(${operands(other)[0]}, ${operands(line)[1]})`,
      ] as const;
    }),
    ...spread(sums).map((line) => ["traced code without a residual", line, operands(line)[0] ?? ""] as const),
    ...spread(streams).map((line) => {
      const [first] = operands(line);
      return ["traced code with a stream twice", line, `torch.add(${first}, ${first})`] as const;
    }),
    ...spread(sums).map(
      (line) =>
        ["traced code that weights a sum", line, `torch.add(${operands(line).join(", ")}, alpha=2)`] as const,
    ),
  ];
}

/** What is said of a trace that is refused; undefined of one that is read. */
function refusal(checkpoint: Checkpoint, code: TracedCode): string | undefined {
  try {
    openCheckpoint(tracedArchive(checkpoint, code), { subject: "model.pt", arch: checkpoint.spec });
    return undefined;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return error.message;
  }
}

/** In how many families of a sample each mistake is made, the next ones in turn. */
const SAMPLED_FAMILIES = 1;

/**
 * Every mistake in calls of every family that have its kind, each in an archive of its own.
 *
 * @param count how many modules get each mistake: the first, and others at equal distances
 * @param only a sample: this family's turns, in its network of one block. Undefined: all mistakes in all families
 */
export function* traceMutants(count = 3, only?: TinyFamily): Generator<ReaderMutant> {
  for (const [turn, family] of TRACED_FAMILIES.entries()) {
    if (only !== undefined && family !== only) continue;
    const isTurn = (index: number): boolean =>
      only === undefined || (index + turn) % TRACED_FAMILIES.length < SAMPLED_FAMILIES;
    const checkpoint = tinyCheckpoint(only ? ONE_BLOCK[only] : family);
    const code = traceOf(checkpoint);
    const { nodes } = checkpoint.graph;
    for (const [index, { operator, says, of, change }] of MODULES.entries()) {
      if (!isTurn(index)) continue;
      const fitting = [...code.modules].filter(([, { body }]) => of.test(body.replace("return ", "")));
      const chosen = new Set(
        Array.from({ length: count }, (_, i) => fitting[Math.floor((i * fitting.length) / count)]),
      );
      for (const entry of chosen) {
        if (!entry) continue;
        const [path, module] = entry;
        const body = change(module.body);
        if (body === module.body) continue;
        const modules = new Map(code.modules).set(path, { ...module, body });
        // The first call of a module that all streams share; what is behind it is found where it is read.
        const calls = nodes.filter(({ name }) => name.replace(/\[\d+\]/, "") === path).slice(0, 1);
        const readers = nodes.filter(({ inputs }) => calls.some(({ name }) => inputs.includes(name)));
        const layers = [...calls, ...(operator === ADDED ? readers : [])].map(({ name }) => name);
        const sentence = refusal(checkpoint, { ...code, modules });
        yield mutantOf(family, operator, `${path}: ${says}`, layers, sentence);
      }
    }
    for (const [index, [operator, line, expression]] of wiring(code).entries()) {
      if (!isTurn(index)) continue;
      const lines = code.lines.map((each) => (each === line ? { ...line, expression } : each));
      yield mutantOf(family, operator, line.layer, [line.layer], refusal(checkpoint, { ...code, lines }));
    }
  }
}

/** Families that torch traces: of an attribute model its forward gives probabilities, which are no embedding. */
export const TRACED_FAMILIES: readonly TinyFamily[] = TINY_FAMILIES.filter(
  (family) => family !== "attribute",
);

/** @param layers that may be named */
function mutantOf(
  family: TinyFamily,
  operator: string,
  says: string,
  layers: readonly string[],
  sentence = "",
): ReaderMutant {
  // Code that no trace has is quoted; the embedding is the last layer, or what is behind it.
  const place = / at ([\w.[\]]+)[ ,]/.exec(sentence)?.[1];
  const isQuoted = sentence.includes("not a plain trace") || sentence.includes("with the embedding");
  const located = isQuoted || (place !== undefined && layers.includes(place));
  return {
    family,
    operator,
    says,
    outcome: { killed: sentence !== "", located, explained: located, faults: [] },
  };
}
