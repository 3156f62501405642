import { describe, expect, it } from "vitest";
import { compareBits, encodeWeights } from "../../src/convert/export/write.js";
import { WEIGHTS_FORMATS } from "../../src/convert/formats/registry.js";
import { decodeWeights } from "../../src/convert/open/checkpoint.js";
import { fixturePath, missing, readFixture } from "../fixtures.js";
import { tinyCheckpoint } from "../mutation/families.js";
import { temporaryFolder } from "../support/folder.js";
import { openFixture } from "../support/osnet.js";
import { refusal, run } from "./command.js";

const { stateDict } = openFixture();
const { stateDict: small } = tinyCheckpoint("block");
const NETWORK = "osnet_x0_25, 16 classes, 0.2 M parameters, 82 M multiply-adds at 256×128";
const DIRECTIONS = WEIGHTS_FORMATS.flatMap((from) => WEIGHTS_FORMATS.map((to) => [from, to] as const));

describe("osnet-convert between files of weights", () => {
  it.each(DIRECTIONS)("%s2%s writes a verified file, and nothing else", async (from, to) => {
    const input = `w.${from}`;
    const folder = await temporaryFolder({ [input]: encodeWeights(small, from, { subject: input }) });
    const args = [`${from}2${to}`, input, ...(from === to ? ["-o", `out.${to}`] : [])];
    const output = from === to ? `out.${to}` : `w.${to}`;
    const { status, stdout, stderr } = await run("osnet-convert", args, { cwd: folder.path });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const [network, ...said] = stdout.toString().split("\n");
    expect(network).toMatch(/^w\.\w+: osnet_x1_0 with channels .*, 6 classes, /);
    expect(said).toEqual([
      `verified: ${small.size} tensors read back bit for bit`,
      expect.stringMatching(/^wrote (w|out)\.\w+, 0\.[01] MB$/),
      "",
    ]);
    expect(await folder.names()).toEqual([input, output].sort());
    const written = await folder.read(output);
    expect(compareBits(small, decodeWeights(written, { subject: output, format: to }).stateDict)).toEqual([]);
    expect(Buffer.compare(written, encodeWeights(small, to, { subject: output }))).toBe(0);
  });

  it.skipIf(missing("cases/hostile/esc.pth"))(
    "shows a name from the file on one line, and obeys none of it",
    async () => {
      const folder = await temporaryFolder({ "w.pth": readFixture("cases/hostile/esc.pth") });
      const { status, stdout } = await run("osnet-convert", ["pth2npz", "w.pth"], { cwd: folder.path });
      expect(status).toBe(0);
      expect(stdout.toString().split("\n")).toEqual([
        expect.stringMatching(/^w\.pth: /),
        expect.stringMatching(/^ {2}weights under �\[31mEVIL\P{Cc}*$/u),
        expect.stringMatching(/^verified: /),
        expect.stringMatching(/^wrote w\.npz/),
        "",
      ]);
    },
  );

  it.each(["safetensors", "npz"] as const)("%s2onnx writes what pth2onnx writes", async (format) => {
    const options = ["--size", "64x32", "--no-verify", "--quiet"];
    const convert = async (from: string, stdin: Uint8Array) =>
      (await run("osnet-convert", [`${from}2onnx`, "-", ...options], { cwd: "/", stdin })).stdout;
    const ours = await convert(format, encodeWeights(stateDict, format, { subject: "w" }));
    expect(ours.length).toBeGreaterThan(800_000);
    expect(ours.equals(await convert("pth", readFixture("osnet_x0_25.pth")))).toBe(true);
  });

  it("verifies an ONNX file made from safetensors, and osnet-verify compares the two", async () => {
    const folder = await temporaryFolder({
      "w.safetensors": encodeWeights(tinyCheckpoint("block").stateDict, "safetensors", { subject: "w" }),
    });
    const converted = await run("osnet-convert", ["safetensors2onnx", "w.safetensors", "--size", "64x32"], {
      cwd: folder.path,
    });
    expect(converted.stdout.toString()).toMatch(
      /\nverified: 55 layers and 3 gates, .*\nwrote w\.onnx, 0\.0 MB\n$/,
    );
    const args = ["w.onnx", "--reference", "w.safetensors", "--json"];
    const { status, stdout } = await run("osnet-verify", args, { cwd: folder.path });
    expect(status).toBe(0);
    expect(JSON.parse(stdout.toString())).toMatchObject({
      passed: true,
      candidate: { name: "w.onnx", format: "onnx" },
      reference: { name: "w.safetensors", format: "safetensors" },
    });
  });

  const recording = "osnet_x0_25.64x32.npz";
  it.skipIf(missing(recording))(
    "osnet-verify distinguishes an .npz of weights from a recording",
    async () => {
      const folder = await temporaryFolder({ "w.npz": encodeWeights(stateDict, "npz", { subject: "w" }) });
      const args = ["w.npz", "--reference", fixturePath(recording) ?? "", "--json"];
      const { status, stdout } = await run("osnet-verify", args, { cwd: folder.path });
      expect(status).toBe(0);
      expect(JSON.parse(stdout.toString())).toMatchObject({ passed: true, candidate: { format: "npz" } });
    },
  );

  it("--dtype rounds floating-point tensors, and says how many", async () => {
    const folder = await temporaryFolder();
    const args = [
      "pth2safetensors",
      fixturePath("osnet_x0_25.pth") ?? "",
      "-o",
      "h.safetensors",
      "--dtype",
      "float16",
    ];
    const { status, stdout } = await run("osnet-convert", args, { cwd: folder.path });
    expect(status).toBe(0);
    expect(stdout.toString()).toContain("\n  487 of 567 tensors converted to float16\nverified: 567 tensors");
    const { stateDict: half } = decodeWeights(await folder.read("h.safetensors"), { subject: "h" });
    const dtypes = [...half.values()].map(({ dtype }) => dtype);
    expect(dtypes.filter((dtype) => dtype === "float16").length).toBe(487);
    expect(dtypes.filter((dtype) => dtype === "int64").length).toBe(80);
  });

  const wrapped = "encodings/nested_backbone_prefix.pth";
  it.skipIf(missing(wrapped))("states the wrapper and the prefix that it took off", async () => {
    const folder = await temporaryFolder();
    const args = ["pth2npz", fixturePath(wrapped) ?? "", "-o", "w.npz"];
    const text = await run("osnet-convert", args, { cwd: folder.path });
    expect(text.stdout.toString()).toContain(
      "\n  weights under model\n  removed the prefix backbone. from 565 keys\n",
    );
    const json = await run("osnet-convert", [...args, "--force", "--json"], { cwd: folder.path });
    expect(JSON.parse(json.stdout.toString())).toMatchObject({
      output: "w.npz",
      written: true,
      source: {
        format: "pth",
        container: "zip",
        wrapperPath: "model",
        removedPrefix: "backbone.",
        metadata: {},
      },
      spec: { dialect: "osnet", head: null },
      verification: { passed: true, tensors: 565, differences: [] },
    });
  });

  it("writes to standard output, and says so on standard error", async () => {
    const stdin = readFixture("osnet_x0_25.pth");
    const { status, stdout, stderr } = await run("osnet-convert", ["pth2safetensors", "-"], {
      cwd: "/",
      stdin,
    });
    expect({ status, stderr }).toEqual({
      status: 0,
      stderr: `standard input: ${NETWORK}\nverified: 567 tensors read back bit for bit\nwrote standard output, 0.9 MB\n`,
    });
    expect(Buffer.compare(stdout, encodeWeights(stateDict, "safetensors", { subject: "w" }))).toBe(0);
  });

  it("--no-verify says so", async () => {
    const folder = await temporaryFolder({ "w.pth": readFixture("osnet_x0_25.pth") });
    const { stdout } = await run("osnet-convert", ["pth2npz", "w.pth", "--no-verify"], { cwd: folder.path });
    expect(stdout.toString()).toBe(`w.pth: ${NETWORK}\nwrote w.npz, 1.0 MB, not verified\n`);
  });

  describe("refuses", () => {
    const files = { "w.pth": readFixture("osnet_x0_25.pth") };
    it.each<readonly [what: string, args: readonly string[], message: string]>([
      [
        "to replace its own input",
        ["pth2pth", "w.pth", "--force"],
        "--out: the default name, w.pth, is the input itself; choose another with -o.\n",
      ],
      [
        "an unknown type",
        ["pth2npz", "w.pth", "--dtype", "int8"],
        '--dtype: found "int8", expected float64, float32, float16 or bfloat16; choose one of these.\n',
      ],
      [
        "bfloat16 for numpy",
        ["pth2npz", "w.pth", "--dtype", "bfloat16"],
        "w.npz: found 487 bfloat16 tensors (conv1.conv.weight, …), expected element types that numpy supports; add --dtype float32, which represents every value exactly.\n",
      ],
      [
        "another format than the command's",
        ["safetensors2npz", "w.pth"],
        "w.pth: found a PyTorch checkpoint, expected a safetensors file; use pth2… instead of safetensors2….\n",
      ],
      [
        "ONNX options where no ONNX file is written",
        ["pth2npz", "w.pth", "--gates"],
        "--gates: unknown option; see --help.\n",
      ],
    ])("%s", async (_, args, message) => {
      expect(await refusal("osnet-convert", args, files)).toBe(message);
    });

    it("weights beyond the type, listing every tensor", async () => {
      const large = new Map(stateDict).set("fc.0.bias", {
        dtype: "float32",
        shape: [512],
        data: new Float32Array(512).fill(1e5),
      });
      const bytes = encodeWeights(large, "safetensors", { subject: "w" });
      const args = ["safetensors2pth", "big.safetensors", "--dtype", "float16"];
      expect(await refusal("osnet-convert", args, { "big.safetensors": bytes })).toBe(
        "big.safetensors: found values that overflow float16 in 1 tensor, expected weights within its range; choose bfloat16 or float32.\n  fc.0.bias: 512 values, the largest 100000\n",
      );
    });

    it("an incomplete network, listing every key", async () => {
      const torn = new Map(stateDict);
      torn.delete("conv1.conv.weight");
      const bytes = encodeWeights(torn, "npz", { subject: "w" });
      expect(await refusal("osnet-convert", ["npz2safetensors", "torn.npz"], { "torn.npz": bytes })).toMatch(
        /^torn\.npz: found 1 missing key, expected .*\n {2}missing: conv1\.conv\.weight \[16, 3, 7, 7\]\n$/,
      );
    });
  });
});
