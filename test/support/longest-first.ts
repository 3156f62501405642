import { existsSync } from "node:fs";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** The files that take longest, so that no worker is left with one at the end; below test/. */
const LONGEST = [
  "readme.test.ts",
  "verify/families.test.ts",
  "verify/recordings.test.ts",
  "cli/ranking/rank.test.ts",
  "verify/candidate/accounted.test.ts",
  "convert/import/tfjs/match.test.ts",
  "verify/candidate/spellings-of-activations.test.ts",
  "verify/candidate/other-exporters.test.ts",
  "verify/another-network.test.ts",
  "verify/candidate/foreign.test.ts",
  "security/silence.test.ts",
  "verify/proof/generator.test.ts",
  "mutation/nas.test.ts",
  "mutation/osnet.test.ts",
  "mutation/attribute.test.ts",
  "mutation/ibn.test.ts",
  "mutation/ain.test.ts",
  "verify/candidate/half-precision.test.ts",
  "verify/weights/quantization.test.ts",
  "verify/candidate/tfjs-pools.test.ts",
  "cli/without-native.test.ts",
  "cli/verify.test.ts",
  "verify/candidate/strange-graphs.test.ts",
  "cli/suite/families.test.ts",
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
