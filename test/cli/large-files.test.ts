import { existsSync } from "node:fs";
import { truncate } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { readingProgress } from "../../src/cli/terminal.js";
import { createFolder, type Folder } from "../support/folder.js";
import { openFixture } from "../support/osnet.js";
import { encodePth, encodeTraining } from "../support/pth-writer.js";
import { run, runProgram } from "./command.js";

/** More than the threshold of progress, and than what two runs of one command differ by in memory. */
const OPTIMIZER_BYTES = 80e6;

const SCRIPT = fileURLToPath(new URL("../../dist/bin/osnet-convert.js", import.meta.url));
/** Loaded before a command, prints its peak memory in MiB behind what it says. */
const MEASURE =
  'data:text/javascript,process.on("exit", () => console.error("peak " + process.resourceUsage().maxRSS / 1024))';

let folder: Folder;
beforeAll(async () => {
  const { stateDict } = openFixture();
  folder = await createFolder({
    "weights.pth": encodePth(stateDict),
    "training.pth": encodeTraining(stateDict, OPTIMIZER_BYTES),
  });
});
afterAll(() => folder.remove());

describe("a checkpoint with an optimizer's state", () => {
  it.each([
    ["inspect", []],
    ["pth2onnx", ["-o", "out.onnx", "--no-verify", "--force"]],
  ])("costs %s no memory", async (command, options) => {
    const peakOf = async (file: string): Promise<number> => {
      const args = ["--import", MEASURE, SCRIPT, command, file, ...options];
      const { status, stderr } = await runProgram(process.execPath, args, { cwd: folder.path });
      expect(status, stderr).toBe(0);
      return Number(/^peak ([\d.]+)$/m.exec(stderr)?.[1]);
    };
    const [weights = NaN, training = NaN] = [await peakOf("weights.pth"), await peakOf("training.pth")];
    // 76 MiB if the file were read; two runs differ by 10 at most.
    expect(training - weights).toBeLessThan(25);
  });
});

describe("progress", () => {
  /** What a person sees while a file is read. */
  const BAR = /\rreading training\.pth, MB \d+\/81/;

  it.skipIf(!existsSync("/usr/bin/script"))(
    "of a large file is shown on a terminal, and taken away (needs script of util-linux)",
    async () => {
      const command = `${process.execPath} ${SCRIPT} inspect training.pth`;
      const { status, stdout } = await runProgram("/usr/bin/script", ["-qec", command, "/dev/null"], {
        cwd: folder.path,
      });
      expect(status).toBe(0);
      expect(stdout.toString()).toMatch(BAR);
      expect(stdout.toString()).toContain("\r\u001b[K");
    },
  );

  it("is no part of what is not a terminal's", async () => {
    const { stderr } = await run("osnet-convert", ["inspect", "training.pth"], { cwd: folder.path });
    expect(stderr).toBe("");
  });

  it.each([
    ["", {}, true, true],
    [" but no terminal", {}, false, false],
    [" and --quiet", { quiet: true }, true, false],
    [" and --json", { json: true }, true, false],
  ])("with a terminal%s", (_, options, isTTY, shown) => {
    const written: string[] = [];
    const stderr = {
      isTTY,
      write: (chunk: string | Uint8Array) => written.push(Buffer.from(chunk).toString()),
    };
    const bar = readingProgress("a/w\u001b[2J.pth", options, { stderr });
    bar.update(12.4e6, 81e6);
    bar.clear();
    expect(written).toEqual(shown ? ["\rreading w�[2J.pth, MB 12/81\u001b[K", "\r\u001b[K"] : []);
  });

  it("of standard input has no end", () => {
    const written: string[] = [];
    const stderr = {
      isTTY: true,
      write: (chunk: string | Uint8Array) => written.push(Buffer.from(chunk).toString()),
    };
    readingProgress("-", {}, { stderr }).update(60e6, undefined);
    expect(written).toEqual(["\rreading standard input, MB 60\u001b[K"]);
  });
});

it("of weights beside a model, only those of its tensors are read", async () => {
  const written = await createFolder({ "weights.pth": await folder.read("weights.pth") });
  onTestFinished(() => written.remove());
  const convert = (...args: readonly string[]) => run("osnet-convert", args, { cwd: written.path });
  const common = ["--size", "64x32", "--no-verify"];
  await convert("pth2onnx", "weights.pth", "-o", "big.onnx", "--external-data", ...common);
  // Zeros behind the weights, of which the disk keeps nothing.
  await truncate(written.at("big.onnx.data"), 2 ** 36);
  expect((await convert("inspect", "big.onnx")).status).toBe(0);
  const like = await convert("pth2onnx", "weights.pth", "-o", "m.onnx", "--like", "big.onnx", "--no-verify");
  expect([like.status, like.stderr]).toEqual([0, ""]);
  expect(like.stdout.toString()).toContain("\nwrote m.onnx and m.onnx.data, ");
  expect(await convert("onnx2pth", "big.onnx", "-o", "back.pth", "--no-verify")).toMatchObject({ status: 0 });
});
