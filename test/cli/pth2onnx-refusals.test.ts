import { beforeAll, describe, expect, it } from "vitest";
import type { StateDict, Tensor } from "../../src/core/tensor.js";
import { fixturePath, readFixture } from "../fixtures.js";
import { openFixture, withTensor, withValues } from "../support/osnet.js";
import { encodePth } from "../support/pth-writer.js";
import { tinyFile } from "../support/tiny-file.js";
import { refusal } from "./command.js";

const CHECKPOINT = fixturePath("osnet_x0_25.pth") ?? "";
const SMALL = tinyFile("block");

function refuse(
  args: readonly string[],
  files?: Readonly<Record<string, Uint8Array | string>>,
): Promise<string> {
  return refusal("osnet-convert", ["pth2onnx", ...args], files);
}

const zeros = (...shape: readonly number[]): Tensor<"float32"> => ({
  dtype: "float32",
  shape,
  data: new Float32Array(shape.reduce((product, size) => product * size, 1)),
});

describe("a file that is no checkpoint", () => {
  it.each([
    ["an empty file", "", "an empty file", "download or copy the file again"],
    ["text", "404: Not Found\n", "a text file", "download the checkpoint itself"],
    [
      "a Git LFS pointer",
      "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n",
      "a Git LFS pointer",
      "run git lfs pull where the file came from",
    ],
  ])("%s", async (_, content, found, remedy) => {
    expect(await refuse(["w.pth"], { "w.pth": content })).toBe(
      `w.pth: found ${found}, expected a PyTorch checkpoint; ${remedy}.\n`,
    );
  });

  it("no file, or a folder", async () => {
    const problem = "check the path.\n";
    expect(await refuse(["none.pth"])).toBe(`none.pth: no such file or folder; ${problem}`);
    expect(await refuse(["/", "-o", "out.onnx"])).toBe(`/: is a folder; ${problem}`);
    expect(await refuse(["", "-o", "out.onnx"])).toBe(`"": no such file or folder; ${problem}`);
  });

  it("nothing on standard input", async () => {
    expect(await refuse(["-", "-o", "out.onnx"])).toBe(
      "standard input: found an empty file, expected a PyTorch checkpoint; download or copy the file again.\n",
    );
  });

  it("an ONNX model and a recording", async () => {
    const recording = fixturePath("osnet_x0_25.64x32.npz") ?? "";
    expect(await refuse(["m.onnx", "-o", "out.onnx"], { "m.onnx": "\x08\x07\x12\x07pytorch" })).toBe(
      "m.onnx: found an ONNX model, expected a PyTorch checkpoint; use the checkpoint it was exported from.\n",
    );
    expect(await refuse([recording, "-o", "out.onnx"])).toMatch(
      /^osnet_x0_25\.64x32\.npz: found a NumPy \.npz archive, expected a PyTorch archive, which has data\.pkl; .*\.\n$/,
    );
  });
});

describe("a truncated checkpoint", () => {
  const bytes = readFixture("osnet_x0_25.pth");
  const directory = Buffer.from(bytes).indexOf("PK\x01\x02", 0, "latin1");

  // At every other place: formats/pth/truncation.test.ts.
  it.each([
    ["in the first header", 4],
    ["half way", bytes.length >> 1],
    ["before the directory", directory],
    ["by one byte", bytes.length - 1],
  ])("%s", async (_, length) => {
    expect(await refuse(["w.pth"], { "w.pth": bytes.subarray(0, length) })).toBe(
      "w.pth: found a zip archive without its end record, expected a complete file; download or copy the file again.\n",
    );
  });
});

