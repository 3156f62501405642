import { basename } from "node:path";
import type { BaselineOptions } from "../verify/baseline.js";

/** The options of a comparison with an earlier report. */
export interface BaselineFlags {
  readonly baseline?: string;
  readonly baselineFactor?: number;
  readonly baselinePolicy?: "fail" | "warn";
}

/** How a report is compared with an earlier one; undefined without `--baseline`. */
export function baselineOptions({
  baseline,
  baselineFactor: factor,
  baselinePolicy: policy,
}: BaselineFlags): (BaselineOptions & { readonly path: string }) | undefined {
  if (baseline === undefined) return undefined;
  return {
    path: baseline,
    name: basename(baseline),
    ...(factor === undefined ? {} : { factor }),
    ...(policy === undefined ? {} : { policy }),
  };
}
