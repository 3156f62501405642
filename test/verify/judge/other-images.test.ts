import { describe, expect, it } from "vitest";
import type { RealTensor, Tensor } from "../../../src/core/tensor.js";
import type { Verification } from "../../../src/verify/candidate/candidate.js";
import { faultOnOtherImages } from "../../../src/verify/judge/other-images.js";
import { openVerification } from "../../../src/verify/open.js";
import type { Fault, OutputResult } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { convert, openReference, rewriteOnnx, SMALL } from "../../support/osnet.js";

const checkpoint = tinyCheckpoint("block");
const output = { relMax: 1e-7 } as OutputResult;

function opened(bytes = convert(checkpoint)): Promise<Verification> {
  return openVerification({ name: "m.onnx", bytes }, openReference(checkpoint), { size: SMALL });
}

/** A file whose first value of an output differs on some images. */
function withOutputs(
  verification: Verification,
  change: (value: number, images: Tensor<"float32">) => number,
  output = 0,
): Verification {
  const { program } = verification.candidate;
  if (!program) throw new Error("not a model");
  const load: typeof program.load = (options) => {
    const { run, release } = program.load(options);
    return {
      release,
      async run(images) {
        const values = await run(images);
        const data = Float32Array.from(values[output]?.data ?? []);
        data[0] = change(data[0] ?? 0, images);
        return values.map((value, index) => (index === output ? ({ ...value, data } as RealTensor) : value));
      },
    };
  };
  return { ...verification, candidate: { ...verification.candidate, program: { ...program, load } } };
}

describe("images unlike the report's", () => {
  it("give the reference's embedding, or are a fault", async () => {
    const verification = await opened();
    expect(await faultOnOtherImages(verification, output)).toBeUndefined();
    const [layer, kind] = [verification.candidate.results[0], "numeric"];
    const later = withOutputs(
      verification,
      (value, { shape: [count = 0] }) => value + Math.max(0, count - 2),
    );
    expect(await faultOnOtherImages(later, output)).toMatchObject({ layer, kind });
    const overflowing = withOutputs(verification, (value, { data }) => (data[0] === 0 ? value : Infinity));
    expect(await faultOnOtherImages(overflowing, output)).toMatchObject({ layer, kind });
    // One image at a time, all of them.
    const alone = withOutputs(verification, (value, { data, shape }) =>
      shape[0] === 1 && data.every((pixel) => pixel < 0) ? value + 1 : value,
    );
    expect(await faultOnOtherImages({ ...alone, batch: 1 }, output)).toMatchObject({ layer, kind });
    // As far off as on the report's images, as in half precision.
    const off = withOutputs(verification, (value) => value + 1e-2);
    expect(await faultOnOtherImages(off, { relMax: 1 } as OutputResult)).toBeUndefined();
  });

  it("agree in half precision as far as the report's images do", async () => {
    const half = await opened(convert(checkpoint, { dtype: "float16" }));
    const report = await verify(half);
    expect(report).toMatchObject({ passed: true, proof: { status: "sampled" } });
    const wrong = withOutputs(half, (value, { shape: [count] }) => (count === 7 ? value + 1 : value));
    expect(await verify(wrong)).toMatchObject({ passed: false, faults: [{ kind: "numeric" }] });
    // However far the report's images are off: more than a few times what rounding the weights does.
    const off = withOutputs(half, (value, { shape: [count] }) => (count === 7 ? value + 0.2 : value));
    expect(await faultOnOtherImages(off, { relMax: 1 } as OutputResult)).toMatchObject({ kind: "numeric" });
  });

  it("have another size where the file takes any", async () => {
    const wrong = async (size?: "dynamic"): Promise<Fault | undefined> => {
      const verification = await opened(convert(checkpoint, size ? { size } : {}));
      const seen = verification.images.shape[2];
      const other = withOutputs(verification, (value, { shape }) => (shape[2] === seen ? value : value + 1));
      return faultOnOtherImages(other, output);
    };
    expect(await wrong("dynamic")).toMatchObject({ kind: "numeric" });
    expect(await wrong()).toBeUndefined();
  });

  it("give every output", async () => {
    const gates = await opened(convert(checkpoint, { gates: true }));
    expect(await faultOnOtherImages(gates, output)).toBeUndefined();
    const wrong = withOutputs(gates, (value) => value + 0.5, 3);
    const layer = gates.candidate.program?.outputs[3]?.layer;
    expect(await faultOnOtherImages(wrong, output)).toMatchObject({ layer });
  });

  it("are run if a file is not proven, and only then", async () => {
    const wrong = (verification: Verification): Verification =>
      withOutputs(verification, (value, { shape: [count] }) => (count === 7 ? value + 1 : value));
    const sampled = await opened(
      rewriteOnnx(convert(checkpoint), (model) => ({
        ...model,
        graph: {
          ...model.graph,
          nodes: model.graph.nodes.map((node) =>
            node.opType === "Relu"
              ? {
                  ...node,
                  opType: "LeakyRelu",
                  attributes: new Map([["alpha", { type: "float", value: 0 }]]),
                }
              : node,
          ),
        },
      })),
    );
    expect(await verify(sampled)).toMatchObject({ passed: true, proof: { status: "sampled" } });
    expect(await verify(wrong(sampled))).toMatchObject({ passed: false, faults: [{ kind: "numeric" }] });
    expect(await verify(wrong(await opened()))).toMatchObject({ passed: true, proof: { status: "proven" } });
  });
});
