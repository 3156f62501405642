import { quote, type Region, unsupported } from "../refusals.js";
import { attributesOf } from "./modules.js";
import { type InertObject, isObject, type PickleValue } from "./pickle/values.js";
import { type Bound, type Class, Expression, MAX_DEPTH, parseClasses, type TracedValue } from "./script.js";
import { isTensor } from "./tensor-ref.js";

/**
 * What a traced TorchScript archive computes, according to its code (torch/csrc/jit/serialization/python_print.cpp).
 * The code is text in a small subset of Python; nothing of it runs. Only straight-line code is followed, as tracing
 * writes it: assignments and returns of calls of torch's functions and of other modules' methods, over attributes,
 * tensors, numbers and lists. Anything else (branches, loops, tuples, scripted code) is refused, with its line.
 */

/** A call of one of torch's functions, such as `torch.batch_norm`; equal calls are the same object. */
interface TracedCall {
  /** The function's name in the code. */
  readonly name: string;
  /** Positional arguments, in their order. */
  readonly args: readonly TracedValue[];
}

/** The computation of a traced TorchScript archive. */
export interface Trace {
  /** In the order of creation; a call reads only earlier ones. */
  readonly calls: readonly TracedCall[];
  /** What `forward` returns. */
  readonly output: TracedValue;
}

/** The context for reading the code of an archive. */
export interface ScriptReader {
  /** The text of a module of code. */
  readonly code: (path: string) => string | undefined;
  /** The number of a scalar constant of the code; undefined for other constants. */
  readonly scalar: (index: number) => number | undefined;
}

/** Networks have a thousand calls; methods that call one another twice each would have any number. */
const MAX_STEPS = 100_000;

const NO_CLASS: Class = { methods: new Map(), types: new Map() };

/**
 * Follows `forward` of a TorchScript model.
 *
 * @throws InputError (`unsupported`) for code with branches or other statements
 */
export function traceModel(root: InertObject, read: ScriptReader, region: Region): Trace {
  return new Tracer(read, region).run(root);
}

/** The same with the tensors' paths relative to `prefix`, and a path outside the model for other tensors. */
export function withoutPrefix({ calls, output }: Trace, prefix: string): Trace {
  const strip = (value: TracedValue): TracedValue => {
    if (value.kind === "list") return { kind: "list", items: value.items.map(strip) };
    if (value.kind !== "tensor" || prefix === "") return value;
    const isBelow = value.path.startsWith(prefix);
    return { kind: "tensor", path: isBelow ? value.path.slice(prefix.length) : `../${value.path}` };
  };
  return { calls: calls.map(({ name, args }) => ({ name, args: args.map(strip) })), output: strip(output) };
}

class Tracer {
  readonly #read: ScriptReader;
  readonly #region: Region;
  /** The classes of each file of code. */
  readonly #files = new Map<string, ReadonlyMap<string, Class>>();
  readonly #calls: TracedCall[] = [];
  readonly #known = new Map<string, number>();
  /** For each value, all values that may share elements with it: an in-place operation changes them. */
  readonly #sharing = new Map<string, Set<string>>();
  /** Values that a call has overwritten in place: reading one afterwards would give another result. */
  readonly #overwritten = new Set<string>();
  #steps = 0;

  constructor(read: ScriptReader, region: Region) {
    this.#read = read;
    this.#region = region;
  }

  run(root: InertObject): Trace {
    const output = this.#method(
      { kind: "module", module: root, path: "" },
      "forward",
      [{ kind: "input" }],
      0,
    );
    if (output.kind === "module") throw this.#unclear("a module as the result");
    if (tensorsIn(output).some((key) => this.#overwritten.has(key)))
      throw this.#unclear("a result that was changed in place");
    return { calls: this.#calls, output };
  }

  #method(of: Bound, name: string, args: readonly Bound[], depth: number): Bound {
    if (of.kind !== "module" || depth > MAX_DEPTH) throw this.#unclear(`a call to ${name}`);
    const method = this.#classOf(of.module).methods.get(name);
    if (method === undefined || method.parameters.length !== args.length + 1)
      throw this.#unclear(`a call to ${of.module.path}.${name}`);
    const names = new Map<string, Bound>([["self", of]]);
    const reserved = method.parameters.slice(1).find((parameter) => RESERVED.has(parameter));
    if (reserved !== undefined) throw this.#unclear(`a parameter ${reserved}`);
    method.parameters.slice(1).forEach((parameter, index) => {
      names.set(parameter, args[index] ?? { kind: "literal", value: null });
    });
    for (const line of method.lines) {
      const returned = /^return (.*)$/.exec(line)?.[1];
      // The model's own result may be the only one of a tuple.
      const only = depth === 0 ? /^\((\w+),\)$/.exec(returned ?? "")?.[1] : undefined;
      if (returned !== undefined) return this.#expression(only ?? returned, names, depth);
      const assigned = /^(\w+) = (.*)$/.exec(line);
      if (!assigned || RESERVED.has(assigned[1] ?? "")) throw this.#unclear(line);
      names.set(assigned[1] ?? "", this.#expression(assigned[2] ?? "", names, depth));
    }
    throw this.#unclear(`${name} without a result`);
  }

  /** Counts a statement or a call. */
  #count(): void {
    if (++this.#steps > MAX_STEPS) throw this.#unclear("more statements than any OSNet has");
  }

  #expression(text: string, names: ReadonlyMap<string, Bound>, depth: number): Bound {
    this.#count();
    const parser = new Expression(text, {
      name: (name) => names.get(name),
      constant: (index) => this.#read.scalar(index),
      attribute: (of, name) => this.#attribute(of, name),
      method: (of, name, args) => this.#method(of, name, args, depth + 1),
      call: (name, args) => this.#call(name, args),
    });
    const value = parser.parse();
    if (value === undefined) throw this.#unclear(text);
    return value;
  }

  #attribute(of: Bound, name: string): Bound | undefined {
    if (of.kind !== "module") return undefined;
    const value: PickleValue | undefined = attributesOf(of.module)?.get(name);
    const path = of.path === "" ? name : `${of.path}.${name}`;
    const type = this.#classOf(of.module).types.get(name);
    if (value === undefined || type === undefined) return undefined;
    const plainType = /^Optional\[(\w+)\]$/.exec(type)?.[1] ?? type;
    if (isTensor(value)) return plainType === "Tensor" ? { kind: "tensor", path } : undefined;
    if (isObject(value)) return type === value.path ? { kind: "module", module: value, path } : undefined;
    const isLiteral =
      value === null ? type !== plainType || type === "NoneType" : typeof value === LITERALS[plainType];
    return isLiteral ? { kind: "literal", value: value as null | boolean | number | string } : undefined;
  }

