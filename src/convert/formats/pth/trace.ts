import { quote, type Region, unsupported } from "../refusals.js";
import { attributesOf } from "./modules.js";
import { type InertObject, isObject, type PickleValue } from "./pickle/values.js";
import { isTensor } from "./tensor-ref.js";

/**
 * What a traced TorchScript archive computes, according to its code (torch/csrc/jit/serialization/python_print.cpp).
 * The code is text in a small subset of Python; nothing of it runs. Only straight-line code is followed, as tracing
 * writes it: assignments and returns of calls of torch's functions and of other modules' methods, over attributes,
 * tensors, numbers and lists. Anything else (branches, loops, tuples, scripted code) is refused, with its line.
 */

/** A value in the traced computation. */
export type TracedValue =
  | { readonly kind: "input" }
  | { readonly kind: "tensor"; readonly path: string }
  | { readonly kind: "call"; readonly index: number }
  /** A scalar tensor, which the archive stores for its code. */
  | { readonly kind: "constant"; readonly index: number; readonly value: number }
  | { readonly kind: "literal"; readonly value: null | boolean | number | string }
  | { readonly kind: "list"; readonly items: readonly TracedValue[] };

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
const MAX_CALLS = 100_000;
const MAX_DEPTH = 64;

interface Method {
  readonly parameters: readonly string[];
  readonly lines: readonly string[];
}

interface Class {
  readonly methods: ReadonlyMap<string, Method>;
  /** The declared types of its attributes: torch compiles for these, whatever the objects are. */
  readonly types: ReadonlyMap<string, string>;
}

const NO_CLASS: Class = { methods: new Map(), types: new Map() };

