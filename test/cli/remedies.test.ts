import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type CommandName, refusal, run } from "./command.js";

/** Every command that has options of its own; conversions by what they read and write. */
const FORMATS = ["pth", "safetensors", "npz", "onnx", "tfjs"];
const COMMANDS: readonly (readonly [CommandName, ...string[]])[] = [
  ["osnet-convert"],
  ["osnet-convert", "inspect"],
  ...FORMATS.map((to) => ["osnet-convert", `pth2${to}`] as const),
  ["osnet-verify"],
  ...["suite", "merge", "rank", "embed"].map((name) => ["osnet-verify", name] as const),
];

/** Other programs' options: npm's in messages, V8's that start.ts sets; and what failure.ts answers by an option of ours. */
const OTHERS = new Set([
  ...["--ignore-scripts", "--git-lfs"],
  ...[
    "--semi-space-growth-factor",
    "--heap-growing-percent",
    "--interrupt-budget",
    "--expose-gc",
    "--single-threaded-gc",
  ],
  "--experimental-wasm-relaxed-simd",
]);
const OPTION = /(?<![\w-])--[a-z][a-z0-9-]+/g;

async function definedOptions(): Promise<ReadonlySet<string>> {
  const defined = new Set(["--help", "--version"]);
  for (const [command, ...words] of COMMANDS) {
    const { stdout } = await run(command, [...words, "--help"], { cwd: process.cwd() });
    // Where an option is defined, its line begins with it.
    for (const line of stdout.toString().split("\n"))
      for (const [option] of /^\s+(-\w, )?--/.test(line) ? line.matchAll(OPTION) : []) defined.add(option);
  }
  return defined;
}

/** Options named in the strings of a source file; comments are no messages. */
function namedOptions(path: string): readonly string[] {
  const source = readFileSync(path, "utf8")
    .replace(/\/\*.*?\*\//gs, "")
    .replace(/^\s*\/\/.*$/gm, "");
  // Keys of a table of other programs' words are not what is advised.
  const advice = source.replace(/^\s*"--[a-z0-9-]+": \[/gm, "[");
  const strings = advice.match(/"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`|'(?:[^'\\\n]|\\.)*'/g) ?? [];
  return strings.flatMap((text) => [...text.matchAll(OPTION)].map(([option]) => option));
}

describe("remedies", () => {
  // The pages of reports name styles so, and no options; the driver of a browser, the browser's.
  it("name no option that no command has", async () => {
    const defined = await definedOptions();
    const sources = readdirSync("src", { recursive: true, encoding: "utf8" }).filter(
      (path) => path.endsWith(".ts") && !/html|backends\/chromium\.ts/.test(path),
    );
    const named = sources.flatMap((path) =>
      namedOptions(join("src", path)).map((option) => [option, path] as const),
    );
    expect(named.length).toBeGreaterThan(60);
    expect(named.filter(([option]) => !defined.has(option) && !OTHERS.has(option))).toEqual([]);
  });

  it("do not advise what was refused", async () => {
    const files = { "w.safetensors": header(["conv1.conv.weight", "fc.0.weight"]) };
    const spoken = await refusal(
      "osnet-convert",
      ["pth2onnx", "w.safetensors", "--arch", "osnet_x9_9"],
      files,
    );
    expect(spoken).not.toMatch(/; .*--arch/);
    const unfit = await refusal(
      "osnet-convert",
      ["w.safetensors", "-o", "m.onnx", "--arch", "osnet_x1_0"],
      files,
    );
    expect(unfit).toContain("missing");
    expect(unfit).not.toContain("--arch");
  });
});

/** A safetensors file of tensors of one element. */
function header(names: readonly string[]): Uint8Array {
  const tensors = names.map((name, index) => [
    name,
    { dtype: "F32", shape: [1, 1, 1, 1], data_offsets: [4 * index, 4 * index + 4] },
  ]);
  const json = JSON.stringify(Object.fromEntries(tensors));
  const padded = json.padEnd(8 * Math.ceil(json.length / 8));
  const length = Buffer.alloc(8);
  length.writeUInt32LE(padded.length);
  return Buffer.concat([length, Buffer.from(padded), Buffer.alloc(4 * names.length)]);
}
