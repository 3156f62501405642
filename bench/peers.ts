import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { encodePth } from "../src/convert/formats/pth/encode.js";
import type { Checkpoint } from "../src/convert/open/checkpoint.js";

/** What our work is measured against, as far as it is installed. */
export interface Peers {
  readonly torch?: { readonly python: string; readonly version: string };
  readonly polygraphy?: { readonly command: readonly [string, ...string[]]; readonly version: string };
  /** What was not found, a sentence each. */
  readonly missing: readonly string[];
}

const EXPORTER = fileURLToPath(new URL("../../bench/torch_osnet.py", import.meta.url));

/** Runs the Python of the environment variable PYTHON, or `python3`. */
export function findPeers(): Peers {
  const python = process.env.PYTHON ?? "python3";
  const ask = (code: string): string | undefined => {
    try {
      return execFileSync(python, ["-c", code], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      }).trim();
    } catch {
      return undefined;
    }
  };
  const torch = ask("import torch, onnx; print(torch.__version__)");
  const polygraphy = ask("import onnxruntime, polygraphy; print(polygraphy.__version__)");
  const missing = [
    ...(torch ? [] : [`no torch and onnx in ${python}`]),
    ...(polygraphy ? [] : [`no polygraphy and onnxruntime in ${python}`]),
  ];
  return {
    ...(torch ? { torch: { python, version: torch } } : {}),
    ...(polygraphy
      ? {
          polygraphy: {
            command: [python, "-c", "import sys; from polygraphy.tools import main; sys.exit(main())"],
            version: polygraphy,
          },
        }
      : {}),
    missing,
  };
}

type Network = Pick<Checkpoint, "spec" | "graph" | "stateDict">;

/**
 * Writes what the exporter of torch_osnet.py reads, `spec.json` and `w.pth`, into a folder.
 *
 * @returns the arguments of Python that write `torch.onnx` there
 */
export function exporterArguments(folder: string, { spec, graph, stateDict }: Network): readonly string[] {
  const [description, weights, out] = ["spec.json", "w.pth", "torch.onnx"].map((name) =>
    join(folder, name),
  ) as [string, string, string];
  writeFileSync(description, JSON.stringify(spec));
  const own = new Set(graph.nodes.flatMap(({ parameters }) => Object.values(parameters)));
  const counters = [...stateDict.keys()].filter((path) => path.endsWith(".num_batches_tracked"));
  const kept = [...stateDict].filter(([path]) => own.has(path) || counters.includes(path));
  writeFileSync(weights, encodePth(new Map(kept), { subject: "bench" }));
  return [EXPORTER, description, weights, out];
}

/** torch's own export of a checkpoint's network: the bytes of an ONNX file. */
export function exportByTorch(python: string, network: Network): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), "osnet-bench-"));
  try {
    execFileSync(python, exporterArguments(folder, network), { stdio: "ignore" });
    return readFileSync(join(folder, "torch.onnx"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
