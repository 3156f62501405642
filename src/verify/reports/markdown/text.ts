/** What the Markdown reports are made of: names, prose, tables, and a document of bounded size. */
import { escapeMarkdown, markdownCode, shorten } from "../escape.js";

/** A link below the verdict, such as to the HTML report. */
export interface ReportLink {
  readonly text: string;
  readonly url: string;
}

/** GitHub takes 65,536 characters in a comment and 1 MiB in a step summary; other text of the comment needs room. */
const MAX_BYTES = 58_000;

/** Longer names say no more, and would fill a table. */
const MAX_NAME = 120;

export function code(name: string): string {
  return markdownCode(shorten(name, MAX_NAME));
}

export function text(prose: string, most: number = MAX_NAME): string {
  return escapeMarkdown(shorten(prose, most));
}

export function mark(passed: boolean): string {
  return passed ? "✅" : "❌";
}

/** @param align a letter per column, `l` or `r`; the last holds for the columns that follow */
export function table(
  header: readonly string[],
  align: string,
  rows: readonly (readonly string[])[],
  most: number,
): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const rule = header.map((_, column) => ((align[column] ?? align.at(-1)) === "r" ? "---:" : "---"));
  const more = rows.length > most ? ["", `… and ${rows.length - most} more, see the JSON report`] : [];
  return [line(header), line(rule), ...rows.slice(0, most).map(line), ...more].join("\n");
}

/** A line of links, or none. */
export function linkLine(links: readonly ReportLink[]): readonly string[] {
  if (links.length === 0) return [];
  return [
    links
      .map(({ text: label, url }) => `[${text(label)}](<${encodeURI(url).replaceAll("%25", "%")}>)`)
      .join(" · "),
  ];
}

/** A document of all lines from the first, as far as they fit into 60 KB. */
export function assemble(sections: readonly string[]): string {
  const encoder = new TextEncoder();
  const lines = sections.join("\n\n").split("\n");
  let bytes = 0;
  const end = lines.findIndex((line) => {
    bytes += encoder.encode(line).length + 1;
    return bytes > MAX_BYTES;
  });
  if (end < 0) return `${lines.join("\n")}\n`;
  return `${lines.slice(0, end).join("\n")}\n\n… shortened: the other reports have the rest\n`;
}
