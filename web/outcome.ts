import { Refusal } from "./client.js";
import { el, english } from "./dom.js";
import { marginLegend, networkDrawing } from "./drawing.js";
import type { Converted, Verdict } from "./protocol.js";
import { megabytes, type Outcome, type State, wordsOf } from "./state.js";
import type { Words } from "./words.js";

/** As many faults are shown; the report has all. */
const SHOWN_FAULTS = 8;

/** The heading of what a job came to, which is focused when it is there. */
export const OUTCOME_HEADING = "outcome-h";

/** The result of a job, the verdict first. */
export function outcomeView(outcome: Outcome, state: State): HTMLElement {
  const words = wordsOf(state);
  if (outcome.kind === "cancelled") return card(el("h2", heading, words.cancelled));
  if (outcome.kind === "refused" || outcome.kind === "crashed")
    return card(
      el("h2", heading, outcome.kind === "refused" ? words.refusal : words.crash),
      problemView(outcome.problem, words),
    );
  if (outcome.kind === "verified")
    return card(
      ...head(outcome.verdict, state),
      downloads([reportLink(outcome.verdict, words)]),
      ...body(outcome.verdict, state),
    );
  return convertedView(outcome.result, state);
}

const heading = { id: OUTCOME_HEADING, tabindex: "-1" } as const;

function card(...children: (Node | undefined | false)[]): HTMLElement {
  return el("section", { class: "card outcome", "aria-labelledby": OUTCOME_HEADING }, ...children);
}

/** The library's sentence, with its details; or a bug in the page. */
export function problemView(problem: Refusal | Error, words: Words): HTMLElement {
  if (!(problem instanceof Refusal))
    return el(
      "div",
      { class: "problem", role: "alert" },
      el("p", {}, words.crash),
      english(problem.message, "code"),
    );
  const { message, details } = problem;
  return el(
    "div",
    { class: "problem", role: "alert" },
    english(message, "p"),
    details.length > 0 &&
      el(
        "details",
        { id: `details-${message.length}-${details.length}` },
        el("summary", {}, words.details(details.length)),
        el(
          "ul",
          { lang: "en", class: "notes name" },
          ...details.slice(0, 200).map((line) => el("li", {}, line)),
        ),
      ),
  );
}

function convertedView(result: Converted, state: State): HTMLElement {
  const words = wordsOf(state);
  const { verdict, weights, download, notes, zeros, lifted, passed } = result;
  const buttons = [
    ...(download
      ? [
          link(
            download.name,
            download.blob,
            words.download(download.name, megabytes(download.blob.size, state)),
            "primary",
          ),
        ]
      : []),
    ...(verdict ? [reportLink(verdict, words)] : []),
  ];
  return card(
    ...(verdict ? head(verdict, state) : []),
    ...(weights
      ? title(
          passed,
          passed ? words.weightsPassed(weights.tensors) : words.weightsFailed(weights.differences.length),
          words,
        )
      : []),
    !passed && el("p", { class: "refusal" }, words.notWritten),
    downloads(buttons),
    ...(verdict ? body(verdict, state) : []),
    weights &&
      weights.differences.length > 0 &&
      el(
        "ul",
        { lang: "en", class: "notes" },
        ...weights.differences.slice(0, 50).map((line) => el("li", {}, line)),
      ),
    lifted && el("p", { class: "soft" }, words.lifted(lifted.layers, lifted.gates)),
    zeros > 0 && el("p", { class: "soft" }, words.zeros(zeros)),
    notes.length > 0 &&
      el(
        "details",
        { id: "conversion-notes" },
        el("summary", {}, words.notes),
        el("ul", { lang: "en", class: "notes" }, ...notes.map((note) => el("li", {}, note))),
      ),
  );
}

function title(passed: boolean, clause: string, words: Words): HTMLElement[] {
  return [
    el(
      "h2",
      { ...heading, class: "verdict" },
      el(
        "span",
        { class: `pill ${passed ? "pass" : "fail"}` },
        passed ? words.verdicts.pass : words.verdicts.fail,
      ),
      " ",
      el("span", { class: "clause" }, clause),
    ),
  ];
}