describe("a checkpoint that is no complete OSNet", () => {
  let trained: StateDict;
  beforeAll(() => {
    trained = openFixture().stateDict;
  });

  const PARTIAL =
    "expected the complete state dict of osnet_x0_25; partial state dicts are not loaded, so repair the checkpoint, or name its architecture with --arch.";
  const lines = async (stateDict: StateDict): Promise<readonly string[]> =>
    (await refuse(["w.pth"], { "w.pth": encodePth(stateDict) })).trimEnd().split("\n");

  it("a ResNet", async () => {
    const resnet = new Map([
      ["conv1.weight", zeros(64, 3, 7, 7)],
      ["bn1.weight", zeros(64)],
      ["layer1.0.conv1.weight", zeros(64, 64, 1, 1)],
      ["fc.weight", zeros(10, 64)],
    ]);
    expect(await lines(resnet)).toEqual([
      'w.pth: found 4 tensors of another network ("conv1.weight", "bn1.weight", "layer1.0.conv1.weight", …), expected the state dict of an OSNet (conv1.conv.weight, conv2.0.conv2a… or conv2.0.conv2.0.layers…); use a torchreid OSNet checkpoint.',
    ]);
  });

  // A network of [2, 2, 1] blocks could be; this is one of [2, 2, 2] that lost its last.
  it.each(["conv2.0.", "conv3.1.", "conv4.1."])("without block %s: all keys are listed", async (block) => {
    const lost = [...trained.keys()].filter((path) => path.startsWith(block));
    const missing = lost.filter((path) => !path.endsWith(".num_batches_tracked"));
    const [sentence, ...details] = await lines(
      new Map([...trained].filter(([path]) => !path.startsWith(block))),
    );
    expect(sentence).toBe(`w.pth: found ${missing.length} missing keys, ${PARTIAL}`);
    expect(details).toEqual(
      missing.map((path) => `  missing: ${path} [${trained.get(path)?.shape.join(", ")}]`),
    );
  });

  it("with a wrong shape", async () => {
    expect(await lines(withTensor(trained, "conv3.1.conv2b.0.bn.bias", () => zeros(7)))).toEqual([
      `w.pth: found 1 mis-shaped key, ${PARTIAL}`,
      "  mis-shaped: conv3.1.conv2b.0.bn.bias: found [7], expected [24]",
    ]);
  });

  it("with unexpected keys", async () => {
    const more = new Map([...trained, ["fc.0.scale", zeros(2, 3)], ["conv4.1.neck.bias", zeros(2)]]);
    expect(await lines(more)).toEqual([
      `w.pth: found 2 unexpected keys, ${PARTIAL}`,
      "  unexpected: fc.0.scale [2, 3]",
      "  unexpected: conv4.1.neck.bias [2]",
    ]);
  });

  it("with everything wrong at once: never only the first", async () => {
    const broken = new Map(withTensor(trained, "fc.0.bias", () => zeros(9)));
    broken.delete("conv5.bn.bias");
    broken.set("conv5.bn.beta", zeros(3));
    broken.set("fc.1.bias", { dtype: "int64", shape: [512], data: new BigInt64Array(512) });
    expect(await lines(broken)).toEqual([
      `w.pth: found 1 missing, 1 unexpected, 1 mis-shaped, 1 wrongly typed keys, ${PARTIAL}`,
      "  missing: conv5.bn.bias [128]",
      "  unexpected: conv5.bn.beta [3]",
      "  mis-shaped: fc.0.bias: found [9], expected [512]",
      "  wrongly typed: fc.1.bias: found int64, expected a floating-point type",
    ]);
  });

  it("with numbers that no training leaves", async () => {
    const diverged = withTensor(trained, "fc.0.bias", (tensor) =>
      withValues(tensor, { 3: Number.NaN, 5: Infinity }),
    );
    const negative = withTensor(diverged, "fc.1.running_var", (tensor) => withValues(tensor, { 0: -1e-3 }));
    expect(await lines(negative)).toEqual([
      "w.pth: found invalid numbers in 2 tensors, expected finite weights and non-negative variances; use a checkpoint from before the training diverged.",
      "  fc.0.bias: 2 NaN or infinite",
      "  fc.1.running_var: 1 negative",
    ]);
  });
});

describe("an output that cannot be", () => {
  it.each([
    ["missing/out.onnx", "its folder does not exist; create the folder first"],
    ["out.onnx/out.onnx", "its folder does not exist; create the folder first"],
    [".", "found a folder, expected a file name; name the file to write"],
    ["out.onnx", "already exists; add --force to replace it"],
  ])("%s", async (output, problem) => {
    const files = { "out.onnx": "an older model" };
    expect(await refuse([SMALL, "-o", output], files)).toBe(`${output}: ${problem}.\n`);
  });

  it("one without a name", async () => {
    expect(await refuse([SMALL, "-o", ""])).toBe(
      '"": found no name, expected a file name; name the file to write.\n',
    );
  });
});

