import { link, lstat, readdir, rename, symlink, utimes } from "node:fs/promises";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { decodeOnnx } from "../../src/convert/formats/onnx/decode.js";
import { encodePth } from "../../src/convert/formats/pth/encode.js";
import { liftCheckpoint } from "../../src/convert/open/lift.js";
import { openModel } from "../../src/convert/open/open-file.js";
import { filesBeside } from "../../src/node/read.js";
import { writeFolderChecked } from "../../src/node/write.js";
import { readFixture } from "../fixtures.js";
import { tinyCheckpoint } from "../mutation/families.js";
import { type Folder, temporaryFolder } from "../support/folder.js";
import { withTensor, withValues } from "../support/osnet.js";
import { tinyFile } from "../support/tiny-file.js";
import { run, runProgram } from "./command.js";

const CONVERT = fileURLToPath(new URL("../../dist/bin/osnet-convert.js", import.meta.url));
const OLD = tinyFile("block");
const { stateDict } = tinyCheckpoint("block");
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
  ])("are both old or both new where a process is killed before %s", async (_, preload, value) => {
    const folder = await temporaryFolder({ "new.pth": NEW, "kill.mjs": preload });
    await run("osnet-convert", write(OLD), { cwd: folder.path });
    const args = ["--import", folder.at("kill.mjs"), CONVERT, ...write("new.pth")];
    const { status } = await runProgram(process.execPath, args, { cwd: folder.path });
    expect(status).toBeNull();
    const first = async (): Promise<unknown> => {
      const beside = new Map<string, Uint8Array>();
      for (const name of await folder.names()) beside.set(name, await folder.read(name));
      const bytes = beside.get("m.onnx") ?? new Uint8Array();
      const checkpoint = liftCheckpoint(openModel("onnx", { name: "m.onnx", bytes, beside }));
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
  });
});

/** Ends the process before its nth change of names, of files that have theirs or get it. */
const killBefore = (count: number): string =>
  `import { syncBuiltinESMExports } from "node:module";
   import promises from "node:fs/promises";
   let left = ${count};
   for (const call of ["rename", "rm", "link", "unlink"]) {
     const real = promises[call];
     promises[call] = async (...args) => {
       if (--left === 0) {
         process.kill(process.pid, "SIGKILL");
         await new Promise(() => undefined);
       }
       return real(...args);
     };
   }
   syncBuiltinESMExports();`;

describe("a TensorFlow.js model", () => {
  const toTfjs = (input: string): readonly string[] => [
    ...["pth2tfjs", input, "-o", "m", "--no-fold", "--no-verify", "--force", "--size", "64x32"],
  ];
  const first = async (folder: Folder): Promise<unknown> => {
    const bytes = await folder.read("m/model.json");
    const model = openModel("tfjs", { name: "m", bytes, beside: filesBeside(folder.at("m/model.json")) });
    return liftCheckpoint(model).stateDict.get("fc.0.weight")?.data[0];
  };
  const old = stateDict.get("fc.0.weight")?.data[0];

  it("is old or new as a whole, whenever a process that replaces it is killed", async () => {
    const seen: unknown[] = [];
    for (let count = 1, status = null as number | null; status === null; count++) {
      const folder = await temporaryFolder({ "new.pth": NEW, "kill.mjs": killBefore(count) });
      await run("osnet-convert", toTfjs(OLD), { cwd: folder.path });
      const args = ["--import", folder.at("kill.mjs"), CONVERT, ...toTfjs("new.pth")];
      ({ status } = await runProgram(process.execPath, args, { cwd: folder.path }));
      seen.push(await first(folder));
      // The next run leaves the model and nothing else, once no other run can still be busy.
      const [temporary] = (await readdir(folder.at("m"))).filter((name) => name.endsWith(".tmp"));
      if (temporary) await utimes(folder.at(`m/${temporary}`), 0, 0);
      await run("osnet-convert", toTfjs("new.pth"), { cwd: folder.path });
      expect(await first(folder)).toBe(0.375);
      expect(await readdir(folder.at("m"))).toEqual([
        expect.stringMatching(/^group1-shard1of1(\.[0-9a-f]{8})?\.bin$/),
        "model.json",
      ]);
      expect(await folder.names()).toEqual(["kill.mjs", "m", "new.pth"]);
    }
    // Before each step until the model.json is renamed, and from then on.
    expect(seen.slice(0, 2)).toEqual([old, old]);
    expect(seen.slice(2).every((value) => value === 0.375)).toBe(true);
    expect(seen.length).toBeGreaterThan(3);
  });

  it("keeps the usual names where its weights are the same, and its folder, which may be a link", async () => {
    const folder = await temporaryFolder({ "new.pth": NEW });
    await run("osnet-convert", toTfjs(OLD), { cwd: folder.path });
    const usual = await readdir(folder.at("m"));
    await rename(folder.at("m"), folder.at("real"));
    await symlink("real", folder.at("m"));
    expect((await run("osnet-convert", toTfjs(OLD), { cwd: folder.path })).status).toBe(0);
    expect(await readdir(folder.at("real"))).toEqual(usual);
    await run("osnet-convert", toTfjs("new.pth"), { cwd: folder.path });
    expect(await readdir(folder.at("real"))).toHaveLength(2);
    expect((await lstat(folder.at("m"))).isSymbolicLink()).toBe(true);
    // The name is free again.
    await run("osnet-convert", toTfjs(OLD), { cwd: folder.path });
    expect(await readdir(folder.at("real"))).toEqual(usual);
  });

  it("that another run has made meanwhile is not replaced without --force", async () => {
    const folder = await temporaryFolder();
    const files = new Map([["model.json", Uint8Array.of(1)]]);
    const write = () =>
      writeFolderChecked(folder.at("m"), files, {
        force: false,
        replaces: () => true,
        check: async () => undefined,
        accept: () => true,
      });
    const ended = await Promise.allSettled([write(), write(), write()]);
    expect(ended.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    for (const result of ended)
      if (result.status === "rejected") expect(result.reason).toMatchObject({ code: "file" });
    expect(await folder.names()).toEqual(["m"]);
  });
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
      stderr: `${output}: is also an input of this command; choose another output name.\n`,
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
        stderr: "w.json: is also an input of thi",
      });
    }
    expect((await readdir(folder.path)).map((name) => basename(name)).sort()).toEqual(["w.json", "w.pth"]);
  });
});
