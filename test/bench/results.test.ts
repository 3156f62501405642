import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { quotation, type Row, withQuotation } from "../../bench/results.js";

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
const { rows } = JSON.parse(read("bench/results.json")) as { readonly rows: readonly Row[] };

it.each(["README.md", "bench/README.md"])("%s quotes bench/results.json", (path) => {
  const document = read(path);
  expect(document).toContain(quotation(rows));
  expect(withQuotation(document, rows)).toBe(document);
  const [row] = rows;
  if (row) expect(withQuotation(document, [{ ...row, ratio: row.ratio + 1 }])).not.toBe(document);
});