describe("an option that cannot be", () => {
  const opset = "expected a whole number from 11 to 26; omit it to use opset 17";
  const size = "expected HEIGHTxWIDTH in pixels or dynamic; use a value such as 256x128";
  const tolerance = "expected auto or a number between 0 and 1; use a value such as 1e-4";

  it.each([
    ["--opset 5", `opset: found 5, ${opset}`],
    ["--opset 99", `opset: found 99, ${opset}`],
    ["--opset abc", '--opset: found "abc", expected a whole number of at least 1; correct the value'],
    [
      "--size 7x3",
      "image size 7x3: found an output of [1, 32, 1, 0] at layer conv2.1.1, expected at least one pixel; use larger images, such as 256x128",
    ],
    ["--size abc", `--size: found "abc", ${size}`],
    ["--size 0x0", `--size: found "0x0", ${size}`],
    [
      "--size 9000x9000",
      '--size: found "9000x9000", expected at most 8192 pixels per side; use a value such as 256x128',
    ],
    [
      "--size 100000x100000",
      '--size: found "100000x100000", expected at most 8192 pixels per side; use a value such as 256x128',
    ],
    ["--batch 0", '--batch: found "0", expected a whole number of at least 1 or dynamic; correct the value'],
    [
      "--batch 1.5",
      '--batch: found "1.5", expected a whole number of at least 1 or dynamic; correct the value',
    ],
    ["--tolerance abc", `--tolerance: found "abc", ${tolerance}`],
    ["--tolerance -1", `--tolerance: found "-1", ${tolerance}`],
    ["--tolerance 2", `--tolerance: found "2", ${tolerance}`],
    [
      "--output all",
      '--output: found "all", expected features, logits, both or probabilities; choose one, or use -o to name the output file',
    ],
    [
      "--output probabilities",
      "output: found probabilities, expected features or logits; choose an output that this network has",
    ],
    [
      "--input-name features",
      'input or output name: found "features", which is already in use, expected a unique name; choose another',
    ],
    [
      "--arch resnet50",
      '--arch: found "resnet50", expected a variant such as osnet_x1_0 or a spec.json; choose one of osnet_x1_0, osnet_x0_75, osnet_x0_5, osnet_x0_25, osnet_ibn_x1_0, osnet_ain_x1_0, osnet_ain_x0_75, osnet_ain_x0_5, osnet_ain_x0_25, osnet_avgpool, osnet_maxpool',
    ],
    ["--arch none.json", "none.json: no such file or folder; check the path"],
    ["--frob", "--frob: unknown option; see --help"],
    ["--forse", "--forse: unknown option; did you mean --force?"],
    ["--size", "--size <HxW>: missing value; add one"],
    ["second.pth", "pth2onnx: too many arguments; see --help"],
  ])("%s", async (args, sentence) => {
    const output = await refuse([SMALL, "-o", "out.onnx", ...args.split(" ")]);
    expect(output).toBe(`${sentence}${sentence.endsWith("?") ? "" : "."}\n`);
  });

  it("--key that leads nowhere", async () => {
    expect(await refuse([CHECKPOINT, "-o", "out.onnx", "--key", "model.ema"])).toMatch(
      /^--key model\.ema: found no tensors at that path in osnet_x0_25\.pth, expected the path of a state dict; omit --key, or choose a path below "conv1\.conv\.weight", .*\.\n$/,
    );
  });

  it("--arch of another network", async () => {
    const [sentence, ...details] = (await refuse([CHECKPOINT, "-o", "out.onnx", "--arch", "osnet_x0_5"]))
      .trimEnd()
      .split("\n");
    expect(sentence).toMatch(/^osnet_x0_25\.pth: found 480 mis-shaped keys, .* of osnet_x0_5; .*\.$/);
    expect(details).toHaveLength(480);
  });

  it("--arch of a file that is no spec", async () => {
    const spec = (text: string) =>
      refuse([SMALL, "-o", "out.onnx", "--arch", "spec.json"], { "spec.json": text });
    const problem = "expected an OSNet architecture description; see docs/architecture.md for its fields.\n";
    expect(await spec("{")).toBe(`spec.json: found text that is not JSON, ${problem}`);
    expect(await spec("{}")).toBe(
      `spec.json: found 7 problems, ${problem}${[
        'dialect: found nothing, expected "osnet" or "osnet_ain"',
        'pooling: found nothing, expected "avg" or "max"',
        "stem: expected an object",
        "gate: expected an object",
        "head: expected an object",
        "embedding: expected a list",
        "stages: expected a list",
      ]
        .map((line) => `  ${line}\n`)
        .join("")}`,
    );
  });
});

describe("a command that cannot be", () => {
  it.each([
    [["pth2onn"], "pth2onn: unknown command; did you mean pth2onnx?"],
    [["pth2onnx"], "<file>: missing argument; add it to the command"],
    [["pth2onn", "w.pth"], "pth2onn: unknown command; did you mean pth2onnx?"],
  ])("%j", async (args, sentence) => {
    expect(await refusal("osnet-convert", args)).toBe(`${sentence}${sentence.endsWith("?") ? "" : "."}\n`);
  });
});
