/** Text for people: colours, aligned columns, safe names, and suggestions for mistyped words. */

/** Colours a piece of text, or returns it unchanged if there are no colours. */
export interface Paint {
  /** For passing results: green. */
  readonly good: (text: string) => string;
  /** For failures: red. */
  readonly bad: (text: string) => string;
  /** For important text: bold. */
  readonly strong: (text: string) => string;
  /** For secondary text: dim. */
  readonly faint: (text: string) => string;
}

export const PLAIN: Paint = { good: String, bad: String, strong: String, faint: String };

type Align = "left" | "right";

/** A table of text columns two spaces apart; the last alignment also applies to the columns after it. */
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

/**
 * Breaks lines at spaces if they are wider than a terminal, which would break them inside words; continuation lines are
 * indented by two more. Words that are too wide are not broken.
 */
export function wrapLines(text: string, width: number): string {
  return text
    .split("\n")
    .map((line) => (visibleLength(line) > width ? wrapLine(line, width) : line))
    .join("\n");
}

function wrapLine(line: string, width: number): string {
  const indent = /^ */.exec(line)?.[0] ?? "";
  const further = " ".repeat(Math.min(indent.length + 2, width >> 1));
  const lines: string[] = [];
  let current = indent;
  let isEmpty = true;
  for (const word of line.slice(indent.length).split(" ")) {
    if (!isEmpty && visibleLength(current) + 1 + visibleLength(word) > width) {
      lines.push(current.trimEnd());
      current = further + word;
    } else current = isEmpty ? current + word : `${current} ${word}`;
    isEmpty = false;
  }
  return [...lines, current].join("\n");
}

/** Length without colour codes. */
function visibleLength(text: string): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colour codes begin with one
  return text.replace(/\u001b\[[0-9;]*m/g, "").length;
}

/**
 * A name from a file as text on one line that a terminal displays and does not interpret. Control and format characters
 * (terminal escapes, direction marks), line separators, lone surrogates and characters that XML 1.0 forbids become `�`.
 */
export function clean(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\uFFFE\uFFFF]/gu, "�");
}

/** Matches control and format characters, except for line feeds and the colour codes of reports. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: colour codes begin with one
const UNPRINTABLE = /(\u001b\[(?:1|2|22|31|32|39)m|\n)|[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** GitHub's `##[error]` and Azure's `##vso[`, which are commands anywhere in a line. */
const BRACKET_COMMAND = /(##\w*)\[/g;

/** GitHub's `::error::`, which is one at the start of a line. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: colour codes begin with one
const COLON_COMMAND = /^((?:\s|\u001b\[\d+m)*)::/gmu;

/**
 * A command's output, made safe for a terminal or a log whatever names it contains: control and format characters
 * become `\uXXXX`, which JSON reads as the same characters, and no line is a command to a CI runner.
 */
export function printable(text: string): string {
  return text
    .replace(UNPRINTABLE, (found, own) => own ?? escaped(found))
    .replace(BRACKET_COMMAND, (_, start: string) => start + escaped("["))
    .replace(COLON_COMMAND, (_, start: string) => `${start}${escaped(":")}:`);
}

function escaped(character: string): string {
  return Array.from(
    { length: character.length },
    (_, at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, "0")}`,
  ).join("");
}

/** Six decimals, and never 1.000000 for a value other than 1. */
export function formatCosine(value: number): string {
  const text = value.toFixed(6);
  return text === "1.000000" && value < 1 - 1e-12 ? `1−${(1 - value).toExponential(0)}` : text;
}

/**
 * The nearest word to a mistyped one: with at most two letters, or a third of it, added, omitted, changed or swapped.
 */
export function nearestWord(mistyped: string, words: readonly string[]): string | undefined {
  const most = Math.max(1, Math.min(2, Math.floor(mistyped.length / 3)));
  const scored = words.map((word) => ({
    word,
    steps: editSteps(mistyped.toLowerCase(), word.toLowerCase()),
  }));
  const [best] = scored.filter(({ steps }) => steps <= most).sort((a, b) => a.steps - b.steps);
  return best?.word;
}

/** Damerau and Levenshtein's distance, of neighbours swapped at most once. */
function editSteps(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return Infinity;
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, column) => column)];
  const at = (row: number, column: number): number => rows[row]?.[column] ?? Infinity;
  for (let i = 1; i <= a.length; i++) {
    rows[i] = [i];
    for (let j = 1; j <= b.length; j++) {
      const isSame = a[i - 1] === b[j - 1];
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      (rows[i] ?? [])[j] = Math.min(
        at(i - 1, j) + 1,
        at(i, j - 1) + 1,
        at(i - 1, j - 1) + (isSame ? 0 : 1),
        isSwap ? at(i - 2, j - 2) + 1 : Infinity,
      );
    }
  }
  return at(a.length, b.length);
}

/** The first of some names, and how many more there are: `a, b, c and 4 more`. */
export function someOf(names: readonly string[]): string {
  const more = names.length - MAX_LISTED;
  return more > 0 ? `${names.slice(0, MAX_LISTED).join(", ")} and ${more} more` : names.join(", ");
}

const MAX_LISTED = 3;

/** A number of things: `1 layer`, `2 layers`. */
export function plural(count: number, noun: string, many: string = `${noun}s`): string {
  return `${count} ${count === 1 ? noun : many}`;
}

/** The number of characters with which both texts start. */
export function commonPrefix(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return length;
}

/** The shortest decimal number that is the same float32: 0.1, not 0.10000000149011612. */
export function formatFloat32(value: number): string {
  const digits = [1, 2, 3, 4, 5, 6, 7, 8].find(
    (count) => Math.fround(Number(value.toPrecision(count))) === Math.fround(value),
  );
  return String(Number(value.toPrecision(digits ?? 9)));
}

/** A name from a file in quotation marks, escaped as in JSON; a long one is cut. */
export function quoted(name: string): string {
  return JSON.stringify(name.slice(0, 80));
}
