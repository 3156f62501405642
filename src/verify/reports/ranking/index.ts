import type { RankingReport } from "../../ranking/report.js";
import type { RankingPageOptions } from "./page.js";

/** How a ranking report is written, by the suffix of its file. */
export const RANKING_FORMATS = ["json", "md", "xml", "html"] as const;

export type RankingFormat = (typeof RANKING_FORMATS)[number];

/** A ranking report as text: JSON is the report itself, HTML one self-contained page. */
export async function renderRanking(
  report: RankingReport,
  format: RankingFormat,
  options: RankingPageOptions = {},
): Promise<string> {
  switch (format) {
    case "json":
      return `${JSON.stringify(report, null, 2)}\n`;
    case "md":
      return (await import("./markdown.js")).renderRankingMarkdown(report);
    case "xml":
      return (await import("./junit.js")).renderRankingJunit(report);
    case "html":
      return (await import("./page.js")).renderRankingHtml(report, options);
  }
}
