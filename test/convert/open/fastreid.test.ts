import { describe, expect, it } from "vitest";
import { identifyCheckpoint } from "../../../src/convert/open/checkpoint.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { openFixture } from "../../support/osnet.js";
import { encodeTraining } from "../../support/pth-writer.js";

const floats = (...shape: number[]): Tensor => ({
  dtype: "float32",
  shape,
  data: new Float32Array(shape.reduce((product, size) => product * size, 1)),
});

/**
 * The keys of FastReID's Checkpointer for its OSNet (fastreid/modeling/backbones/osnet.py, meta_arch/baseline.py,
 * heads/embedding_head.py): torchreid's modules without embedding layer and classifier, a BNNeck and weights of its own.
 */
const { stateDict } = openFixture();
const backbone = [...stateDict].filter(([path]) => !/^(fc|classifier)\./.test(path));
const model = new Map<string, Tensor>([
  ["pixel_mean", floats(1, 3, 1, 1)],
  ["pixel_std", floats(1, 3, 1, 1)],
  ...backbone.map(([path, tensor]) => [`backbone.${path}`, tensor] as const),
  ["heads.weight", floats(751, 128)],
  ...["weight", "bias", "running_mean", "running_var"].map(
    (name) => [`heads.bottleneck.0.${name}`, floats(128)] as const,
  ),
]);

describe("FastReID's checkpoints of OSNet", () => {
  it("are the network without embedding layer, and heads that a note lists as dropped", () => {
    const file = encodeTraining(model, 4096, "model");
    const {
      variant,
      spec,
      extra,
      decoded,
      stateDict: found,
    } = identifyCheckpoint(file, { subject: "w.pth" });
    expect({ variant, embedding: spec.embedding, head: spec.head }).toEqual({
      variant: "osnet_x0_25",
      embedding: [],
      head: null,
    });
    expect([decoded.wrapperPath, decoded.removedPrefix]).toEqual(["model", "backbone."]);
    expect(decoded.notes).toContain(
      "7 tensors of extra heads, not part of the network: pixel_mean, pixel_std, heads",
    );
    expect(decoded.notes).toContain(
      "its bottleneck is not converted: features are taken before it, as FastReID does if NECK_FEAT is before",
    );
    expect(extra).toHaveLength(7);
    for (const [path, tensor] of backbone) expect(found.get(path)?.data, path).toEqual(tensor.data);
  });
});
