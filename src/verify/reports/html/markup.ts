import { escapeMarkup } from "../escape.js";

/** A piece of HTML or SVG that is safe as it stands. */
export interface Markup {
  readonly markup: string;
}

type Value = Markup | string | number | readonly (Markup | string)[];

/**
 * Builds markup from a template: every value is escaped, unless it is markup itself. Attributes that hold values must
 * be quoted.
 */
export function html(parts: TemplateStringsArray, ...values: readonly Value[]): Markup {
  let markup = parts[0] ?? "";
  values.forEach((value, index) => {
    markup += textOf(value) + (parts[index + 1] ?? "");
  });
  return { markup };
}

/** Text of ours that is markup already: style, script, numbers put together. */
export function raw(markup: string): Markup {
  return { markup };
}

export const NOTHING: Markup = raw("");

function textOf(value: Value): string {
  if (typeof value === "string") return escapeMarkup(value);
  if (typeof value === "number") return String(value);
  if ("markup" in value) return value.markup;
  return value.map(textOf).join("");
}
