/**
 * npm run proof:fuzz -- [--edits N] [--seed S] [--kept]
 *
 * Makes N random edits of proven files, one each. After every edit the proof is gone, or the file computes what it did; the
 * command exits with status 1 if a file is called proven and computes something else. `--kept` lists the edits that were none.
 */

import { parseArgs } from "node:util";
import { campaign } from "./campaign.js";
import { seeds } from "./seeds.js";

const { values } = parseArgs({
  options: {
    edits: { type: "string", default: "5000" },
    seed: { type: "string", default: "1" },
    kept: { type: "boolean", default: false },
  },
});
const files = seeds();
const { edits, refused, same, wrong, kept } = await campaign(
  files,
  Number(values.edits),
  Number(values.seed),
);
for (const line of values.kept ? kept : []) console.log(`the same: ${line}`);
for (const line of wrong) console.log(`WRONG: ${line}`);
console.log(
  `${edits} edits of ${files.length} proven files: ${refused} not proven any more, ${same} the same function, ${wrong.length} wrong`,
);
process.exitCode = wrong.length > 0 ? 1 : 0;
