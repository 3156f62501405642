import { describe, expect, it } from "vitest";
import { rewriting } from "../../../src/convert/open/rewritten.js";

/** Keys and classes as torch 2.15 gives them to an osnet_x0_25 that a tool has rewritten. */

describe("a state dict that a tool has rewritten", () => {
  it.each([
    ["conv1.conv.activation_post_process.eps", "a model prepared for quantisation"],
    ["fc.0._packed_params.dtype", "a quantised model"],
    ["fc.0.weight_orig", "a model whose weights are computed from other tensors"],
    ["fc.0.parametrizations.weight.original0", "a model whose weights are computed from other tensors"],
    ["conv1.conv.0.bias", "a model whose batch norms are fused"],
    ["conv1.conv.bias", "a model whose batch norms are fused"],
  ])("is told by %s", (key, what) => {
    const found = rewriting(["conv2.0.gate.fc1.weight", key], [])?.found;
    expect(found).toContain(what);
    expect(found).toContain(JSON.stringify(key));
  });

  it("is told by the classes of its modules", () => {
    const linear = "torch.ao.nn.quantized.dynamic.modules.linear.Linear";
    expect(rewriting([], ["torch.nn.modules.conv.Conv2d", linear])?.found).toContain(linear);
  });

  it("is not told by a bias beside a batch norm, nor by other keys", () => {
    expect(rewriting(["conv1.conv.bias", "conv1.bn.weight"], [])).toBeUndefined();
    expect(
      rewriting(["conv1.conv.weight", "weight_g_loss"], ["torch.nn.modules.conv.Conv2d"]),
    ).toBeUndefined();
  });
});
