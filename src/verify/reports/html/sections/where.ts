import type { SuiteEntry, SuiteReport } from "../../../suite/report.js";
import { formatMargin, marginOf, TELLING_NOTE, telling } from "../../facts.js";
import { groupOf, joinOrders } from "../../groups.js";
import { marginClass, marginLegend } from "../margin-class.js";
import { html, type Markup } from "../markup.js";

/** A network of more parts than any OSNet shows the first. */
const MOST = 40;

/** Entries × parts of the network, coloured by the worst margin in each. */
export function whereSection({ entries }: SuiteReport, link: (entry: SuiteEntry) => Markup): Markup {
  const compared = entries.flatMap((entry) =>
    entry.report ? [{ entry, worst: worstByGroup(telling(entry.report)) }] : [],
  );
  const groups = joinOrders(compared.map(({ worst }) => [...worst.keys()])).slice(0, MOST);
  const rows = compared.map(({ entry, worst }) => {
    const cells = groups.map((group) => {
      const found = worst.get(group);
      if (!found) return html`<td class="k"></td>`;
      const style = marginClass(
        Number.isFinite(found.margin) ? found.margin : null,
        found.fails ? "fail" : "pass",
      );
      return html`<td class="k"><span class="${style}">${found.fails ? "✕ " : ""}${formatMargin(found.margin)}</span></td>`;
    });
    return html`<tr><th scope="row">${link(entry)}</th>${cells}</tr>`;
  });
  return html`<section id="where" aria-labelledby="where-h"><h2 id="where-h">Where</h2>
<p class="soft">The worst margin in each part of the network, from the image to the embedding. ${TELLING_NOTE}</p>${marginLegend({ shapes: false })}
<div class="scroll" tabindex="0" role="region" aria-label="Worst margins by part of the network"><table class="matrix"><thead><tr><th scope="col">entry</th>${groups.map((group) => html`<th scope="col" class="v">${group}</th>`)}</tr></thead><tbody>${rows}</tbody></table></div></section>`;
}

interface Worst {
  readonly margin: number;
  readonly fails: boolean;
}

function worstByGroup(layers: NonNullable<SuiteEntry["report"]>["layers"]): ReadonlyMap<string, Worst> {
  const groups = new Map<string, Worst>();
  for (const layer of layers) {
    const name = groupOf(layer.name);
    const so = groups.get(name) ?? { margin: 0, fails: false };
    groups.set(name, {
      margin: Math.max(so.margin, marginOf(layer)),
      fails: so.fails || layer.status === "fail",
    });
  }
  return groups;
}
