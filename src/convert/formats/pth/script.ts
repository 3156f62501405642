import type { InertObject } from "./pickle/values.js";

/** TorchScript's code as text: the classes of a file, and the expressions of a method (trace.ts follows them). */

/** A value in the traced computation. */
export type TracedValue =
  | { readonly kind: "input" }
  | { readonly kind: "tensor"; readonly path: string }
  | { readonly kind: "call"; readonly index: number }
  /** A scalar tensor, which the archive stores for its code. */
  | { readonly kind: "constant"; readonly index: number; readonly value: number }
  | { readonly kind: "literal"; readonly value: null | boolean | number | string }
  | { readonly kind: "list"; readonly items: readonly TracedValue[] };

/** A method: its parameters and its statements, one to a line. */
interface Method {
  readonly parameters: readonly string[];
  readonly lines: readonly string[];
}

/** A class of the code. */
export interface Class {
  readonly methods: ReadonlyMap<string, Method>;
  /** The declared types of its attributes: torch compiles for these, whatever the objects are. */
  readonly types: ReadonlyMap<string, string>;
}

/** A module, or a value. */
export type Bound =
  | TracedValue
  | { readonly kind: "module"; readonly module: InertObject; readonly path: string };

/** Items of a list, which are not lists themselves: sizes and strides, of which a tensor has four. Every call with a list reads all of it. */
const MAX_ITEMS = 16;

/** How deep expressions nest, and calls of methods. */
export const MAX_DEPTH = 64;

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
export function parseClasses(source: string): {
  readonly classes: ReadonlyMap<string, Class>;
  readonly unknown?: string;
} {
  const classes = new Map<string, { methods: Map<string, Method>; types: Map<string, string> }>();
  const lines = source.split("\n");
  let current: { methods: Map<string, Method>; types: Map<string, string> } | undefined;
  let statements: string[] | undefined;
  for (let at = 0; at < lines.length; at++) {
    let line = lines[at] ?? "";
    const parts = [line];
    for (let depth = depthOf(line); depth > 0 && at + 1 < lines.length; depth += depthOf(parts.at(-1) ?? ""))
      parts.push((lines[++at] ?? "").trim());
    line = parts.join(" ");
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
export class Expression {
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
      const list = this.#list("]", depth);
      const items = list?.flatMap((item) => (item.kind === "module" || item.kind === "list" ? [] : [item]));
      return items && items.length === list?.length && items.length <= MAX_ITEMS
        ? { kind: "list", items }
        : undefined;
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

  /** Values up to a bracket, with a comma after the last or none; one may be named if it is at its place anyway. */
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
