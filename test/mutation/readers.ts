import type { LayerNode } from "../../src/arch/index.js";
import { type Checkpoint, openCheckpoint } from "../../src/convert/open/checkpoint.js";
import { InputError } from "../../src/core/errors.js";
import type { StateDict, Tensor } from "../../src/core/tensor.js";
import {
  checkpoint as archive,
  dict,
  global,
  int,
  str,
  tensor,
  tuple,
} from "../convert/formats/pth/build.js";
import { ONE_BLOCK, TINY_FAMILIES, type TinyFamily, tinyCheckpoint } from "./families.js";
import type { Outcome } from "./mutants.js";

/**
 * Models pickled whole, as `torch.save(model)` writes them, with something else in one module than its layer has: nothing in
 * their weights shows it, so that a reader must refuse them and name the module.
 */

type Value = null | boolean | number | string | Float | readonly number[];

/** Written as a float, whatever its value. */
interface Float {
  readonly float: number;
}

interface Module {
  /** Below `torch.nn.modules`. */
  readonly className: string;
  readonly attributes: Readonly<Record<string, Value>>;
}

/** What is pickled of each layer that is a module, by its path. */
export function modulesOf({ graph }: Checkpoint): ReadonlyMap<string, Module> {
  const modules = new Map<string, Module>();
  for (const node of graph.nodes) {
    const path = node.name.replace(/\[\d+\]/, "");
    const module = path === node.block || path === "classifier.sigmoid" ? undefined : moduleOf(node);
    if (module) modules.set(path, module);
  }
  return modules;
}

function moduleOf({ op }: LayerNode): Module | undefined {
  switch (op.kind) {
    case "conv": {
      const { kernel, stride, padding, groups } = op;
      const window = { kernel_size: kernel, stride, padding, dilation: [1, 1], groups };
      return {
        className: "conv.Conv2d",
        attributes: { ...window, transposed: false, output_padding: [0, 0], padding_mode: "zeros" },
      };
    }
    case "linear":
      return { className: "linear.Linear", attributes: {} };
    case "batchNorm":
    case "instanceNorm": {
      const tracked = op.kind === "batchNorm";
      return {
        className: tracked ? "batchnorm.BatchNorm2d" : "instancenorm.InstanceNorm2d",
        attributes: { eps: { float: op.epsilon }, affine: true, track_running_stats: tracked },
      };
    }
    case "layerNorm":
      return {
        className: "normalization.LayerNorm",
        attributes: { eps: { float: op.epsilon }, elementwise_affine: true },
      };
    case "relu":
      return { className: "activation.ReLU", attributes: { inplace: true } };
    case "sigmoid":
      return { className: "activation.Sigmoid", attributes: {} };
    case "maxPool":
    case "avgPool": {
      const window = { kernel_size: op.kernel, stride: op.stride, ceil_mode: false };
      return op.kind === "maxPool"
        ? {
            className: "pooling.MaxPool2d",
            attributes: { ...window, padding: op.padding, dilation: 1, return_indices: false },
          }
        : {
            className: "pooling.AvgPool2d",
            attributes: { ...window, padding: 0, count_include_pad: true, divisor_override: null },
          };
    }
    case "globalAvgPool":
      return { className: "pooling.AdaptiveAvgPool2d", attributes: { output_size: 1 } };
    case "globalMaxPool":
      return {
        className: "pooling.AdaptiveMaxPool2d",
        attributes: { output_size: 1, return_indices: false },
      };
    default:
      return undefined;
  }
}

