/** What terminal reports are made of: paint, aligned columns, and names that are safe to print. */

/** Paints a piece of text; the identity where there is no colour. */
export interface Paint {
  readonly good: (text: string) => string;
  readonly bad: (text: string) => string;
  readonly strong: (text: string) => string;
  readonly faint: (text: string) => string;
}

export const PLAIN: Paint = { good: String, bad: String, strong: String, faint: String };

export type Align = "left" | "right";

/** A table of text columns two spaces apart; the last alignment given holds for the columns that follow. */
export function renderTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  align: readonly Align[],
  paintHeader: (text: string) => string,
): string {
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => visibleLength(row[column] ?? ""))),
  );
  const line = (cells: readonly string[]): string =>
    widths
      .map((width, column) => {
        const cell = cells[column] ?? "";
        const space = " ".repeat(width - visibleLength(cell));
        return (align[column] ?? align.at(-1)) === "right" ? space + cell : cell + space;
      })
      .join("  ")
      .trimEnd();
  return [paintHeader(line(header)), ...rows.map(line)].map((text) => `  ${text}`).join("\n");
}

/** Length without colour codes. */
function visibleLength(text: string): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colour codes begin with one
  return text.replace(/\u001b\[[0-9;]*m/g, "").length;
}

/**
 * Names come from files: text on one line that is shown and not obeyed. Control and format characters (terminal escapes,
 * direction marks), line separators, halves of characters and what XML 1.0 forbids become `�`.
 */
export function clean(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\uFFFE\uFFFF]/gu, "�");
}

/** Six decimals, and never 1.000000 for what is not 1. */
export function formatCosine(value: number): string {
  const text = value.toFixed(6);
  return text === "1.000000" && value < 1 - 1e-12 ? `1−${(1 - value).toExponential(0)}` : text;
}
