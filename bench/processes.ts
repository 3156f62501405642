import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { exporterArguments, type Peers } from "./peers.js";
import { median, type Row, type Subject } from "./results.js";

/** Measures how long a process takes and how much memory it needs, where the system has it. */
const TIME = "/usr/bin/time";

const COMMANDS = fileURLToPath(new URL("../../dist/bin/", import.meta.url));

type Command = readonly [program: string, ...args: string[]];

/** A command, and the one that it is compared with. */
interface Contest {
  readonly work: string;
  readonly peer: string;
  readonly goal: number;
  readonly own: string;
  readonly other: string;
}

/** Wall time in milliseconds, and the most memory in MiB. */
interface Run {
  readonly took: number;
  readonly peak: number | undefined;
}

function run(command: Command, folder: string): Run {
  const report = join(folder, "time.txt");
  const isTimed = existsSync(TIME);
  const [program, ...args] = isTimed ? ([TIME, "-o", report, "-f", "%M", ...command] as const) : command;
  const start = performance.now();
  const { status, stderr } = spawnSync(program, args, {
    cwd: folder,
    encoding: "utf8",
    stdio: ["ignore", "ignore", "pipe"],
  });
  const took = performance.now() - start;
  if (status !== 0) throw new Error(`${command.join(" ")} ended with ${status}: ${stderr.slice(-2000)}`);
  return { took, peak: isTimed ? Number(readFileSync(report, "utf8").trim()) / 1024 : undefined };
}

/** Commands in turn, so that whatever else the machine does falls on all of them; the first round warms caches and does not count. */
function inTurn(
  commands: Readonly<Record<string, Command>>,
  rounds: number,
  folder: string,
): Map<string, Run[]> {
  const runs = new Map<string, Run[]>(Object.keys(commands).map((name) => [name, []]));
  for (let round = 0; round <= rounds; round++)
    for (const [name, command] of Object.entries(commands)) {
      const result = run(command, folder);
      if (round > 0) runs.get(name)?.push(result);
    }
  return runs;
}

function rowOf({ work, peer, goal, own, other }: Contest, runs: ReadonlyMap<string, readonly Run[]>): Row {
  const [ownRuns, otherRuns] = [runs.get(own) ?? [], runs.get(other) ?? []];
  const peakOf = (all: readonly Run[]): number => median(all.flatMap(({ peak }) => peak ?? []));
  const peaks = { own: peakOf(ownRuns), other: peakOf(otherRuns) };
  return {
    work,
    peer,
    ratio: median(ownRuns.map(({ took }, round) => took / (otherRuns[round]?.took ?? NaN))),
    goal,
    own: Math.min(...ownRuns.map(({ took }) => took)),
    other: Math.min(...otherRuns.map(({ took }) => took)),
    rounds: ownRuns.length,
    ...(Number.isFinite(peaks.own) ? { peak: peaks } : {}),
  };
}

/**
 * Whole processes, from start to exit, on a checkpoint of a network: osnet-convert's and the other tool's alternately.
 */
export function benchProcesses(
  { name, checkpoint }: Subject,
  { torch, polygraphy }: Peers,
  rounds: number,
): readonly Row[] {
  const folder = mkdtempSync(join(tmpdir(), "osnet-bench-"));
  const ownCommand = (command: string, ...args: string[]): Command => [
    process.execPath,
    join(COMMANDS, `${command}.js`),
    ...args,
  ];
  const rows: Row[] = [];
  try {
    const exporter = exporterArguments(folder, checkpoint);
    const verifying = ownCommand("osnet-verify", "w.onnx", "w.pth", "--quiet");
    const helps = inTurn(
      {
        node: [process.execPath, "-e", "0"],
        convert: ownCommand("osnet-convert", "--help"),
        verify: ownCommand("osnet-verify", "--help"),
      },
      3 * rounds,
      folder,
    );
    for (const command of ["convert", "verify"])
      rows.push(
        rowOf(
          { work: `osnet-${command} --help`, peer: "node -e 0", goal: 1.25, own: command, other: "node" },
          helps,
        ),
      );
    execFileSync(
      verifying[0],
      ownCommand(
        "osnet-convert",
        "pth2onnx",
        "w.pth",
        "-o",
        "w.onnx",
        "--no-verify",
        "--force",
        "--quiet",
      ).slice(1),
      { cwd: folder },
    );
    if (torch) {
      const peer = `torch.onnx.export, ${torch.version}`;
      const converting = ["pth2onnx", "w.pth", "-o", "own.onnx", "--force", "--quiet"];
      const exports = inTurn(
        {
          torch: [torch.python, ...exporter],
          plain: ownCommand("osnet-convert", ...converting, "--no-verify"),
          verified: ownCommand("osnet-convert", ...converting),
        },
        rounds,
        folder,
      );
      rows.push(
        rowOf(
          { work: `pth2onnx --no-verify, ${name}`, peer, goal: 0.09, own: "plain", other: "torch" },
          exports,
        ),
        rowOf(
          { work: `pth2onnx, verified, ${name}`, peer, goal: 0.9, own: "verified", other: "torch" },
          exports,
        ),
      );
    }
    if (polygraphy) {
      const [program, ...start] = polygraphy.command;
      const marked = [
        ...start,
        "run",
        "w.onnx",
        "--onnxrt",
        "--onnx-outputs",
        "mark",
        "all",
        "--input-shapes",
        "images:[2,3,256,128]",
      ];
      execFileSync(program, [...marked, "--save-outputs", "saved.json"], { cwd: folder, stdio: "ignore" });
      const verified = inTurn(
        { polygraphy: [program, ...marked, "--load-outputs", "saved.json"], verify: verifying },
        Math.max(3, rounds - 2),
        folder,
      );
      const peer = `Polygraphy ${polygraphy.version}, mark all, against saved outputs`;
      rows.push(
        rowOf(
          { work: `osnet-verify, all layers, ${name}`, peer, goal: 0.2, own: "verify", other: "polygraphy" },
          verified,
        ),
      );
    }
    return rows;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
