import { describe, expect, it } from "vitest";
import { lowerToOnnx } from "../../../src/convert/export/onnx.js";
import { encodeOnnx } from "../../../src/convert/formats/onnx/encode.js";
import type { StateDict } from "../../../src/core/tensor.js";
import { openVerification } from "../../../src/verify/open.js";
import { verify } from "../../../src/verify/verify.js";
import { openFixture, SMALL, withTensor } from "../../support/osnet.js";

describe("a float16 model", () => {
  it("passes where gates are below float16's normal range and streams are large, and is not called proven", async () => {
    const opened = openFixture();
    // Gates of about 3e-8, which float16 shows as 0 or 6e-8; a runtime that computes in float32 multiplies by 3e-8.
    const change = (path: string, to: (value: number) => number) => (stateDict: StateDict) =>
      withTensor(stateDict, path, ({ shape, data }) => ({
        dtype: "float32",
        shape,
        data: Float32Array.from(data as Float32Array, to),
      }));
    const stateDict = [
      change("conv4.1.gate.fc2.weight", () => 0),
      change("conv4.1.gate.fc2.bias", () => -17.3),
      change("conv4.1.conv2a.bn.weight", (value) => 300 * value),
    ].reduce((changed, apply) => apply(changed), opened.stateDict);
    const bytes = encodeOnnx(lowerToOnnx(opened.graph, stateDict, { size: SMALL, dtype: "float16" }));
    const checkpoint = { ...opened, stateDict };
    const report = await verify(
      await openVerification(
        { name: "half.onnx", bytes },
        { name: "w.pth", bytes: new Uint8Array(), checkpoint },
      ),
    );
    const gate = report.gates.find(({ block, stream }) => block === "conv4.1" && stream === 1);
    expect(gate?.max).toBeLessThan(2e-7);
    expect(report.faults).toEqual([]);
    expect(report.weights).toMatchObject({ compared: 316, folded: 80 });
    expect(report.weights?.rounded).toBeGreaterThan(300);
    expect(report.proof).toMatchObject({
      status: "sampled",
      grounds: [`${report.weights?.rounded} of 316 constants have fewer bits than the checkpoint's`],
    });
  });
});
