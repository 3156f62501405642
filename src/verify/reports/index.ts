import type { ParityReport } from "../outcome/report.js";
import type { SuiteReport } from "../suite/report.js";

/** The report as JSON text, the same for the same result. */
export function renderJson(report: ParityReport): string {
  return `${JSON.stringify(report, null, 2)}\n`;
}

/** The format of a report, by the suffix of its file. */
export const REPORT_FORMATS = ["json", "md", "xml", "html", "sarif"] as const;

/** A format that a report can be rendered in, by its suffix. */
export type ReportFormat = (typeof REPORT_FORMATS)[number];

/** Further information for a rendering. */
interface ReportContext {
  /** The candidate's path relative to the repository's root, for annotations. */
  readonly path?: string;
}

/** Each writer is loaded on demand. */
const WRITERS: {
  readonly [F in ReportFormat]: (report: ParityReport, context: ReportContext) => Promise<string>;
} = {
  json: async (report) => renderJson(report),
  md: async (report) => (await import("./markdown.js")).renderMarkdown(report),
  xml: async (report) => (await import("./junit.js")).renderJunit(report),
  html: async (report) => (await import("./html.js")).renderHtml(report),
  sarif: async (report, { path }) =>
    (await import("./sarif.js")).renderSarif(report, path === undefined ? {} : { path }),
};

/** The folder of a suite's entry reports, relative to the summary's. */
const entryLink = (file: string): string => `entries/${encodeURIComponent(file)}.html`;

const SUITE_WRITERS: { readonly [F in ReportFormat]: (suite: SuiteReport) => Promise<string> } = {
  json: async (suite) => `${JSON.stringify(suite)}\n`,
  md: async (suite) => (await import("./markdown.js")).renderSuiteMarkdown(suite),
  xml: async (suite) => (await import("./junit.js")).renderSuiteJunit(suite),
  html: async (suite) => (await import("./html.js")).renderSuiteHtml(suite, { entryLink }),
  sarif: async (suite) => (await import("./sarif.js")).renderSuiteSarif(suite),
};

/** A report as text. Markdown is under 60 KB; HTML is a self-contained page; JSON is the report itself. */
export function renderReport(
  report: ParityReport,
  format: ReportFormat,
  context: ReportContext = {},
): Promise<string> {
  return WRITERS[format](report, context);
}

/** A suite's summary as text; the HTML expects the entries' reports in a folder `entries` beside it. */
export function renderSuite(suite: SuiteReport, format: ReportFormat): Promise<string> {
  return SUITE_WRITERS[format](suite);
}
