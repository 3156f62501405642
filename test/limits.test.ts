import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { text } from "./support/markdown.js";

/** What documents say of limits, with the number as they write it, and the constant of the source that is this limit. */
const LIMITS: readonly (readonly [document: string, says: string, source: string, constant: string])[] = [
  ["formats", "over 100 MB (the official limit)", "convert/formats/safetensors", "MAX_HEADER_BYTES"],
  ["formats", "more than 100,000 tensors", "convert/formats/safetensors", "MAX_TENSORS"],
  ["formats", "10,000 metadata keys", "convert/formats/safetensors", "MAX_METADATA"],
  ["formats", "weight files of 4 MiB", "convert/formats/tfjs/manifest", "SHARD_BYTES"],
  ["security", "at most 100,000 of", "convert/formats/safetensors", "MAX_TENSORS"],
  [
    "security",
    "at most 100 MB long and has no duplicate keys",
    "convert/formats/safetensors",
    "MAX_HEADER_BYTES",
  ],
  ["security", "At most 10,000 bytes of header", "convert/formats/npz", "MAX_HEADER_BYTES"],
  ["security", "32 dimensions", "convert/formats/npz", "MAX_RANK"],
  ["security", "at most 64 MiB of zeros", "convert/formats/refusals", "MAX_ABSENT_BYTES"],
  ["security", "At most 40 million pixels", "verify/inputs/images", "MAX_PIXELS"],
  ["security", "no side over 32,767", "verify/inputs/images", "MAX_SIDE"],
  ["security", "1032 times its compressed bytes", "verify/inputs/png", "MAX_RATIO"],
  ["security", "at most 200 million pixels in all", "verify/inputs/jpeg", "MAX_SCAN_PIXELS"],
  ["security", "at most 2,000 light convolutions", "arch/spec", "MAX_CONVOLUTIONS"],
  ["security", "500 blocks and stages", "arch/spec", "MAX_BLOCKS"],
  ["security", "16 embedding layers", "arch/spec", "MAX_EMBEDDING_LAYERS"],
  ["security", "at most 67,108,864 seeded weights", "convert/seeded-weights", "MAX_ELEMENTS"],
  ["security", "at most 4,194,304 pixels per run", "verify/inputs/images", "MAX_RUN_PIXELS"],
  ["security", "At most 4 MiB and", "cli/suite/file", "MAX_BYTES"],
  ["security", "5,000 lines and items", "cli/suite/file", "MAX_ITEMS"],
  ["security", "4 n, and 1 MiB for small files", "convert/formats/refusals", "FLOOR"],
  ["security", "4 n by estimate, and 16 MiB", "convert/formats/refusals", "OBJECTS_FLOOR"],
  ["security", "4 n by estimate, and 32 MiB", "convert/formats/onnx/limits", "FLOOR_BYTES"],
  ["security", "100,000 tensors | ten times", "convert/formats/safetensors", "MAX_TENSORS"],
  ["security", "external data over 64 MiB", "node/read", "WHOLE_SIDECAR_BYTES"],
  ["security", "at most 1 GiB", "convert/formats/onnx/tensors", "MAX_READ_BYTES"],
];

const UNITS = { "": 1, " million": 1e6, " MB": 1e6, " MiB": 2 ** 20, " GiB": 2 ** 30 } as const;

/** A constant's number, which the source writes as one (`40_000_000`), a power (`4 * 2 ** 20`) or a shift (`64 << 20`). */
function constantOf(source: string, name: string): number {
  const code = readFileSync(new URL(`../src/${source}.ts`, import.meta.url), "utf8");
  const [, expression = ""] =
    new RegExp(`^(?:export )?const ${name}(?:: number)? = (.*);`, "m").exec(code) ?? [];
  const [, factor = "1", base = "", operator, exponent = "0"] =
    /^(?:(\d+) \* )?([\d_]+)(?: (\*\*|<<) (\d+))?$/.exec(expression) ?? [];
  const first = Number(base.replaceAll("_", "") || NaN);
  return Number(factor) * (operator === "**" ? first ** Number(exponent) : first * 2 ** Number(exponent));
}

it.each(LIMITS)("docs/%s.md: %s", (document, says, source, constant) => {
  const words = text(`docs/${document}.md`).replace(/\s+/g, " ");
  expect(words.includes(says), "is in the document").toBe(true);
  const numbers = [...says.matchAll(/(?<!\S)(\d[\d,]*)( million| MB| MiB| GiB)?(?! n)/g)].map(
    ([, digits = "", unit = ""]) => Number(digits.replaceAll(",", "")) * UNITS[unit as keyof typeof UNITS],
  );
  expect(numbers).toContain(constantOf(source, constant));
});
