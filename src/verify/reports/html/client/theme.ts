import type { PageDocument } from "./dom.js";

/** A button that turns light into dark and back; the page starts as the reader's system is. */
export function makeThemeButton(document: PageDocument, prefersDark: boolean): void {
  const root = document.documentElement;
  document.querySelector("#theme")?.addEventListener("click", () => {
    const isDark = (root.getAttribute("data-theme") ?? (prefersDark ? "dark" : "light")) === "dark";
    root.setAttribute("data-theme", isDark ? "light" : "dark");
  });
}
