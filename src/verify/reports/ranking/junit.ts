import type { RankingReport } from "../../ranking/report.js";
import { junitDocument } from "../junit.js";
import { checkText, orderTexts } from "./facts.js";

/** A ranking report as JUnit XML: a suite per candidate, a case per check. */
export function renderRankingJunit({ dataset, candidates }: RankingReport): string {
  return junitDocument(
    candidates.map((candidate) => ({
      name: `${candidate.party.name} on ${dataset.name}`,
      cases: candidate.checks.map((check) => ({
        name: check.figure,
        className: `ranking.${candidate.party.name}`,
        ...(check.passed
          ? {}
          : { outcome: { kind: "failure" as const, type: check.figure, text: checkText(check) } }),
      })),
      seconds: 0,
      output: orderTexts(candidate),
    })),
  );
}