  #call(name: string, args: readonly Bound[]): Bound | undefined {
    const values = args.flatMap((arg) => (arg.kind === "module" ? [] : [arg]));
    if (values.length !== args.length) return undefined;
    this.#count();
    const read = values.flatMap(tensorsIn);
    if (read.some((key) => this.#overwritten.has(key)))
      throw this.#unclear(`${name} of a value that was changed in place`);
    const isInPlace = name.endsWith("_");
    const changed = isInPlace ? [...(this.#shared(read[0]) ?? [])] : [];
    if (isInPlace && (changed.length === 0 || changed.some((key) => PARAMETER.test(key))))
      throw this.#unclear(`${name} of a parameter, or of no tensor`);
    for (const key of changed) this.#overwritten.add(key);
    const key = JSON.stringify([name, values]);
    const index = this.#known.get(key) ?? this.#calls.push({ name, args: values }) - 1;
    this.#known.set(key, index);
    const result: TracedValue = { kind: "call", index };
    if (!FRESH.has(name)) for (const source of read) this.#share(keyOf(result), source);
    return result;
  }

  /** All values that may share elements with one, including itself. */
  #shared(key: string | undefined): Set<string> | undefined {
    if (key === undefined) return undefined;
    const known = this.#sharing.get(key) ?? new Set([key]);
    this.#sharing.set(key, known);
    return known;
  }

  #share(a: string, b: string): void {
    const [fewer, more] = [this.#shared(a), this.#shared(b)].sort(
      (left, right) => (left?.size ?? 0) - (right?.size ?? 0),
    );
    if (!fewer || !more || fewer === more) return;
    for (const key of fewer) {
      more.add(key);
      this.#sharing.set(key, more);
    }
  }

  #classOf({ path }: InertObject): Class {
    const dot = path.lastIndexOf(".");
    const file = path.slice(0, dot);
    const classes = this.#files.get(file) ?? this.#parse(file);
    this.#files.set(file, classes);
    return classes.get(path.slice(dot + 1)) ?? NO_CLASS;
  }

  #parse(file: string): ReadonlyMap<string, Class> {
    const { classes, unknown } = parseClasses(this.#read.code(file) ?? "");
    if (unknown !== undefined) throw this.#unclear(`${unknown.trim()} in ${file}`);
    return classes;
  }

  #unclear(what: string): Error {
    return unsupported(
      this.#region,
      `TorchScript code that is not a plain trace: ${quote(what.trim())}`,
      "torch.jit.trace of a model in evaluation mode",
    );
  }
}

/**
 * Functions whose result shares no elements with their inputs. Any other may return a view: `view`, `select`,
 * `contiguous`, a dropout in evaluation mode.
 */
const FRESH: ReadonlySet<string> = new Set([
  "torch._convolution",
  "torch.adaptive_avg_pool2d",
  "torch.add",
  "torch.avg_pool2d",
  "torch.batch_norm",
  "torch.conv2d",
  "torch.instance_norm",
  "torch.layer_norm",
  "torch.linear",
  "torch.max_pool2d",
  "torch.mul",
  "torch.relu",
  "torch.sigmoid",
  "torch.size",
]);

function keyOf(value: TracedValue): string {
  return JSON.stringify(value);
}

/** The prefix of the key of a module's own tensor, or of the code's constants. */
const PARAMETER = /^\{"kind":"(?:tensor|constant)"/;

/** The keys of the tensors in a value. */
function tensorsIn(value: TracedValue): readonly string[] {
  if (value.kind === "list") return value.items.flatMap(tensorsIn);
  return value.kind === "literal" ? [] : [keyOf(value)];
}

/** Names that would mean something else if a trace used them. */
const RESERVED: ReadonlySet<string> = new Set([
  "torch",
  "ops",
  "int",
  "getattr",
  "self",
  "CONSTANTS",
  "None",
  "True",
  "False",
]);

const LITERALS: Readonly<Partial<Record<string, string>>> = {
  bool: "boolean",
  int: "number",
  float: "number",
  str: "string",
};