/** A module, or a value. */
type Bound = TracedValue | { readonly kind: "module"; readonly module: InertObject; readonly path: string };

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
    if (of.kind !== "module" || depth > MAX_DEPTH) throw this.#unclear(`a call of ${name}`);
    const method = this.#classOf(of.module).methods.get(name);
    if (method === undefined || method.parameters.length !== args.length + 1)
      throw this.#unclear(`a call of ${of.module.path}.${name}`);
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

  #expression(text: string, names: ReadonlyMap<string, Bound>, depth: number): Bound {
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
    if (++this.#steps > MAX_CALLS) throw this.#unclear("more calls than any OSNet has");
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

/**
 * Class-level statements other than methods and attribute types; lists of hooks are empty, since hooks run with every
 * call.
 */
const DECLARATION =
  /^ {2}(__(parameters|buffers)__ = \[("\w+", )*\]|__annotations__ = \[\]|__(forward|forward_pre)_hooks__ = \[\])$/;

/** The type of an attribute, as `weight : Tensor` or, where the name is a number, as an annotation. */
const TYPE = /^ {2}(?:(\w+) : |__annotations__\["(\w+)"\] = )([\w.]+|Optional\[\w+\])$/;

/** A type as it occurs in traces: a class, or a list, tuple or option of others. */
const WORD = String.raw`[\w.]+(?:\[[\w., []+\]+)?`;

/** Parameters have types and no values. Methods with two underscores are excluded, since torch runs some of them implicitly: `__setstate__` on loading. */
const METHOD = new RegExp(String.raw`^ {2}def ((?!__)\w+)\((self: [\w.]+(?:, \w+: ${WORD})*)\) -> ${WORD}:$`);

/**
 * The classes in a file of code, and the first line that does not occur in traces. The whole file is read, since torch
 * compiles all of it: of two classes with the same name it uses the last. Statements of several lines are joined at
 * their brackets.
 */
function parseClasses(source: string): {
  readonly classes: ReadonlyMap<string, Class>;
  readonly unknown?: string;
} {
  const classes = new Map<string, { methods: Map<string, Method>; types: Map<string, string> }>();
  const lines = source.split("\n");
  let current: { methods: Map<string, Method>; types: Map<string, string> } | undefined;
  let statements: string[] | undefined;
  for (let at = 0; at < lines.length; at++) {
    let line = lines[at] ?? "";
    while (depthOf(line) > 0 && at + 1 < lines.length) line += ` ${(lines[++at] ?? "").trim()}`;
    if (line.replace(WORDS, "").includes('"')) return { classes, unknown: line };
    if (line.trim() === "" || (at === 0 && /^op_version_set = \d+$/.test(line))) continue;
    const name = /^class (\w+)\(Module\):$/.exec(line)?.[1];
    const [, method, parameters = ""] = METHOD.exec(line) ?? [];
    const [, word, number = "", type = ""] = TYPE.exec(line) ?? [];
    if (name !== undefined && !classes.has(name)) {
      current = { methods: new Map(), types: new Map() };
      classes.set(name, current);
      statements = undefined;
    } else if (!current) return { classes, unknown: line };
    else if (method !== undefined && !current.methods.has(method)) {
      statements = [];
      const names = parameters.split(",").map((part) => part.split(":")[0]?.trim() ?? "");
      current.methods.set(method, { parameters: names, lines: statements });
    } else if (statements && line.startsWith("    ")) {
      const statement = line.slice(4);
      if (!isStatement(statement) || statements.at(-1)?.startsWith("return "))
        return { classes, unknown: line };
      statements.push(statement);
    } else if (type !== "" && !current.types.has(word ?? number)) current.types.set(word ?? number, type);
    else if (!DECLARATION.test(line)) return { classes, unknown: line };
  }
  return { classes };
}

/**
 * A string as traces contain it. For other strings, such as triple-quoted ones, torch might see another end, followed
 * by other code.
 */
const WORDS = /"[\w.]+"/g;

/**
 * Whether a line has a supported form and consists of known words. Lines that are never reached are included, since
 * torch reads them too.
 */
function isStatement(line: string): boolean {
  const [, expression] = /^(?:\w+ = |return )(.*)$/.exec(line) ?? [];
  return expression !== undefined && tokensOf(expression) !== undefined;
}

/** Brackets that a line opens and does not close, except in strings. */
function depthOf(line: string): number {
  let depth = 0;
  for (const character of line.replace(/"[^"]*"/g, "")) {
    if (character === "(" || character === "[") depth++;
    if (character === ")" || character === "]") depth--;
  }
  return depth;
}

interface Scope {
  readonly name: (name: string) => Bound | undefined;
  readonly constant: (index: number) => number | undefined;
  readonly attribute: (of: Bound, name: string) => Bound | undefined;
  readonly method: (of: Bound, name: string, args: readonly Bound[]) => Bound;
  readonly call: (name: string, args: readonly Bound[]) => Bound | undefined;
}

/** Functions that make a number from a tensor, or state a type: the value is unchanged. */
const TRANSPARENT: ReadonlySet<string> = new Set(["int", "ops.prim.NumToTensor"]);

/** Arguments that have names, and the places where they stand then. */
const KEYWORDS: Readonly<Partial<Record<string, readonly [name: string, place: number]>>> = {
  "torch.add": ["alpha", 2],
  "torch.add_": ["alpha", 2],
};

/** Octal and hexadecimal numbers, which torch supports, are not read. */
const TOKENS =
  /\s*(?:(-?(?:0|[1-9]\d*)(?![\d_a-df-zA-DF-Z])\.?\d*(?:[eE][+-]?\d+)?)|"([^"\\]*)"|((?:torch|ops)(?:\.\w+)+)(?=\()|([A-Za-z_]\w*)|([()[\],.=]))/y;

type Token = readonly ["number" | "string" | "function" | "name" | "mark", string];

/** One expression; `parse` returns undefined for an unsupported one. */
class Expression {
  readonly #tokens: readonly Token[] | undefined;
  readonly #scope: Scope;
  #at = 0;

  constructor(text: string, scope: Scope) {
    this.#tokens = tokensOf(text);
    this.#scope = scope;
  }

  parse(): Bound | undefined {
    const value = this.#value(0);
    return this.#at === this.#tokens?.length ? value : undefined;
  }

