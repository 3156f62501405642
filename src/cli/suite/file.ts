import { basename, extname, join, resolve } from "node:path";
import type { Document } from "yaml";
import { readInput } from "../../node/read.js";
import type { PlannedEntry, SuiteFile } from "../../verify/suite/plan.js";
import { checkSuiteFile, type Locate, suiteError } from "../../verify/suite/rules.js";

/**
 * Limit on lines and items. The parser compares each key of a mapping with all earlier ones, which takes half a second
 * for this many; generated suites have hundreds.
 */
const MAX_ITEMS = 5_000;

/** Larger than any suite that a person writes or a generator should. */
const MAX_BYTES = 4 * 2 ** 20;

/**
 * Reads a suite: JSON, or YAML 1.2 (a superset of JSON, so that one parser gives the lines of both).
 *
 * @throws InputError (`format`) with the line and key of every problem
 */
export async function readSuiteFile(path: string): Promise<SuiteFile> {
  const subject = basename(path);
  const bytes = await readInput(path, { most: MAX_BYTES });
  const text = new TextDecoder().decode(bytes);
  const items = text.match(/[\n\r,]/g)?.length ?? 0;
  if (items > MAX_ITEMS) throw suiteError(subject, [`${items} lines and items (limit: ${MAX_ITEMS})`]);
  const { LineCounter, isNode, parseDocument } = await import("yaml");
  const lines = new LineCounter();
  const isJson = extname(path).toLowerCase() === ".json";
  let document: Document.Parsed;
  try {
    document = parseDocument(text, {
      lineCounter: lines,
      logLevel: "silent",
      prettyErrors: false,
      strict: true,
      uniqueKeys: true,
    });
  } catch (cause) {
    // The parser recurses as deep as the text is nested.
    if (!(cause instanceof RangeError)) throw cause;
    throw suiteError(subject, ["text that is nested too deeply"], cause);
  }
  const [error] = document.errors;
  if (error) {
    // The parser reports its own recursion as an error in the text.
    if (/call stack/i.test(error.message))
      throw suiteError(subject, ["text that is nested too deeply"], error);
    const line = lines.linePos(error.pos[0]).line;
    const key = /^["']?([^"':\s]*)/.exec(text.slice(error.pos[0]))?.[1] ?? "";
    const found = error.code === "DUPLICATE_KEY" ? `, ${key}: a duplicate key` : `: ${error.message}`;
    throw suiteError(subject, [`line ${line}${found}`], error);
  }
  if (isJson) expectJson(text, subject);
  const locate: Locate = (keys) => {
    for (let length = keys.length; length >= 0; length--) {
      const node = length === 0 ? document.contents : document.getIn(keys.slice(0, length), true);
      if (isNode(node) && node.range) {
        // A block's own position is that of its first child; the key above it is clearer.
        return lines.linePos(node.range[0]).line;
      }
    }
    return undefined;
  };
  let value: unknown;
  try {
    // Limit on the expansion of aliases: a few lines could ask for terabytes.
    value = document.toJS({ maxAliasCount: 50 });
  } catch (cause) {
    throw suiteError(subject, ["aliases that expand to too many nodes"], cause);
  }
  return checkSuiteFile(value, subject, locate);
}

function expectJson(text: string, subject: string): void {
  try {
    JSON.parse(text);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    const position = Number(/position (\d+)/.exec(message)?.[1] ?? Number.NaN);
    const line = Number.isNaN(position) ? undefined : text.slice(0, position).split("\n").length;
    throw suiteError(subject, [`${line === undefined ? "" : `line ${line}: `}text that is not JSON`], cause);
  }
}

/** The files and folders that an entry reads, whether or not they exist. */
export function filesOf(
  { model, modelSpec, candidateSpec, options }: PlannedEntry,
  folder: string,
): readonly string[] {
  const file = candidateSpec.file?.replaceAll("{model}", model);
  const named = [
    modelSpec.checkpoint,
    modelSpec.arch?.endsWith(".json") ? modelSpec.arch : undefined,
    isSeeded(options.input) ? undefined : options.input,
    ...(file === undefined ? [] : [file, join(file, "model.json")]),
  ];
  return named.flatMap((path) => (path === undefined ? [] : resolve(folder, path)));
}

/** Whether images are generated, not read. */
export function isSeeded(input = ""): boolean {
  return /^(seed:|auto$)/.test(input);
}

/** The file that `osnet-verify suite --init` writes. */
export const STARTER = `# yaml-language-server: $schema=https://unpkg.com/osnet-convert/schemas/osnet-suite-1.schema.json
# A suite for osnet-verify: every model is verified with every candidate, in every backend.
#   osnet-verify suite parity.yaml --report-dir parity/
name: parity

# For every entry, unless its candidate overrides them.
defaults:
  tolerance: auto        # each layer within its rounding bound, or a number such as 1e-4
  input: seed:0          # or an .npy of float32 [N, 3, H, W]
  batch: 2
  # size: 256x128        # of seeded images; a size fixed by the model takes precedence

models:
  # Your own weights; paths are relative to this file.
  # market: { checkpoint: weights/osnet_x1_0_market.pth }
  # Random weights of an architecture: no checkpoint is needed to verify a conversion.
  seeded: { arch: osnet_x0_25, seed: 1 }

candidates:
  # Conversions are made in memory; nothing is written.
  onnx: { convert: onnx, options: { opset: 17 } }
  graph: { convert: tfjs-graph, backends: [tfjs-wasm] }
  # layers: { convert: tfjs-layers, backends: [tfjs-wasm, tfjs-cpu] }
  # A file that you ship; {model} stands for the model's name.
  # shipped: { file: "dist/{model}.onnx", models: [market] }

# All models × candidates × backends, unless restricted.
# matrix:
#   exclude:
#     - { model: market, backend: tfjs-cpu }
#   include:
#     - { model: market, candidate: onnx, tolerance: 1e-4 }
`;
