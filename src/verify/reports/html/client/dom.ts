/**
 * What the pages' script uses of a browser's document. The project is compiled without the DOM's types, so that nothing
 * else comes to rely on a document.
 */
export interface PageDocument {
  readonly body: PageElement;
  readonly documentElement: PageElement;
  createElement(name: string): PageElement;
  querySelector(selector: string): PageElement | null;
  querySelectorAll(selector: string): PageElements;
}

export interface PageElement {
  id: string;
  type: string;
  value: string;
  hidden: boolean;
  textContent: string | null;
  readonly firstChild: PageElement | null;
  readonly children: ArrayLike<PageElement>;
  readonly classList: {
    add(name: string): void;
    remove(name: string): void;
    contains(name: string): boolean;
  };
  readonly style: { left: string; top: string; opacity: string };
  readonly clientWidth: number;
  readonly clientHeight: number;
  readonly offsetWidth: number;
  readonly offsetHeight: number;
  append(...nodes: readonly PageElement[]): void;
  getAttribute(name: string): string | null;
  setAttribute(name: string, value: string): void;
  removeAttribute(name: string): void;
  querySelector(selector: string): PageElement | null;
  querySelectorAll(selector: string): PageElements;
  addEventListener(type: string, listener: (event: PageEvent) => void): void;
  getBoundingClientRect(): PageBox;
  scrollIntoView(options: { readonly block: "center" }): void;
}

type PageElements = ArrayLike<PageElement> &
  Iterable<PageElement> & { forEach(each: (element: PageElement, index: number) => void): void };

interface PageBox {
  readonly left: number;
  readonly top: number;
  readonly bottom: number;
  readonly width: number;
  readonly height: number;
}

export interface PageEvent {
  readonly target: unknown;
  readonly key: string;
  readonly clientX: number;
  readonly clientY: number;
  preventDefault(): void;
}