/** The file of a whole model: its modules as a tree, each with its own tensors. */
export function wholeModel(stateDict: StateDict, modules: ReadonlyMap<string, Module>): Uint8Array {
  const storages: Record<string, Uint8Array> = {};
  const children = new Map<string, string[]>([["", []]]);
  for (const path of modules.keys()) {
    const names = path.split(".");
    names.forEach((name, depth) => {
      const around = names.slice(0, depth).join(".");
      const siblings = children.get(around) ?? [];
      if (!siblings.includes(name)) siblings.push(name);
      children.set(around, siblings);
    });
  }
  const stored = ({ dtype, shape, data }: Tensor): string => {
    const key = String(Object.keys(storages).length);
    storages[key] = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const stride = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));
    return tensor({ type: dtype === "int64" ? "Long" : "Float", key, numel: data.length, shape, stride });
  };
  const tensorsOf = (path: string, wanted: (name: string) => boolean): string => {
    const own = [...stateDict].flatMap(([key, value]): [string, string][] => {
      const name = key.slice(path.length + 1);
      return key.startsWith(`${path}.`) && !name.includes(".") && wanted(name) ? [[name, stored(value)]] : [];
    });
    return dict(Object.fromEntries(own));
  };
  const isBuffer = (name: string): boolean => /^(?:running_|num_batches)/.test(name);
  const pickled = (path: string): string => {
    const inside = children.get(path) ?? [];
    const own = modules.get(path);
    const isSequence = path !== "" && inside.every((name) => /^\d+$/.test(name));
    const name = own?.className ?? (isSequence ? "container.Sequential" : undefined);
    const state = dict({
      training: "\x89",
      ...Object.fromEntries(
        Object.entries(own?.attributes ?? {}).map(([key, value]) => [key, pickledValue(value)]),
      ),
      _parameters: tensorsOf(path, (key) => !isBuffer(key)),
      _buffers: tensorsOf(path, isBuffer),
      _modules: pairs(inside.map((child) => [child, pickled(path === "" ? child : `${path}.${child}`)])),
    });
    const known = name?.startsWith("__main__.") ? name : `torch.nn.modules.${name}`;
    return `${global(name === undefined ? "torchreid.models.osnet.Block" : known)})\x81${state}b`;
  };
  return archive(pickled(""), storages);
}

/** A dict in the order of its entries, numbers as names included. */
function pairs(entries: readonly (readonly [string, string])[]): string {
  return `}(${entries.map(([key, value]) => str(key) + value).join("")}u`;
}

function pickledValue(value: Value): string {
  if (value === null) return "N";
  if (typeof value === "boolean") return value ? "\x88" : "\x89";
  if (typeof value === "number") return int(value);
  if (typeof value === "string") return str(value);
  if ("float" in value) {
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleBE(value.float);
    return `G${bytes.toString("latin1")}`;
  }
  return tuple(...value.map(int));
}

/** One mistake: what it is called, which modules may have it, and what then is in them. */
interface ReaderOperator {
  readonly operator: string;
  /** Of the classes that it is for, by their last names. */
  readonly classes: RegExp;
  /** What a right sentence contains besides the module's path. */
  readonly word: string;
  readonly change: (module: Module) => Module;
  /** Of modules of those classes, which: of kernels of one pixel, dilation and the mode of no padding say nothing. */
  readonly fits?: (module: Module) => boolean;
}

const isPadded = ({ attributes: { padding } }: Module): boolean => Array.isArray(padding) && padding[0] > 0;

const given =
  (attributes: Module["attributes"]) =>
  (module: Module): Module => ({ ...module, attributes: { ...module.attributes, ...attributes } });

const instead =
  (className: string, attributes: Module["attributes"] = {}) =>
  (): Module => ({ className, attributes });

const EPSILON = "a pickled module with another ε";
const WINDOW = "a pickled module with another window";
const POOL = "a pickled module that pools otherwise";
const ACTIVATION = "a pickled module with another activation";
const NORM = "a pickled module that normalises otherwise";

const NORMS = /^(?:BatchNorm2d|InstanceNorm2d|LayerNorm)$/;

