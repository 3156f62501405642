import type { PageDocument } from "./dom.js";

/** Figures shown beside a place of the window, in pixels. */
export interface Tip {
  show(text: string, x: number, y: number): void;
  hide(): void;
}

/** A box of figures beside the pointer or the focused drawing; screen readers are told too. */
export function makeTip(document: PageDocument): Tip {
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "status");
  document.body.append(tip);
  return {
    show(text, x, y) {
      if (tip.textContent !== text) tip.textContent = text;
      tip.hidden = false;
      const { clientWidth, clientHeight } = document.documentElement;
      const left = Math.min(x + 14, clientWidth - tip.offsetWidth - 8);
      const below = y + 18 + tip.offsetHeight < clientHeight;
      tip.style.left = `${Math.max(8, left)}px`;
      tip.style.top = `${Math.max(4, below ? y + 18 : y - tip.offsetHeight - 12)}px`;
    },
    hide() {
      tip.hidden = true;
    },
  };
}
