import { execFileSync } from "node:child_process";
import { symlink, writeFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { readCached } from "../../../src/cli/suite/entry.js";
import { openVerification } from "../../../src/verify/open.js";
import { renderJson } from "../../../src/verify/reports/index.js";
import { verify } from "../../../src/verify/verify.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { temporaryFolder } from "../../support/folder.js";
import { convert, openReference } from "../../support/osnet.js";
import { tinyBytes } from "../../support/tiny-file.js";
import { run } from "../command.js";

it("a cached report is a regular file: a link or a pipe is a miss", async () => {
  const small = tinyCheckpoint("block");
  const opened = await openVerification({ name: "m.onnx", bytes: convert(small) }, openReference(small));
  const report = await verify(opened);
  const folder = await temporaryFolder({ "a.json": renderJson(report) });
  expect((await readCached(folder.at("a.json")))?.passed).toBe(true);
  await symlink(folder.at("a.json"), folder.at("link.json"));
  execFileSync("mkfifo", [folder.at("pipe.json")]);
  for (const name of ["link.json", "pipe.json", "none.json"])
    expect(await readCached(folder.at(name))).toBeUndefined();
});

it("a cached report is a miss once a model's weights, in a file beside it, are others", async () => {
  const suite = {
    models: { m: { checkpoint: "w.pth" } },
    candidates: { c: { file: "m.onnx" } },
    defaults: { size: "64x32", batch: 2 },
  };
  const folder = await temporaryFolder({ "w.pth": tinyBytes("block"), "s.json": JSON.stringify(suite) });
  const write = ["pth2onnx", "w.pth", "-o", "m.onnx", "--external-data"];
  await run("osnet-convert", [...write, "--size", "64x32", "--no-verify"], { cwd: folder.path });
  const judge = () => run("osnet-verify", ["suite", "s.json", "--report-dir", "r"], { cwd: folder.path });
  expect((await judge()).status).toBe(0);
  expect((await judge()).stdout.toString()).toContain("1 taken from the cache");
  const weights = Buffer.from(await folder.read("m.onnx.data"));
  weights.writeFloatLE(0.5, 0);
  await writeFile(folder.at("m.onnx.data"), weights);
  const { status, stdout } = await judge();
  expect([status, stdout.toString()]).toEqual([1, expect.not.stringContaining("cache")]);
});
