import { existsSync } from "node:fs";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** The files that take longest, so that no worker is left with one at the end; below test/. */
const LONGEST = [
  "readme.test.ts",
  "verify/families.test.ts",
  "cli/ranking/rank.test.ts",
  "verify/one-finding.test.ts",
  "verify/candidate/foreign.test.ts",
  "verify/recordings.test.ts",
  "verify/candidate/other-exporters.test.ts",
  "verify/candidate/half-precision.test.ts",
  "verify/weights/quantization.test.ts",
  "verify/candidate/accounted.test.ts",
  "verify/weights/common-cause.test.ts",
  "verify/weights/compare-weights.test.ts",
  "cli/verify.test.ts",
  "convert/open/evidence.test.ts",
  "verify/another-network.test.ts",
  "convert/import/differences.test.ts",
  "verify/judge/threads.test.ts",
  "cli/pth2onnx.test.ts",
  "security/silence.test.ts",
  "real.test.ts",
  "cli/without-native.test.ts",
  "mutation/nas.test.ts",
  "verify/candidate/spellings-of-products.test.ts",
  "verify/candidate/optimised.test.ts",
  "fuzz/fuzz.test.ts",
  "verify/candidate/tfjs-pools.test.ts",
  "verify/candidate/spellings-of-shapes.test.ts",
  "mutation/osnet.test.ts",
  "convert/import/tfjs/match.test.ts",
];

/** Files in the order in which vitest would run them, by their last durations or else their sizes, but for the longest. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const absent = LONGEST.filter((name) => !existsSync(`test/${name}`));
    if (absent.length > 0)
      throw new Error(`test/support/longest-first.ts lists files that are not there: ${absent}`);
    // A change of projects ends the workers, which have loaded everything by then.
    const place = ({ project, moduleId }: TestSpecification): number => {
      const found = LONGEST.findIndex((name) => moduleId.endsWith(`/test/${name}`));
      return project.name === "unit" ? (found < 0 ? LONGEST.length : found) : -1;
    };
    return (await super.sort(files)).sort((a, b) => place(a) - place(b));
  }
}
