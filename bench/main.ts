import { readFileSync, writeFileSync } from "node:fs";
import { arch, cpus, platform } from "node:os";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { expand, variant } from "../src/arch/index.js";
import { liftCheckpoint } from "../src/convert/open/lift.js";
import { openFile } from "../src/convert/open/open-file.js";
import { seededStateDict } from "../src/convert/seeded-weights.js";
import { benchInference } from "./inference.js";
import { findPeers } from "./peers.js";
import { benchProcesses } from "./processes.js";
import { type Results, type Row, type Subject, table, withQuotation } from "./results.js";

/**
 * `npm run bench -- [--trained FILE]… [--rounds N]`: compares osnet-convert with other tools, alternating between the two in one
 * run. Prints the table, writes it to bench/results.json, and updates the documents that quote it. Comparisons with a tool that is not
 * installed are skipped, with a note.
 */

const RESULTS = fileURLToPath(new URL("../../bench/results.json", import.meta.url));
/** They quote the results. */
const DOCUMENTS = ["README.md", "bench/README.md"].map((path) =>
  fileURLToPath(new URL(`../../${path}`, import.meta.url)),
);

/** Rounds of inference to one of whole processes. */
const INFERENCES = 12;

const { values } = parseArgs({
  options: {
    trained: { type: "string", multiple: true, default: [] },
    rounds: { type: "string", default: "7" },
  },
});

/** A file of trained weights: a checkpoint, or an ONNX file from any exporter, whose weights are imported. */
function openTrained(path: string): Subject {
  const bytes = readFileSync(path);
  const name = basename(path);
  const opened = openFile({ name, bytes });
  if (opened.kind === "recording") throw new Error(`${name} is a recording`);
  const checkpoint = opened.kind === "model" ? liftCheckpoint(opened.model) : opened.checkpoint;
  return { name: `trained, ${name}`, checkpoint: { ...checkpoint, isTrained: true } };
}

function openRandom(name: "osnet_x0_25" | "osnet_x1_0" | "osnet_ain_x1_0"): Subject {
  const spec = variant(name);
  const graph = expand(spec);
  return {
    name: `random weights, ${name}`,
    checkpoint: { spec, graph, stateDict: seededStateDict(graph, 0), isTrained: false },
  };
}

const rows: Row[] = [];
const peers = findPeers();
const rounds = Number(values.rounds);
for (const missing of peers.missing) console.error(`skipped all comparisons with it: ${missing}`);
const random = (["osnet_x0_25", "osnet_x1_0", "osnet_ain_x1_0"] as const).map(openRandom);
if (peers.torch) {
  const subjects = [...values.trained.map(openTrained), ...random];
  rows.push(...(await benchInference(subjects, peers.torch, INFERENCES * rounds)));
}
for (const subject of random)
  if (subject.name.endsWith(" osnet_x1_0")) rows.push(...benchProcesses(subject, peers, rounds));
console.log(table(rows));
const results: Results = {
  schema: "osnet-bench/1",
  node: process.version,
  machine: {
    platform: `${platform()}-${arch()}`,
    cpu: cpus()[0]?.model.trim() ?? "",
    cores: cpus().length,
  },
  rows,
};
writeFileSync(RESULTS, `${JSON.stringify(results, null, 2)}\n`);
for (const path of DOCUMENTS) writeFileSync(path, withQuotation(readFileSync(path, "utf8"), results));
