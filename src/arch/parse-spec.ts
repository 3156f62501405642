import { InputError } from "../errors.js";
import type { OsnetSpec } from "./spec.js";
import { validateSpec } from "./validate-spec.js";

/** A value's type in words, as messages name it. */
type Check = (value: unknown) => string | undefined;

const number: Check = (value) => (typeof value === "number" ? undefined : "a number");
const boolean: Check = (value) => (typeof value === "boolean" ? undefined : "true or false");
const oneOf =
  (...options: readonly string[]): Check =>
  (value) =>
    options.includes(value as string)
      ? undefined
      : options.map((option) => JSON.stringify(option)).join(" or ");

/** The fields of each object of a spec; nested objects are named by their path. */
const FIELDS: Readonly<Record<string, Readonly<Record<string, Check>>>> = {
  stem: { channels: number, norm: oneOf("batch", "instance") },
  gate: { reduction: number, activation: oneOf("sigmoid", "relu", "linear"), layerNorm: boolean },
  head: { classes: number, loss: oneOf("softmax", "triplet", "sigmoid") },
  block: {
    inChannels: number,
    outChannels: number,
    streams: number,
    reduction: number,
    instanceNorm: oneOf("none", "inside", "outside", "both"),
  },
};

/**
 * Reads a spec from JSON text: every field present, of its type, and no other.
 *
 * @param subject what messages call the text, usually a file name
 * @throws InputError (`spec`) listing every problem
 */
export function parseSpec(text: string, subject: string): OsnetSpec {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw badSpec(subject, ["text that is not JSON"], cause);
  }
  const problems = specProblems(value);
  if (problems.length > 0) throw badSpec(subject, problems);
  const spec = value as OsnetSpec;
  validateSpec(spec);
  return spec;
}

function specProblems(value: unknown): string[] {
  const problems: string[] = [];
  const spec = fields(
    value,
    "",
    ["dialect", "stem", "stages", "gate", "pooling", "embedding", "head"],
    problems,
  );
  if (!spec) return problems;
  apply("dialect", oneOf("osnet", "osnet_ain"), spec.dialect, problems);
  apply("pooling", oneOf("avg", "max"), spec.pooling, problems);
  object("stem", spec.stem, "stem", problems);
  object("gate", spec.gate, "gate", problems);
  if (spec.head !== null) object("head", spec.head, "head", problems);
  list("embedding", spec.embedding, problems, (path, width) => apply(path, number, width, problems));
  list("stages", spec.stages, problems, (path, stageValue) => {
    const stage = fields(stageValue, path, ["blocks", "transition"], problems);
    if (!stage) return;
    apply(`${path}.transition`, boolean, stage.transition, problems);
    list(`${path}.blocks`, stage.blocks, problems, (blockPath, block) => {
      object(blockPath, block, "block", problems);
    });
  });
  return problems;
}

function object(path: string, value: unknown, kind: string, problems: string[]): void {
  const checks = FIELDS[kind] ?? {};
  const found = fields(value, path, Object.keys(checks), problems);
  if (found)
    for (const [key, check] of Object.entries(checks)) apply(`${path}.${key}`, check, found[key], problems);
}

function list(
  path: string,
  value: unknown,
  problems: string[],
  each: (path: string, item: unknown) => void,
): void {
  if (!Array.isArray(value)) problems.push(`${path}: expected a list`);
  else
    value.forEach((item, index) => {
      each(`${path}[${index}]`, item);
    });
}

function fields(
  value: unknown,
  path: string,
  keys: readonly string[],
  problems: string[],
): Readonly<Record<string, unknown>> | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    problems.push(`${path || "the spec"}: expected an object`);
    return undefined;
  }
  for (const key of Object.keys(value))
    if (!keys.includes(key)) problems.push(`${path ? `${path}.` : ""}${key}: not a field of a spec`);
  return value as Readonly<Record<string, unknown>>;
}

function apply(path: string, check: Check, value: unknown, problems: string[]): void {
  const expected = check(value);
  if (expected !== undefined)
    problems.push(`${path}: found ${JSON.stringify(value) ?? "nothing"}, expected ${expected}`);
}

function badSpec(subject: string, problems: readonly string[], cause?: unknown): InputError {
  return new InputError(
    {
      code: "spec",
      subject,
      found: problems.length === 1 ? (problems[0] ?? "") : `${problems.length} problems`,
      expected: "an OSNet architecture description",
      remedy: "see docs/architecture.md for its fields",
      details: problems.length === 1 ? [] : problems,
    },
    { cause },
  );
}