  #value(depth: number): Bound | undefined {
    if (depth > MAX_DEPTH) return undefined;
    let value = this.#primary(depth);
    while (value !== undefined && this.#skip(".")) {
      const [kind, name] = this.#next() ?? ["mark", ""];
      if (kind !== "name") return undefined;
      if (!this.#skip("(")) {
        value = this.#scope.attribute(value, name);
        continue;
      }
      const args = this.#list(")", depth);
      value = args && this.#scope.method(value, name, args);
    }
    return value;
  }

  #primary(depth: number): Bound | undefined {
    const [kind, text] = this.#next() ?? ["mark", ""];
    if (kind === "number") return { kind: "literal", value: Number(text) };
    if (kind === "string") return { kind: "literal", value: text };
    if (text === "(") {
      const value = this.#value(depth + 1);
      return this.#skip(")") ? value : undefined;
    }
    if (text === "[") {
      const items = this.#list("]", depth)?.flatMap((item) => (item.kind === "module" ? [] : [item]));
      return items && { kind: "list", items };
    }
    if (kind === "function" || (kind === "name" && this.#peek("("))) return this.#called(text, depth);
    if (kind !== "name") return undefined;
    if (text === "None") return { kind: "literal", value: null };
    if (text === "CONSTANTS") return this.#constant();
    if (text === "True" || text === "False") return { kind: "literal", value: text === "True" };
    return this.#scope.name(text);
  }

  /** `CONSTANTS.c0`. */
  #constant(): Bound | undefined {
    const [, name = ""] = this.#skip(".") ? (this.#next() ?? []) : [];
    if (!/^c\d+$/.test(name)) return undefined;
    const index = Number(name.slice(1));
    const value = this.#scope.constant(index);
    return value === undefined ? undefined : { kind: "constant", index, value };
  }

  #called(name: string, depth: number): Bound | undefined {
    if (!this.#skip("(")) return undefined;
    const args = this.#list(")", depth, KEYWORDS[name]);
    if (args === undefined) return undefined;
    const [first, second] = args;
    if (TRANSPARENT.has(name) && args.length === 1) return first?.kind === "call" ? first : undefined;
    if (name === "getattr" && args.length === 2 && first && second?.kind === "literal")
      return typeof second.value === "string" ? this.#scope.attribute(first, second.value) : undefined;
    return name.startsWith("torch.") ? this.#scope.call(name, args) : undefined;
  }

  /** Values up to a bracket, with a comma after the last or none; one may be named that stands at its place anyway. */
  #list(end: string, depth: number, keyword?: readonly [name: string, place: number]): Bound[] | undefined {
    const values: Bound[] = [];
    while (!this.#skip(end)) {
      const [[kind, name] = [], [, mark] = []] = this.#tokens?.slice(this.#at, this.#at + 2) ?? [];
      const isNamed = kind === "name" && mark === "=" && name === keyword?.[0];
      if (isNamed && values.length === keyword?.[1]) this.#at += 2;
      const value = this.#value(depth + 1);
      if (value === undefined) return undefined;
      values.push(value);
      if (!this.#skip(",") && !this.#peek(end)) return undefined;
    }
    return values;
  }

  #next(): Token | undefined {
    return this.#tokens?.[this.#at++];
  }

  #peek(mark: string): boolean {
    const token = this.#tokens?.[this.#at];
    return token?.[0] === "mark" && token[1] === mark;
  }

  #skip(mark: string): boolean {
    if (!this.#peek(mark)) return false;
    this.#at++;
    return true;
  }
}

function tokensOf(text: string): readonly Token[] | undefined {
  const tokens: Token[] = [];
  TOKENS.lastIndex = 0;
  const source = text.trim();
  while (TOKENS.lastIndex < source.length) {
    const [, number, string, called, name, mark] = TOKENS.exec(source) ?? [];
    if (number !== undefined) tokens.push(["number", number]);
    else if (string !== undefined) tokens.push(["string", string]);
    else if (called !== undefined) tokens.push(["function", called]);
    else if (name !== undefined) tokens.push(["name", name]);
    else if (mark !== undefined) tokens.push(["mark", mark]);
    else return undefined;
  }
  return tokens;
}
