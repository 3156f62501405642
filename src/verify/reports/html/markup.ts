import { escapeMarkup } from "../escape.js";

/**
 * A piece of HTML or SVG that is safe as it stands. A class, so that nothing parsed from a report's JSON can pass for it,
 * whatever fields it has.
 */
class SafeMarkup {
  readonly #markup: string;

  constructor(markup: string) {
    this.#markup = markup;
  }

  get markup(): string {
    return this.#markup;
  }

  static is(value: unknown): value is SafeMarkup {
    return typeof value === "object" && value !== null && #markup in value;
  }
}

export type { SafeMarkup as Markup };

type Markup = SafeMarkup;

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
  return new SafeMarkup(markup);
}

/** Text of ours that is markup already: style, script, numbers put together. */
export function raw(markup: string): Markup {
  return new SafeMarkup(markup);
}

export const NOTHING: Markup = raw("");

function textOf(value: Value): string {
  if (SafeMarkup.is(value)) return value.markup;
  if (Array.isArray(value)) return value.map(textOf).join("");
  // Anything else is text, even where a report has an object in a number's place.
  return escapeMarkup(String(value));
}
