import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { runProgram } from "../cli/command.js";
import { type Folder, temporaryFolder } from "../support/folder.js";
import { tinyBytes } from "../support/tiny-file.js";

const CHECKPOINT = "../w.pth";
const STRACE = "/usr/bin/strace";
const canTrace = existsSync(STRACE);

const SUITE = `
defaults: { size: 64x32 }
models: { trained: { checkpoint: ${JSON.stringify(CHECKPOINT)} } }
candidates: { onnx: { file: a.onnx } }
`;

/** A run of every command, those that verify in every runtime, each in what the ones before wrote; what each may add to the folder. */
const COMMANDS: readonly (readonly [args: string, written: readonly string[]])[] = [
  [`osnet-convert pth2onnx ${CHECKPOINT} -o a.onnx --size 64x32`, ["a.onnx"]],
  ["osnet-convert onnx2tfjs a.onnx -o a.tfjs --size 64x32", ["a.tfjs"]],
  ["osnet-convert inspect a.onnx", []],
  [`osnet-verify a.onnx --reference ${CHECKPOINT} --size 64x32 --report r.html`, ["r.html"]],
  [`osnet-verify a.onnx --reference ${CHECKPOINT} --size 64x32 --backend onnxruntime-web`, []],
  [`osnet-verify a.tfjs --reference ${CHECKPOINT} --size 64x32`, []],
  ["osnet-verify suite s.yaml --report-dir one", ["one"]],
  ["osnet-verify merge one --report-dir two", ["two"]],
  ["osnet-verify suite --init starter.yaml", ["starter.yaml"]],
];

/** The environment of a user whose machine is not known to be a build server, with every folder to find traces in. */
function environment(folder: Folder): NodeJS.ProcessEnv {
  const home = folder.at("home");
  return {
    PATH: process.env.PATH ?? "",
    HOME: home,
    USERPROFILE: home,
    LOCALAPPDATA: home,
    APPDATA: home,
    XDG_CACHE_HOME: `${home}/cache`,
    XDG_CONFIG_HOME: `${home}/config`,
    XDG_DATA_HOME: `${home}/data`,
    TMPDIR: folder.at("tmp"),
    TEMP: folder.at("tmp"),
  };
}

/** Runs commands one after the other in one process, and prints what has become of each and what is in these folders then. */
const PROGRAM = `
import { readdirSync } from "node:fs";
const [dist, lines, ...folders] = process.argv.slice(2);
for (const line of JSON.parse(lines)) {
  const [command, ...args] = line.split(" ");
  const { main } = await import(dist + "/src/cli/commands/" + command + ".js");
  let stderr = "";
  const status = await main(args, {
    stdin: (async function* () {})(),
    stdout: { write: () => undefined },
    stderr: { write: (text) => (stderr += text) },
  });
  console.log(JSON.stringify({ line, status, stderr, folders: folders.map((folder) => readdirSync(folder).sort()) }));
}`;

describe("no command calls home", () => {
  it("nothing is written but the output, and no host is looked up or spoken to", async () => {
    const folder = await temporaryFolder({ "w.pth": tinyBytes("block"), "all.mjs": PROGRAM });
    for (const name of ["home", "tmp", "work"]) await mkdir(folder.at(name));
    const env = environment(folder);
    const cwd = folder.at("work");
    await writeFile(`${cwd}/s.yaml`, SUITE);
    const dist = fileURLToPath(new URL("../../dist", import.meta.url));
    const lines = JSON.stringify(COMMANDS.map(([line]) => line));
    const program = [
      process.execPath,
      folder.at("all.mjs"),
      dist,
      lines,
      cwd,
      env.HOME ?? "",
      env.TMPDIR ?? "",
    ];
    // Without the tracer the test still sees what telemetry leaves on the disk before it sends anything.
    const [first = "", ...rest] = canTrace
      ? [STRACE, "-f", "--seccomp-bpf", "-e", "trace=network", "-o", folder.at("trace"), ...program]
      : program;
    const { status, stdout, stderr } = await runProgram(first, rest, { cwd, env });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const written = ["s.yaml"];
    const expected = COMMANDS.map(([line, more]) => {
      written.push(...more);
      return { line, status: 0, stderr: "", folders: [written.toSorted(), [], []] };
    });
    expect(
      stdout
        .toString()
        .trimEnd()
        .split("\n")
        .map((text) => JSON.parse(text)),
    ).toEqual(expected);
    if (canTrace) {
      const trace = await readFile(folder.at("trace"), "utf8");
      expect(trace.split("\n").filter((call) => /AF_INET|htons\(53\)|nscd/.test(call))).toEqual([]);
    }
  });

  it("onnxruntime is loaded in one place, which turns its telemetry off first", () => {
    const source = fileURLToPath(new URL("../../src", import.meta.url));
    const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter((name) =>
      name.endsWith(".ts"),
    );
    const loads = files.filter((name) =>
      /(?:import\(|require\(|^import (?!type )[^;]*from )\s*"onnxruntime/m.test(
        readFileSync(`${source}/${name}`, "utf8"),
      ),
    );
    const imports = loads.map((path) => {
      const text = readFileSync(`${source}/${path}`, "utf8");
      return [path, ...[...text.matchAll(/import\("(onnx.*?)"\)/g)].map(([, name]) => name)];
    });
    expect(imports.sort()).toEqual([
      ["verify/backends/browser-packages.ts", "onnxruntime-web/wasm"],
      ["verify/backends/node-packages.ts", "onnxruntime-node", "onnxruntime-web"],
      ["verify/backends/registry.ts", "onnxruntime-web/webgpu"],
    ]);
    const native = readFileSync(`${source}/verify/backends/node-packages.ts`, "utf8");
    expect(native.indexOf("ORT_TELEMETRY_DISABLED")).toBeGreaterThan(0);
    expect(native.indexOf("ORT_TELEMETRY_DISABLED")).toBeLessThan(
      native.indexOf('import("onnxruntime-node")'),
    );
  });
});