function head(verdict: Verdict, state: State): HTMLElement[] {
  const words = wordsOf(state);
  const { passed, layers, gates, faults, candidate, reference, backend } = verdict;
  const clause = passed
    ? words.passed(layers.length, gates)
    : words.failed(faults.length, faults[0]?.name ?? "–");
  return [
    ...title(passed, clause, words),
    el(
      "p",
      { class: "subject" },
      words.against(candidate, backend, reference),
      ` · ${words.seconds(verdict.seconds.toFixed(1))}`,
    ),
  ];
}

function body(verdict: Verdict, state: State): (HTMLElement | false)[] {
  const words = wordsOf(state);
  const { faults, picture, layers, warnings } = verdict;
  return [
    el("dl", { class: "tiles" }, ...tiles(verdict, words)),
    faults.length > 0 && faultList(verdict, words),
    warnings.length > 0 &&
      el("ul", { class: "warnings", lang: "en" }, ...warnings.map((warning) => el("li", {}, warning))),
    picture.length > 0 &&
      el(
        "div",
        { class: "picture" },
        el("h3", {}, words.network),
        marginLegend(words),
        networkDrawing(
          picture,
          words,
          layers,
          faults.flatMap((fault) => fault.layers),
        ),
        el("p", { class: "soft" }, words.networkNote),
      ),
  ];
}

function tiles({ passed, proof, worst, drift, quantised }: Verdict, words: Words): HTMLElement[] {
  const tile = (figure: string, label: string): HTMLElement =>
    el("div", {}, el("dt", {}, label), el("dd", {}, figure));
  return [
    ...(passed && proof
      ? [
          proof.isProven
            ? tile(words.proven, words.provenNote(proof.within))
            : tile(words.sampled, words.sampledNote(proof.images)),
        ]
      : []),
    ...(drift === null ? [] : [tile(drift.toExponential(1), words.drift)]),
    ...(worst ? [tile(worst.margin, passed ? words.worst(worst.name) : words.worstFault(worst.name))] : []),
    ...(quantised ? [tile(quantised.cosine.toPrecision(6), words.quantised(quantised.dtypes))] : []),
  ];
}

function faultList({ faults }: Verdict, words: Words): HTMLElement {
  return el(
    "div",
    {},
    el("h3", {}, words.faults),
    el(
      "ol",
      { class: "faults" },
      ...faults
        .slice(0, SHOWN_FAULTS)
        .map(({ name, kind, explanation }) =>
          el(
            "li",
            {},
            el("b", { class: "name" }, name),
            " ",
            el("span", { class: "kind" }, words.faultKinds[kind]),
            english(explanation, "p"),
          ),
        ),
    ),
    faults.length > SHOWN_FAULTS &&
      el("p", { class: "soft" }, words.moreFaults(faults.length - SHOWN_FAULTS)),
  );
}

function reportLink({ candidate, report }: Verdict, words: Words): HTMLAnchorElement {
  return link(`${candidate}.html`, report, words.downloadReport, "plain");
}

function downloads(links: readonly HTMLAnchorElement[]): HTMLElement | false {
  return links.length > 0 && el("p", { class: "actions" }, ...links);
}

/** Addresses of what can be downloaded, so that each is made once however often the page is drawn. */
const addresses = new WeakMap<Blob, string>();
const owned = new Set<string>();

function link(name: string, blob: Blob, text: string, style: string): HTMLAnchorElement {
  const href = addresses.get(blob) ?? URL.createObjectURL(blob);
  addresses.set(blob, href);
  owned.add(href);
  return el("a", { class: `button ${style}`, href, download: name }, text);
}

/** Gives back what was offered for download; called before another outcome takes its place. */
export function releaseDownloads(): void {
  for (const href of owned) URL.revokeObjectURL(href);
  owned.clear();
}
