import { execFileSync } from "node:child_process";
import { chmod, lstat, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { writeChecked } from "../../src/node/write.js";
import { temporaryFolder } from "../support/folder.js";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const options = { check: async () => undefined, accept: () => true };

describe("a file that is written", () => {
  it("does not replace one that another process has made meanwhile, unless told to", async () => {
    const folder = await temporaryFolder();
    const path = folder.at("m.onnx");
    const check = () => writeFile(path, "another's");
    await expect(
      writeChecked(path, bytes("mine"), { force: false, accept: () => true, check }),
    ).rejects.toMatchObject({ code: "file" });
    expect(await readFile(path, "utf8")).toBe("another's");
    expect(await folder.names()).toEqual(["m.onnx"]);
    const runs = ["a", "b", "c"].map((text) =>
      writeChecked(folder.at("n.onnx"), bytes(text), { ...options, force: false }),
    );
    const ended = await Promise.allSettled(runs);
    expect(ended.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect(await folder.names()).toEqual(["m.onnx", "n.onnx"]);
  });

  it("replaces nothing that is not one: a pipe, a device, a link to one, whatever --force says", async () => {
    const folder = await temporaryFolder();
    execFileSync("mkfifo", [folder.at("pipe")]);
    await symlink("/dev/null", folder.at("link"));
    // Not the device itself, which a test that fails as root would replace.
    for (const path of [folder.at("pipe"), folder.at("link")])
      for (const force of [true, false])
        await expect(writeChecked(path, bytes("new"), { ...options, force })).rejects.toMatchObject({
          code: "file",
          problem: { found: "a pipe or a device" },
        });
    expect((await lstat(folder.at("link"))).isSymbolicLink()).toBe(true);
    // One that appears meanwhile stays too.
    const path = folder.at("late");
    const check = async () => void execFileSync("mkfifo", [path]);
    await expect(
      writeChecked(path, bytes("mine"), { force: true, accept: () => true, check }),
    ).rejects.toMatchObject({ code: "file" });
    expect((await stat(path)).isFIFO()).toBe(true);
    expect(await folder.names()).toEqual(["late", "link", "pipe"]);
  });

  it("keeps the mode of the one that it replaces, and may have a name of 255 bytes", async () => {
    const folder = await temporaryFolder();
    const path = folder.at("x".repeat(255));
    await writeChecked(path, bytes("old"), { ...options, force: false });
    await chmod(path, 0o640);
    await writeChecked(path, bytes("new"), { ...options, force: true });
    expect([await readFile(path, "utf8"), (await stat(path)).mode & 0o777]).toEqual(["new", 0o640]);
    expect(await folder.names()).toEqual(["x".repeat(255)]);
  });
});
