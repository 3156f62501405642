import { existsSync } from "node:fs";
import type { Worker } from "node:worker_threads";
import { describe, expect, it, onTestFinished } from "vitest";
import type { OnnxModel } from "../../../src/convert/formats/onnx/model.js";
import type * as Library from "../../../src/verify/index.js";
import { spawnCommand } from "../../cli/command.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { temporaryFolder } from "../../support/folder.js";
import { convert, openReference, rewriteOnnx } from "../../support/osnet.js";
import { tinyFile } from "../../support/tiny-file.js";

const CHECKPOINT = tinyFile("block");

/** Threads run compiled files only. */
const BUILT = new URL("../../../dist/src/verify/index.js", import.meta.url);

const small = tinyCheckpoint("block");
const honest = convert(small);

/** Activations exchanged at three places, two of them in one block: each fault is looked into with what the one before has left. */
const LEAKY = new Set(["conv2.0.conv2b.0.relu", "conv2.0.conv2c.1.relu", "conv3.relu"]);
const withFaults = (model: OnnxModel): OnnxModel => ({
  ...model,
  graph: {
    ...model.graph,
    nodes: model.graph.nodes.map((node) =>
      node.outputs.some((name) => LEAKY.has(name)) ? { ...node, opType: "LeakyRelu" } : node,
    ),
  },
});
const faulty = rewriteOnnx(honest, withFaults);

describe("a report is the same to the digit, however many threads judge the layers", () => {
  it.each([
    ["an honest file", honest, {}, [2, 4]],
    ["a faulty file", faulty, {}, [3]],
    ["judged by a number", honest, { tolerance: { rule: "relative-to-max", value: 1e-4 } }, [2]],
  ] as const)("%s", { skip: !existsSync(BUILT) }, async (_, bytes, rules, counts) => {
    const { openVerification, verify }: typeof Library = await import(BUILT.href);
    let started = 0;
    const count = (): void => void started++;
    process.on("worker", count);
    onTestFinished(() => void process.off("worker", count));
    const reportOf = async (jobs: number): Promise<unknown> => {
      const opened = await openVerification({ name: "model.onnx", bytes }, openReference(small));
      return verify({ ...opened, ...rules, jobs });
    };
    const alone = await reportOf(1);
    expect(started).toBe(0);
    expect(alone).toMatchObject({ passed: bytes === honest });
    for (const jobs of counts) {
      started = 0;
      expect(await reportOf(jobs)).toEqual(alone);
      // Beside the thread that the test runs in.
      expect(started).toBe(jobs - 1);
    }
  });

  it("threads that start while the files are opened are the ones that judge, and end also if a file is refused", {
    skip: !existsSync(BUILT),
  }, async () => {
    const { openVerification, verify }: typeof Library = await import(BUILT.href);
    const threads: Worker[] = [];
    const note = (worker: Worker): void => void threads.push(worker);
    process.on("worker", note);
    onTestFinished(() => void process.off("worker", note));
    // What has ended has no number.
    const running = (): number => threads.filter(({ threadId }) => threadId !== -1).length;
    const open = (backend?: "tfjs-wasm"): ReturnType<typeof openVerification> =>
      openVerification({ name: "model.onnx", bytes: honest }, openReference(small), {
        jobs: 3,
        startsThreads: true,
        ...(backend ? { backend } : {}),
      });
    await expect(open("tfjs-wasm")).rejects.toThrow();
    expect([threads.length, running()]).toEqual([2, 0]);
    const opened = await open();
    expect([threads.length, running()]).toEqual([4, 2]);
    expect(await verify(opened)).toMatchObject({ passed: true });
    expect([threads.length, running()]).toEqual([4, 0]);
  });

  it("a model that does not run is refused, and nothing is left running", async () => {
    const { path: cwd } = await temporaryFolder({ "model.onnx": honest });
    const args = ["model.onnx", CHECKPOINT, "--size", "128x64", "--jobs", "2"];
    const { status, stderr } = await spawnCommand("osnet-verify", args, { cwd });
    expect(stderr).toMatch(/^model\.onnx: onnxruntime failed on images \[2, 3, 128, 64\]/);
    expect(status).toBe(2);
  });

  it("in the commands, whose threads are files beside them", async () => {
    const folder = await temporaryFolder({ "model.onnx": faulty });
    const args = ["model.onnx", CHECKPOINT, "--json", "--jobs"];
    const [here, there] = [
      await spawnCommand("osnet-verify", [...args, "1"], { cwd: folder.path }),
      await spawnCommand("osnet-verify", [...args, "3"], { cwd: folder.path }),
    ];
    expect(there.stderr).toBe("");
    expect(existsSync(new URL("../../../dist/bin/thread.js", import.meta.url))).toBe(true);
    const reportOf = (stdout: Buffer): unknown => ({ ...JSON.parse(stdout.toString()), run: undefined });
    expect(reportOf(there.stdout)).toEqual(reportOf(here.stdout));
    expect(there.status).toBe(1);
  });
});
