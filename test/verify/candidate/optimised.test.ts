import { beforeAll, describe, expect, it } from "vitest";
import { lowerToOnnx } from "../../../src/convert/export/onnx.js";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import { int, type OnnxModel, type OnnxNode, text } from "../../../src/convert/formats/onnx/model.js";
import type { Checkpoint } from "../../../src/convert/open/checkpoint.js";
import { liftCheckpoint } from "../../../src/convert/open/lift.js";
import { openModel } from "../../../src/convert/open/open-file.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { seededImages } from "../../../src/verify/inputs/images.js";
import { openVerification } from "../../../src/verify/open.js";
import type { ParityReport } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import { anonymous, dropNode, replaceNode, withAttribute } from "../../convert/import/graphs.js";
import { ONE_BLOCK, type TinyNetwork, tinyCheckpoint } from "../../mutation/families.js";
import { modulesOf, wholeModel } from "../../mutation/readers.js";
import { optimisedFile } from "../../support/optimised.js";
import { SMALL, withValues } from "../../support/osnet.js";

/**
 * Files that onnxruntime has optimised at every level and saved: convolutions with activations and sums in them, and channels in
 * blocks of as many as this processor takes at a time (8 or 16).
 */

const NCHWC = "com.microsoft.nchwc";

async function judged(
  bytes: Uint8Array,
  family: TinyNetwork = "osnet",
  checkpoint: Checkpoint = tinyCheckpoint(family),
  name = "m.onnx",
): Promise<ParityReport> {
  const verification = await openVerification(
    { name, bytes },
    { name: "w.pth", bytes: new Uint8Array(), checkpoint },
    { images: { source: "test", tensor: seededImages(0, 2, 64, 32) } },
  );
  return verify(verification);
}

function plain(family: TinyNetwork, isNamed: boolean, size: typeof SMALL | "dynamic" = SMALL): Uint8Array {
  const { graph, stateDict } = tinyCheckpoint(family);
  const model = lowerToOnnx(graph, stateDict, { size });
  return encodeOnnx(isNamed ? model : anonymous(model));
}

const inBlocks = ({ domain }: OnnxNode): boolean => domain === NCHWC;

const LEVELS = ["extended", "layout", "all"] as const;

/** The first has channels that fill no block. */
const NETWORKS: readonly TinyNetwork[] = ["osnet", ...Object.values(ONE_BLOCK).slice(1)];

describe.each(LEVELS)("optimised by onnxruntime at level %s", (level) => {
  it.each(NETWORKS)("%s passes", async (family) => {
    // Each family and each level with our names and with others.
    const isNamed = (LEVELS.indexOf(level) + NETWORKS.indexOf(family)) % 2 === 0;
    const bytes = await optimisedFile(plain(family, isNamed), level);
    const { nodes } = decodeOnnx(bytes, { subject: "m.onnx" }).graph;
    expect(nodes.some(inBlocks)).toBe(level !== "extended");
    const { passed, faults, coverage, proof } = await judged(bytes, family);
    expect([passed, faults, coverage.missing, proof?.status]).toEqual([true, [], [], "sampled"]);
  });

  it("of any size passes, and its weights are lifted", async () => {
    const bytes = await optimisedFile(plain("block", false, "dynamic"), level);
    expect((await judged(bytes, "block")).faults).toEqual([]);
    const { stateDict } = liftCheckpoint(openModel("onnx", { name: "m.onnx", bytes }));
    const { stateDict: own } = tinyCheckpoint("block");
    for (const name of ["conv2.0.gate.fc1.weight", "conv2.0.conv2b.1.conv1.weight", "conv2.0.gate.fc2.bias"])
      expect(stateDict.get(name)?.data).toEqual(own.get(name)?.data);
  });
});

