import { describe, expect, it } from "vitest";
import { type Inspection, inspectCheckpoint } from "../../../src/convert/inspect/inspection.js";
import { renderInspection } from "../../../src/convert/inspect/text.js";
import { identifyCheckpoint, openCheckpoint } from "../../../src/convert/open/checkpoint.js";
import { InputError } from "../../../src/core/errors.js";
import type { StateDict } from "../../../src/core/tensor.js";
import { missing, readFixture } from "../../fixtures.js";
import { openFixture, withTensor, withValues } from "../../support/osnet.js";
import { encodePth } from "../../support/pth-writer.js";

async function inspect(name: string, bytes: Uint8Array = readFixture(name)): Promise<Inspection> {
  return inspectCheckpoint(identifyCheckpoint(bytes, { subject: name }), { name, bytes });
}

const { stateDict } = openFixture();
const saved = (weights: StateDict): Promise<Inspection> => inspect("w.pth", encodePth(weights));

describe("inspectCheckpoint", () => {
  it("describes a published variant, in plain data", async () => {
    const inspection = await inspect("osnet_x0_25.pth");
    expect(JSON.parse(JSON.stringify(inspection))).toEqual(inspection);
    expect(inspection).toMatchObject({
      schema: "osnet-inspection/1",
      file: { name: "osnet_x0_25.pth", format: "pth", container: "zip", wrapperPath: "", notes: [] },
      network: {
        variant: "osnet_x0_25",
        nearest: { variant: "osnet_x0_25", differences: [] },
        classes: 16,
        embedding: 512,
        // The paper's 0.2 M and 82.3 M; 16 classes of 512 and their bias are the rest.
        parameters: { embedding: 201_864, total: 201_864 + 16 * 513 },
        extra: [],
      },
      weights: {
        dtypes: [
          { dtype: "float32", tensors: 487 },
          { dtype: "int64", tensors: 80, elements: 80 },
        ],
      },
    });
    expect((inspection.network.multiplyAdds ?? 0) / 1e6).toBeCloseTo(82.3, 1);
  });

  it.skipIf(missing("osnet_ibn_x0_25.pth", "osnet_x0_25_nofc.pth", "encodings/nested_backbone_prefix.pth"))(
    "describes the others by the nearest, the embedding and the wrapper",
    async () => {
      const { network } = await inspect("osnet_ibn_x0_25.pth");
      expect(network).toMatchObject({
        variant: null,
        nearest: {
          variant: "osnet_x0_25",
          differences: ["instance norm in the stem", "instance norm outside the residual in conv2"],
        },
      });
      expect((await inspect("osnet_x0_25_nofc.pth")).network.embedding).toBe(128);
      const nested = await inspect("encodings/nested_backbone_prefix.pth");
      expect(nested.file).toMatchObject({ wrapperPath: "model", removedPrefix: "backbone." });
      expect(nested.network.classes).toBeNull();
    },
  );

  it("looks at numbers that cannot be used", async () => {
    const broken = withTensor(stateDict, "fc.0.bias", (tensor) => withValues(tensor, { 3: Number.NaN }));
    expect((await saved(broken)).anomalies[0]).toMatchObject({ kind: "non-finite", count: 1 });
    expect(() => openCheckpoint(encodePth(broken), { subject: "w.pth" })).toThrow(InputError);
  });

  it("names the dropped heads, which affect nothing else", async () => {
    const head = { dtype: "float32", shape: [2], data: new Float32Array([1, Number.NaN]) } as const;
    const withHead = new Map([...stateDict, ["neck.weight", head], ["neck.bias", head]]);
    const { network, file, anomalies, weights } = await saved(withHead);
    expect(network.extra).toEqual(["neck.weight", "neck.bias"]);
    expect(file.notes).toEqual(["2 tensors of extra heads, not part of the network: neck"]);
    expect(anomalies.map(({ kind }) => kind)).toEqual(["one-channel-gate"]);
    expect(weights.fingerprint).toBe((await saved(stateDict)).weights.fingerprint);
    expect(openCheckpoint(encodePth(withHead), { subject: "w.pth" }).extra).toHaveLength(2);
  });

  it.skipIf(missing("real/osnet_x0_25_msmt17.pth"))("sees what training leaves", async () => {
    const { network, anomalies } = await inspect("real/osnet_x0_25_msmt17.pth");
    expect([network.variant, network.classes]).toEqual(["osnet_x0_25", 1041]);
    expect(anomalies.map(({ kind, count, tensors }) => [kind, count, tensors.length])).toEqual([
      ["dead-channels", 24, 13],
      ["denormal-variance", 32, 15],
      ["denormal", 823, 57],
      ["one-channel-gate", 4, 4],
    ]);
    // shared/real/README.md: running variances down to 5.6e-45.
    expect(anomalies[1]?.tensors[0]?.first.value).toBeCloseTo(5.6e-45, 46);
  });
});

describe("renderInspection", () => {
  it("is a table, with the short fingerprint", async () => {
    const inspection = await inspect("osnet_ain_x0_25.pth");
    const text = renderInspection(inspection);
    expect(text).toContain("osnet_ain_x0_25.pth: PyTorch, zip container, 1.1 MB, SHA-256 ");
    expect(text).toContain("\n  network        osnet_ain_x0_25\n");
    expect(text).toContain(`\n  fingerprint    ${inspection.weights.fingerprint.slice(0, 16)}\n`);
    expect(text).toContain("\n  info  one-channel-gate      4        4  conv2.0.gate.fc1.weight[0] = ");
    expect(text.endsWith("\n")).toBe(true);
  });

  it("says that there is nothing to say", async () => {
    const inspection = { ...(await inspect("osnet_x0_25.pth")), anomalies: [] };
    expect(renderInspection(inspection)).toContain("\nno anomalies in the weights\n");
  });

  it("keeps control characters of a file from the terminal", async () => {
    const inspection = await inspect("osnet_x0_25.pth");
    const file = { ...inspection.file, name: "\u001b[2J.pth", wrapperPath: "a\u0007", notes: ["b\u009b"] };
    const text = renderInspection({ ...inspection, file });
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  });
});
