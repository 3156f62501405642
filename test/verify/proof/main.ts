/**
 * npm run proof:fuzz -- [--edits N] [--seed S] [--format ONNX|TensorFlow.js] [--kept]
 *
 * Makes N random edits of proven files of each format, one each. After every edit the proof is gone, or the file computes what it did; the
 * command exits with status 1 if a file is called proven and computes something else. `--kept` lists the edits that were none.
 */

import { parseArgs } from "node:util";
import { campaign, type Outcome } from "./campaign.js";
import { seeds } from "./seeds.js";
import { tfjsCampaign, tfjsSeeds } from "./tfjs-campaign.js";

const { values } = parseArgs({
  options: {
    edits: { type: "string", default: "5000" },
    seed: { type: "string", default: "1" },
    format: { type: "string" },
    kept: { type: "boolean", default: false },
  },
});
const campaigns = [
  { format: "ONNX", files: seeds(), run: campaign },
  { format: "TensorFlow.js", files: tfjsSeeds(), run: tfjsCampaign },
] as const;
for (const { format, files, run } of campaigns.filter(
  ({ format }) => values.format === undefined || format === values.format,
)) {
  // Each kind of file goes with its own campaign.
  const outcome = await (run as (files: readonly unknown[], edits: number, seed: number) => Promise<Outcome>)(
    files,
    Number(values.edits),
    Number(values.seed),
  );
  const { edits, refused, same, wrong, kept } = outcome;
  for (const line of values.kept ? kept : []) console.log(`the same: ${line}`);
  for (const line of wrong) console.log(`WRONG: ${line}`);
  console.log(
    `${edits} edits of ${files.length} proven ${format} files: ${refused} not proven any more, ${same} the same function, ${wrong.length} wrong`,
  );
  if (wrong.length > 0) process.exitCode = 1;
}