describe("a checkpoint that is a model with code of its own", () => {
  it("is compared with by its weights, and nothing is called proven", async () => {
    const checkpoint = tinyCheckpoint("block");
    const against = (unread?: readonly string[]): Promise<ParityReport> =>
      judged(plain("block", true), "block", unread ? { ...checkpoint, unread } : checkpoint);
    expect((await against()).proof?.status).toBe("proven");
    const { passed, proof, warnings } = await against(["__main__.MyBlock"]);
    expect([passed, proof?.status]).toEqual([true, "sampled"]);
    expect(proof?.grounds).toEqual([
      expect.stringContaining("the code of __main__.MyBlock is not in the file"),
    ]);
    expect(warnings).toEqual(proof?.grounds);
  });

  it("passes as a candidate with a warning", async () => {
    const checkpoint = tinyCheckpoint("block");
    const modules = new Map(modulesOf(checkpoint));
    modules.set("conv2.0", { className: "__main__.Mine", attributes: {} });
    const bytes = wholeModel(checkpoint.stateDict, modules);
    const { passed, warnings } = await judged(bytes, "block", checkpoint, "whole.pt");
    expect(passed).toBe(true);
    expect(warnings).toEqual([expect.stringMatching(/^the candidate is a model .*__main__\.Mine/)]);
  });
});

describe("a mistake in a file with channels in blocks", () => {
  let model: OnnxModel;
  beforeAll(async () => {
    model = decodeOnnx(await optimisedFile(plain("osnet", true, "dynamic"), "all"), { subject: "m.onnx" });
  });

  const find = (accepts: (node: OnnxNode) => boolean, index = 0): OnnxNode => {
    const node = model.graph.nodes.filter(accepts)[index];
    if (!node) throw new Error("no such node");
    return node;
  };
  const of = (node: OnnxNode): string => node.outputs[0] ?? "";
  const filterOf = (node: OnnxNode): Tensor => model.graph.initializers.get(node.inputs[1] ?? "") as Tensor;
  const isConv = (node: OnnxNode): boolean => inBlocks(node) && node.opType === "Conv";
  const isDepthwise = (node: OnnxNode): boolean =>
    isConv(node) && filterOf(node).shape[1] === 1 && filterOf(node).shape[2] === 3;

  async function faultsOf(changed: OnnxModel): Promise<readonly string[]> {
    const { passed, faults } = await judged(encodeOnnx(changed));
    expect(passed).toBe(false);
    return faults.map(({ kind, layer, explanation }) => `${kind} ${layer}: ${explanation}`);
  }

  it("another weight is a fault at its layer", async () => {
    const node = find(isDepthwise, 2);
    const weight = filterOf(node);
    const name = node.inputs[1] ?? "";
    const initializers = new Map(model.graph.initializers).set(name, withValues(weight, { 4: 3 }));
    const faults = await faultsOf({ ...model, graph: { ...model.graph, initializers } });
    expect(faults).toEqual([expect.stringMatching(/^weights conv2\.0\.\S+: .*1 of \d+ values differ/)]);
  });

  it("a missing reordering to NCHW is a fault where its result is read", async () => {
    const node = find(
      ({ opType, domain, outputs }) =>
        domain === NCHWC &&
        opType === "ReorderOutput" &&
        /relu$/.test(outputs[0] ?? "") &&
        !/gate/.test(outputs[0] ?? ""),
    );
    const faults = await faultsOf(dropNode(model, of(node)));
    expect(faults).toEqual([
      expect.stringMatching(/^structure \S+: found .*blocks of \d+ channels read as single channels/),
    ]);
  });

  it("other groups are a fault of the convolution, though onnxruntime does not run them", async () => {
    const node = find(isDepthwise, 1);
    const faults = await faultsOf(replaceNode(model, of(node), (own) => withAttribute(own, "group", int(1))));
    expect(faults).toEqual([
      expect.stringMatching(/^structure conv2\.0\.\S+: found input channels 1, groups 1/),
    ]);
  });

  it("another activation is a fault at its layer", async () => {
    const node = find((each) => isDepthwise(each) && each.attributes.has("activation"), 1);
    const faults = await faultsOf(
      replaceNode(model, of(node), (own) => withAttribute(own, "activation", text("Tanh"))),
    );
    expect(faults).toEqual([
      expect.stringMatching(/^structure conv2\.0\.\S+relu: found Tanh, expected a ReLU/),
    ]);
  });

  it("fewer channels than there are is a fault", async () => {
    const node = find(({ opType, attributes, inputs }) => {
      const channels = attributes.get("channels");
      const padded = model.graph.nodes.find(({ outputs }) => outputs[0] === inputs[0]);
      return (
        opType === "ReorderOutput" &&
        channels?.type === "int" &&
        channels.value === 12 &&
        padded !== undefined
      );
    });
    const faults = await faultsOf(
      replaceNode(model, of(node), (own) => withAttribute(own, "channels", int(10))),
    );
    expect(faults[0]).toMatch(/^structure conv3\.0/);
  });
});
