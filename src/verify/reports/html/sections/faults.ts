import type { Fault } from "../../../report.js";
import { formatMargin, plural } from "../../facts.js";
import { groupFaults } from "../../faults.js";
import { html, type Markup, NOTHING } from "../markup.js";

/** Something that is wrong: a fault of a layer, or an entry of a suite that could not be run. */
export interface Wrong {
  readonly name: string;
  readonly kind: string;
  readonly amount?: string;
  readonly what: string;
  /** The entry of a suite that it is in. */
  readonly of?: Markup;
  readonly isWarning?: boolean;
}

/** More are in the JSON report. */
const MOST = 100;

/** Worst first, as the report has them. */
export function faultSection(faults: readonly Fault[]): Markup {
  const wrongs = wrongsOf(faults);
  const note =
    wrongs.length < faults.length
      ? " What is wrong with a gate is wrong in every stream, and stands here once."
      : "";
  return html`<section id="faults" aria-labelledby="faults-h"><h2 id="faults-h">${plural(faults.length, "fault")}</h2>
<p class="soft">Where the candidate first departs from the reference; what follows from it further on is not listed.${note}</p>
${wrongList(wrongs)}</section>`;
}

export function wrongsOf(faults: readonly Fault[]): readonly Wrong[] {
  return groupFaults(faults).map(({ name, kind, worst }) => ({
    name,
    kind,
    what: worst.explanation,
    ...(worst.margin === null ? {} : { amount: `margin ${formatMargin(worst.margin)}` }),
  }));
}

export function wrongList(wrongs: readonly Wrong[]): Markup {
  const rest = wrongs.length - MOST;
  return html`<ol class="faults">${wrongs.slice(0, MOST).map(item)}</ol>${rest > 0 ? html`<p class="soft">… and ${rest} more, see the JSON report</p>` : NOTHING}`;
}

function item({ name, kind, amount, what, of, isWarning = false }: Wrong): Markup {
  return html`<li class="${isWarning ? "warn" : ""}"><div class="what"><b class="name">${name}</b><span class="kind">${kind}</span>${amount ? html`<span class="amount">${amount}</span>` : NOTHING}</div>
<p>${what}</p>${of ? html`<div class="of soft">in ${of}</div>` : NOTHING}</li>
`;
}