const OPERATORS: readonly ReaderOperator[] = [
  { operator: EPSILON, classes: NORMS, word: "eps 0.001", change: given({ eps: { float: 1e-3 } }) },
  { operator: EPSILON, classes: NORMS, word: "eps 0.000001", change: given({ eps: { float: 1e-6 } }) },
  { operator: WINDOW, classes: /^Conv2d$/, word: "stride (3, 3)", change: given({ stride: [3, 3] }) },
  { operator: WINDOW, classes: /^Conv2d$/, word: "padding (2, 2)", change: given({ padding: [2, 2] }) },
  {
    operator: WINDOW,
    classes: /^Conv2d$/,
    word: "dilation (2, 2)",
    change: given({ dilation: [2, 2] }),
    fits: isPadded,
  },
  {
    operator: WINDOW,
    classes: /^Conv2d$/,
    word: "reflect",
    change: given({ padding_mode: "reflect" }),
    fits: isPadded,
  },
  { operator: POOL, classes: /^(?:Max|Avg)Pool2d$/, word: "ceil_mode", change: given({ ceil_mode: true }) },
  { operator: POOL, classes: /^(?:Max|Avg)Pool2d$/, word: "kernel_size", change: given({ kernel_size: 4 }) },
  { operator: POOL, classes: /^(?:Max|Avg)Pool2d$/, word: "stride", change: given({ stride: [1, 1] }) },
  {
    operator: POOL,
    classes: /^Adaptive(?:Max|Avg)Pool2d$/,
    word: "output_size",
    change: given({ output_size: [2, 1] }),
  },
  {
    operator: POOL,
    classes: /^AdaptiveAvgPool2d$/,
    word: "AdaptiveMaxPool2d",
    change: instead("pooling.AdaptiveMaxPool2d", { output_size: 1, return_indices: false }),
  },
  {
    operator: ACTIVATION,
    classes: /^ReLU$/,
    word: "LeakyReLU",
    change: instead("activation.LeakyReLU", { negative_slope: { float: 0.01 }, inplace: true }),
  },
  { operator: ACTIVATION, classes: /^ReLU$/, word: "ReLU6", change: instead("activation.ReLU6") },
  {
    operator: ACTIVATION,
    classes: /^Sigmoid$/,
    word: "Hardsigmoid",
    change: instead("activation.Hardsigmoid"),
  },
  { operator: NORM, classes: NORMS, word: "GroupNorm", change: instead("normalization.GroupNorm") },
  {
    operator: NORM,
    classes: /^(?:BatchNorm2d|InstanceNorm2d)$/,
    word: "track_running_stats",
    change: (module) =>
      given({ track_running_stats: module.attributes.track_running_stats !== true })(module),
  },
];

/** A file that was read, or refused. */
export interface ReaderMutant {
  readonly family: TinyFamily;
  readonly operator: string;
  readonly says: string;
  readonly outcome: Outcome;
}

/** In how many families of a sample each mistake is made, the next ones in turn. */
const SAMPLED_FAMILIES = 2;

/**
 * Every mistake in modules of every family that have its kind, each in a file of its own.
 *
 * @param count how many modules get each mistake: the first, and others at equal distances
 * @param only a sample: this family's turns, in its network of one block. Undefined: all mistakes in all families
 */
export function* readerMutants(count = 3, only?: TinyFamily): Generator<ReaderMutant> {
  for (const [turn, family] of TINY_FAMILIES.entries()) {
    if (only !== undefined && family !== only) continue;
    const checkpoint = tinyCheckpoint(only ? ONE_BLOCK[only] : family);
    const modules = modulesOf(checkpoint);
    for (const [index, { operator, classes, word, change, fits }] of OPERATORS.entries()) {
      if (only !== undefined && (index + turn) % TINY_FAMILIES.length >= SAMPLED_FAMILIES) continue;
      const fitting = [...modules].filter(
        ([, module]) => classes.test(module.className.split(".").at(-1) ?? "") && fits?.(module) !== false,
      );
      const chosen = new Set(
        Array.from({ length: count }, (_, i) => fitting[Math.floor((i * fitting.length) / count)]),
      );
      for (const entry of chosen) {
        if (!entry) continue;
        const [path, module] = entry;
        const sentence = refusal(checkpoint, new Map(modules).set(path, change(module)));
        const others = [...modules.keys()].filter((other) => sentence?.startsWith(`${other} `));
        yield {
          family,
          operator,
          says: `${path}: ${word}`,
          outcome: {
            killed: sentence !== undefined,
            located: others.length === 1 && others[0] === path,
            explained: sentence?.includes(word) === true,
            faults: [],
          },
        };
      }
    }
  }
}

/** What is said of a model that is refused, from the module on; undefined of one that is read. */
export function refusal(
  { spec, stateDict }: Checkpoint,
  modules: ReadonlyMap<string, Module>,
): string | undefined {
  try {
    openCheckpoint(wholeModel(stateDict, modules), { subject: "model.pt", arch: spec });
    return undefined;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    const { found } = error.problem;
    return found.replace(/^a model that computes something else: /, "");
  }
}
