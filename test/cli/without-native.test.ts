import { cp, mkdir, readdir, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createFolder, type Folder } from "../support/folder.js";
import { tinyBytes } from "../support/tiny-file.js";
import { runProgram } from "./command.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const CHECKPOINT = "w.pth";
const NATIVE = "onnxruntime-node";

/** The package as npm installs it with --omit=optional: all that it needs beside it, but onnxruntime-node. */
describe("where onnxruntime-node is not installed", () => {
  let folder: Folder;
  beforeAll(async () => {
    folder = await createFolder({ [CHECKPOINT]: tinyBytes("block") });
    const modules = folder.at("node_modules");
    await mkdir(`${modules}/osnet-convert`, { recursive: true });
    for (const name of ["package.json", "dist", "schemas"])
      await cp(`${ROOT}${name}`, `${modules}/osnet-convert/${name}`, { recursive: true });
    for (const name of await readdir(`${ROOT}node_modules`))
      if (!name.startsWith(".") && name !== NATIVE)
        await symlink(`${ROOT}node_modules/${name}`, `${modules}/${name}`, "junction");
  });
  afterAll(() => folder.remove());

  const run = (command: string, ...args: readonly string[]) =>
    runProgram(process.execPath, [folder.at(`node_modules/osnet-convert/dist/bin/${command}.js`), ...args], {
      cwd: folder.path,
    });

  it("is really out of reach", () => {
    const { resolve } = createRequire(folder.at("node_modules/osnet-convert/package.json"));
    expect(basename(resolve("onnxruntime-web"))).toMatch(/^ort\.node/);
    expect(() => resolve(NATIVE)).toThrow(/Cannot find module/);
  });

  it("osnet-convert verifies in onnxruntime-web, and says so", async () => {
    const { status, stdout, stderr } = await run(
      "osnet-convert",
      ...["pth2onnx", CHECKPOINT, "-o", "m.onnx", "--size", "64x32", "--external-data"],
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout.toString()).toMatch(
      /verified: 55 layers and 3 gates, .*; run in onnxruntime-web, because onnxruntime is not installed/,
    );
  });

  it("osnet-verify runs in it, with the weights that lie beside the file", async () => {
    const { status, stdout, stderr } = await run("osnet-verify", "m.onnx", CHECKPOINT, "--json");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const report = JSON.parse(stdout.toString());
    expect(report.backend).toBe("onnxruntime-web");
    expect(report.run.versions["onnxruntime-web"]).toMatch(/^\d+\.\d+\.\d+/);
    expect(report.run.versions[NATIVE]).toBeUndefined();
    expect(report.output.reruns.map(({ how, status }: Record<string, string>) => `${how} ${status}`)).toEqual(
      ["unoptimised pass", "alone pass"],
    );
  });

  it("onnxruntime that is asked for is refused", async () => {
    const { status, stderr } = await run("osnet-verify", "m.onnx", CHECKPOINT, "--backend", "onnxruntime");
    expect(status).toBe(2);
    expect(stderr).toMatch(/^onnxruntime-node: is not installed .*use onnxruntime-web, or install it/);
  });
});
