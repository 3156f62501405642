import { basename } from "node:path";
import { isVariantName, type OsnetSpec, parseSpec } from "../arch/index.js";
import { InputError } from "../core/errors.js";
import { readInput } from "../node/index.js";
import { RUNTIMES, type RuntimeName } from "../verify/backends/backend.js";
import type { Tolerance } from "../verify/report.js";

/** `--tolerance`: a positive number below 1, or `auto`, which is also the default where it can be. */
export function parseTolerance(text: string | undefined): Tolerance | undefined {
  if (text === undefined) return undefined;
  if (text === "auto") return { rule: "derived-bounds" };
  const value = Number(text);
  if (text.trim() !== "" && value > 0 && value < 1) return { rule: "relative-to-max", value };
  throw new InputError({
    code: "argument",
    subject: "--tolerance",
    found: JSON.stringify(text),
    expected: "auto or a number between 0 and 1",
    remedy: "give one such as 1e-4",
  });
}

/** `--arch`: a variant's name, or the path of a spec.json. */
export async function readArchitecture(text: string | undefined): Promise<string | OsnetSpec | undefined> {
  if (text === undefined || isVariantName(text) || !text.endsWith(".json")) return text;
  return parseSpec(new TextDecoder().decode(await readInput(text)), basename(text));
}

/** `--backend`: what runs the candidate. */
export function parseBackend(text: string | undefined): RuntimeName | undefined {
  const backend = RUNTIMES.find((name) => name === text);
  if (text === undefined || backend) return backend;
  throw new InputError({
    code: "argument",
    subject: "--backend",
    found: JSON.stringify(text),
    expected: RUNTIMES.join(", "),
    remedy: "choose one of them",
  });
}
