import { execFileSync } from "node:child_process";
import { symlink } from "node:fs/promises";
import { expect, it } from "vitest";
import { readCached } from "../../src/cli/suite/execute.js";
import { openVerification } from "../../src/verify/open.js";
import { renderJson } from "../../src/verify/reports/json.js";
import { verify } from "../../src/verify/verify.js";
import { readFixture } from "../fixtures.js";
import { temporaryFolder } from "../support/folder.js";

it("a cached report is a plain file: a link or a pipe is a miss", async () => {
  const side = (name: string) => ({ name, bytes: readFixture(name) });
  const opened = await openVerification(side("osnet_x0_25.64x32.npz"), side("osnet_x0_25.pth"));
  const report = await verify(opened);
  const folder = await temporaryFolder({ "a.json": renderJson(report) });
  expect((await readCached(folder.at("a.json")))?.passed).toBe(true);
  await symlink(folder.at("a.json"), folder.at("link.json"));
  execFileSync("mkfifo", [folder.at("pipe.json")]);
  for (const name of ["link.json", "pipe.json", "none.json"])
    expect(await readCached(folder.at(name))).toBeUndefined();
});
