import { describe, expect, it } from "vitest";
import { checkpoint, decoded, dict, floats, global, pickle, refusal, tensor } from "./build.js";

/** Files that PyTorch would read otherwise than their first sight suggests: refused, never read in one of two ways. */

const weights = { 0: floats(1, 2) };

describe("names in an archive, whose case PyTorch ignores,", () => {
  const value = dict({ w: tensor() });

  it.each([
    ["BYTEORDER", "byteorder"],
    ["Constants.pkl", "constants.pkl"],
    ["MODEL.JSON", "model.json"],
    ["DATA/0", "data/0"],
  ])("are refused where they differ in it from what is looked up: %s", (name, wanted) => {
    const file = checkpoint(value, wanted === "data/0" ? {} : weights, { [name]: "big" });
    expect(refusal(file)).toContain(
      `found a zip entry named "archive/${name}", expected "archive/${wanted}"`,
    );
  });
});

describe("a TorchScript archive", () => {
  const net = `${global("__torch__.Net")})\x81${dict({ w: tensor() })}b`;
  const constants = { "constants.pkl": pickle(")") };

  it("is refused where PyTorch would read an older description of the model", () => {
    expect(refusal(checkpoint(net, weights, { ...constants, "model.json": "{}" }))).toContain(
      "found a TorchScript model in an older format",
    );
  });

  it("is refused where there is a model without code, or code without a model", () => {
    expect(refusal(checkpoint(net, weights))).toContain("found a TorchScript model without its code");
    expect(refusal(checkpoint(dict({ w: tensor() }), weights, constants))).toContain(
      "found TorchScript's code without its model",
    );
    expect(decoded(checkpoint(dict({ w: tensor() }), weights))).toHaveProperty("w");
  });
});
