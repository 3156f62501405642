/**
 * Names come from files, and reports are shown where names can do harm: in a terminal, a web page, a pull request. One
 * escape per target, each of which first makes the text printable.
 */
import { clean } from "../../core/text.js";

/** Longer texts, such as a name of a megabyte, are cut. */
const MAX_LENGTH = 500;

/** Text without control characters, on one line of bounded length. */
export function printable(text: string): string {
  return clean(shorten(text, MAX_LENGTH));
}

/** The text, or as much of it as leaves room for an ellipsis. */
export function shorten(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

const MARKUP: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** For the text and the quoted attributes of XML 1.0 and HTML: `]]>` and `</script>` do not survive it either. */
export function escapeMarkup(text: string): string {
  return printable(text).replace(/[&<>"']/g, (character) => MARKUP[character] ?? "");
}

/**
 * For the text of GitHub-flavoured Markdown, also in table cells. Entities are text to a Markdown parser; mentions are
 * searched for afterwards, so an @ is separated from what follows.
 */
export function escapeMarkdown(text: string): string {
  return printable(text)
    .replace(/[&<>"\\`*_[\]|~#!]/g, (character) => MARKUP[character] ?? `&#${character.charCodeAt(0)};`)
    .replace(/@/g, "@&#8203;")
    .replace(/:(?=\/\/)/g, "&#58;")
    .replace(/\bwww\./gi, "www&#46;");
}

/** A name as code in Markdown: in backticks, unless it contains one or would end a table cell. */
export function markdownCode(name: string): string {
  const text = printable(name);
  return text === "" || /[`|\\]/.test(text) || text !== text.trim()
    ? `<code>${escapeMarkdown(text)}</code>`
    : `\`${text}\``;
}

/** JSON for an HTML script element: without `</script>`, `<!--` or line separators. */
export function escapeJsonForScript(value: unknown): string {
  return JSON.stringify(value).replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** A path as a relative URI reference (RFC 3986), each segment percent-encoded. */
export function pathToUri(path: string): string {
  const encoded = path
    .replaceAll("\\", "/")
    .split("/")
    .map((segment) => encodeURIComponent(printable(segment)))
    .join("/");
  // A colon in the first segment would be a scheme, but encodeURIComponent has escaped it already.
  return encoded === "" ? "unnamed" : encoded;
}
