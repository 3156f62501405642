import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { encodePth } from "../src/convert/formats/pth/index.js";
import type { Checkpoint } from "../src/convert/import/checkpoint.js";

/** What a network is measured against. */
export interface Peer {
  /** With its version. */
  readonly name: string;
  /** The same network as an ONNX file. */
  readonly bytes: Uint8Array;
}

const EXPORTER = fileURLToPath(new URL("../../bench/torch_osnet.py", import.meta.url));

/** The Python that has torch and onnx: the environment variable PYTHON, or `python3`; undefined, with the reason, if neither has. */
export function findTorch(): { readonly python: string } | { readonly missing: string } {
  const python = process.env.PYTHON ?? "python3";
  try {
    execFileSync(python, ["-c", "import torch, onnx"], { stdio: "ignore" });
    return { python };
  } catch {
    return { missing: `${python} has no torch and onnx: set PYTHON to one that has` };
  }
}

/** torch's own export of a checkpoint's network. */
export function exportByTorch(
  python: string,
  { spec, graph, stateDict }: Pick<Checkpoint, "spec" | "graph" | "stateDict">,
): Peer {
  const folder = mkdtempSync(join(tmpdir(), "osnet-bench-"));
  try {
    const [description, weights, out] = ["spec.json", "w.pth", "torch.onnx"].map((name) =>
      join(folder, name),
    ) as [string, string, string];
    writeFileSync(description, JSON.stringify(spec));
    const own = new Set(graph.nodes.flatMap(({ parameters }) => Object.values(parameters)));
    const counters = [...stateDict.keys()].filter((path) => path.endsWith(".num_batches_tracked"));
    const kept = [...stateDict].filter(([path]) => own.has(path) || counters.includes(path));
    writeFileSync(weights, encodePth(new Map(kept), { subject: "bench" }));
    const output = execFileSync(python, [EXPORTER, description, weights, out], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    return { name: `torch ${output.trim().split("\n").at(-1)}`, bytes: readFileSync(out) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
