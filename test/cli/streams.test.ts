import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { printableIo, progress } from "../../src/cli/terminal.js";
import { printable } from "../../src/core/text.js";
import { fixturePath } from "../fixtures.js";
import { temporaryFolder } from "../support/folder.js";
import { HOSTILE } from "../support/hostile.js";

const UNSAFE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what must not be printed
  /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069]|^\s*::|##\w*\[/m;

const COMMANDS = [
  ...HOSTILE.filter((text) => text.length < 1000),
  "\n::error::owned",
  "\r\n  ::set-output name=x::y",
  "x ##[error]owned ##vso[task.complete]",
  "\u009b31m\u0085\u061c\u001b[8mhidden\u001b[2J",
];

describe("what commands print", () => {
  it.each(COMMANDS.map((text) => [JSON.stringify(text), text]))("%s is shown and not obeyed", (_, text) => {
    expect(printable(`${text}\n${text}`)).not.toMatch(UNSAFE);
    // Machines read the same characters.
    expect(JSON.parse(printable(JSON.stringify({ text }, null, 2)))).toEqual({ text });
  });

  it("every write of a command goes through that, and the counter's too", () => {
    const written: string[] = [];
    const stream = {
      isTTY: true,
      write: (chunk: string | Uint8Array) => written.push(Buffer.from(chunk).toString()),
    };
    const io = printableIo({ stdin: (async function* () {})(), stdout: stream, stderr: stream });
    for (const text of COMMANDS) {
      io.stdout.write(text);
      io.stderr.write(text);
    }
    expect(written.filter((text) => UNSAFE.test(text))).toEqual([]);
    progress("x\u001b]0;owned\u0007", io).update(1, 2);
    expect(written.at(-1)).toBe("\rx\\u001b]0;owned\\u0007 1/2\u001b[K");
  });
});

const full = existsSync("/dev/full");

describe.skipIf(!full)(`standard output ${full ? "" : "(no /dev/full here)"}`, () => {
  const bin = (name: string) => fileURLToPath(new URL(`../../dist/bin/${name}.js`, import.meta.url));

  it("on a full disk: exit status 2, and not a word of having written; a reader that has gone is no error", async () => {
    const folder = await temporaryFolder();
    const convert = `"${process.execPath}" "${bin("osnet-convert")}"`;
    const sh = (line: string) => spawnSync("bash", ["-c", line], { cwd: folder.path, encoding: "utf8" });
    const file = fixturePath("osnet_x0_25.pth");
    const out = sh(`${convert} pth2safetensors "${file}" -o - > /dev/full`);
    expect([out.status, out.stderr.trim().split("\n").length], out.stderr).toEqual([2, 1]);
    expect(sh(`${convert} inspect "${file}" > /dev/full`).status).toBe(2);
    expect(sh(`${convert} --help > /dev/full`).status).toBe(2);
    expect(sh(`set -o pipefail; ${convert} inspect "${file}" | true`).status).toBe(0);
  });
});
