type Child = Node | string | undefined | false;

type Handlers = { readonly [E in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[E]) => void };

export interface Attributes {
  readonly on?: Handlers;
  readonly [name: string]: string | number | boolean | undefined | Handlers;
}

/**
 * Makes an element; an attribute of `false` or `undefined` is omitted, one of `true` is empty. Text is never markup.
 */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for pictures. */
export function svg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): SVGElementTagNameMap[K] {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill<E extends Element>(
  element: E,
  { on = {}, ...attributes }: Attributes,
  children: readonly Child[],
): E {
  for (const [name, value] of Object.entries(attributes))
    if (value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : String(value));
  for (const [event, handler] of Object.entries(on))
    element.addEventListener(event, handler as EventListener);
  element.append(...children.filter((child) => child !== undefined && child !== false));
  return element;
}

/** Text of the library, which is English in every language. */
export function english(
  text: string,
  tag: "p" | "span" | "code" | "li" = "span",
  attributes: Attributes = {},
): HTMLElement {
  return el(tag, { lang: "en", ...attributes }, text);
}

/** Puts other children into an element; what had the focus has it again, if it is still there under its id. */
export function replace(element: Element, ...children: readonly Child[]): void {
  const focused = document.activeElement;
  const id = focused && element.contains(focused) ? focused.id : "";
  element.replaceChildren(...children.filter((child) => child !== undefined && child !== false));
  if (id !== "") document.getElementById(id)?.focus();
}
