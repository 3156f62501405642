import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { quotation, type Results, withQuotation } from "../../bench/results.js";

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
const results = JSON.parse(read("bench/results.json")) as Results;

it.each(["README.md", "bench/README.md"])("%s quotes bench/results.json", (path) => {
  const document = read(path);
  expect(document).toContain(quotation(results));
  expect(withQuotation(document, results)).toBe(document);
  const [row] = results.rows;
  if (row)
    expect(withQuotation(document, { ...results, rows: [{ ...row, ratio: row.ratio + 1 }] })).not.toBe(
      document,
    );
});
