import { link, readdir, symlink, utimes } from "node:fs/promises";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { decodeOnnx } from "../../src/convert/formats/onnx/index.js";
import { encodePth } from "../../src/convert/formats/pth/index.js";
import { openOnnxCheckpoint } from "../../src/convert/import/lifted-checkpoint.js";
import { fixturePath, readFixture } from "../fixtures.js";
import { temporaryFolder } from "../support/folder.js";
import { openFixture, withTensor, withValues } from "../support/osnet.js";
import { run, runProgram } from "./command.js";

const CONVERT = fileURLToPath(new URL("../../dist/bin/osnet-convert.js", import.meta.url));
const OLD = fixturePath("osnet_x0_25.pth") ?? "";
const { stateDict } = openFixture();
/** Other weights, of which one value says which they are. */
const NEW = encodePth(
  withTensor(stateDict, "fc.0.weight", (tensor) => withValues(tensor, { 0: 0.375 })),
  { subject: "new.pth" },
);

/** Ends the process, as nothing can stop, at the first call of a function of node:fs/promises that a test picks. */
const killAt = (call: string, path: RegExp): string =>
  `import { syncBuiltinESMExports } from "node:module";
   import promises from "node:fs/promises";
   const real = promises.${call};
   promises.${call} = async (...args) => {
     if (args.some((arg) => ${path}.test(String(arg)) && !String(arg).includes(".tmp"))) {
       process.kill(process.pid, "SIGKILL");
       await new Promise(() => undefined);
     }
     return real(...args);
   };
   syncBuiltinESMExports();`;

const write = (input: string): readonly string[] => [
  "pth2onnx",
  input,
  "-o",
  "m.onnx",
  ...["--external-data", "--no-fold", "--no-verify", "--force", "--size", "64x32"],
];

describe("a model and its weight file", () => {
  it.each([
    ["the model gets its name", killAt("rename", /m\.onnx$/), undefined],
    ["the earlier weights are removed", killAt("rm", /m\.onnx\.data$/), 0.375],
  ])(
    "are both old or both new where a process is killed before %s",
    async (_, preload, value) => {
      const folder = await temporaryFolder({ "new.pth": NEW, "kill.mjs": preload });
      await run("osnet-convert", write(OLD), { cwd: folder.path });
      const args = ["--import", folder.at("kill.mjs"), CONVERT, ...write("new.pth")];
      const { status } = await runProgram(process.execPath, args, { cwd: folder.path });
      expect(status).toBeNull();
      const first = async (): Promise<unknown> => {
        const beside = new Map<string, Uint8Array>();
        for (const name of await folder.names()) beside.set(name, await folder.read(name));
        const sidecar = (name: string) => beside.get(name);
        const bytes = beside.get("m.onnx") ?? new Uint8Array();
        const checkpoint = openOnnxCheckpoint(bytes, { subject: "m.onnx", sidecar });
        return checkpoint.stateDict.get("fc.0.weight")?.data[0];
      };
      expect(await first()).toBe(value ?? stateDict.get("fc.0.weight")?.data[0]);

      // The next run leaves a model of its own weights, and what was left behind is swept when no run can still use it.
      for (const name of await folder.names()) await utimes(folder.at(name), 0, 0);
      await run("osnet-convert", write("new.pth"), { cwd: folder.path });
      expect(await first()).toBe(0.375);
      const { missing } = decodeOnnx(await folder.read("m.onnx"), {
        subject: "m.onnx",
        absent: (length) => new Uint8Array(length),
      });
      const left = (await folder.names()).filter((name) => /^m\.onnx\..*\d.*\.data$/.test(name));
      expect(left.filter((name) => !missing?.includes(name))).toEqual([]);
    },
    60_000,
  );
});

describe("what is written replaces nothing that is read", () => {
  it.each([
    ["its own name", async () => "w.pth"],
    ["a link", async (folder: string) => symlink("w.pth", `${folder}/l.pth`).then(() => "l.pth")],
    ["a hard link", async (folder: string) => link(`${folder}/w.pth`, `${folder}/h.pth`).then(() => "h.pth")],
  ])("by %s", async (_, made) => {
    const folder = await temporaryFolder({ "w.pth": readFixture("osnet_x0_25.pth") });
    const output = await made(folder.path);
    const { status, stderr } = await run("osnet-convert", ["pth2pth", "w.pth", "-o", output, "--force"], {
      cwd: folder.path,
    });
    expect({ status, stderr }).toEqual({
      status: 2,
      stderr: `${output}: found an input of the same command, expected another name; name another file to write.\n`,
    });
    expect(Buffer.compare(await folder.read("w.pth"), readFixture("osnet_x0_25.pth"))).toBe(0);
  });

  it("a report neither", async () => {
    const folder = await temporaryFolder({ "w.json": "{}", "w.pth": readFixture("osnet_x0_25.pth") });
    for (const [candidate, reference] of [
      ["w.json", "w.pth"],
      ["w.pth", "w.json"],
    ] as const) {
      const args = [candidate, "--reference", reference, "--report", "w.json"];
      const { status, stderr } = await run("osnet-verify", args, { cwd: folder.path });
      expect({ status, stderr: stderr.slice(0, 31) }).toEqual({
        status: 2,
        stderr: "w.json: found an input of the s",
      });
    }
    expect((await readdir(folder.path)).map((name) => basename(name)).sort()).toEqual(["w.json", "w.pth"]);
  });
});
