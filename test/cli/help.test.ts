import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { temporaryFolder } from "../support/folder.js";
import { run, spawnCommand } from "./command.js";

it.each(["osnet-convert", "osnet-verify"] as const)(
  "%s --help says what the built text says",
  async (name) => {
    const { path: cwd } = await temporaryFolder({});
    const built = readFileSync(new URL(`../../dist/bin/${name}.help.txt`, import.meta.url), "utf8");
    const { stdout, status } = await run(name, ["--help"], { cwd });
    expect(stdout.toString()).toBe(built);
    expect(status).toBe(0);
    expect(await spawnCommand(name, ["-h"], { cwd })).toMatchObject({ status: 0, stdout, stderr: "" });
  },
);
