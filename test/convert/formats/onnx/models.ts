import type { OnnxModel } from "../../../../src/convert/formats/onnx/model.js";

/** y = Identity(Relu?(x)), the smallest models that runtimes run: `operators` are applied in turn to the input. */
export function chainModel(
  operators: readonly { readonly opType: string; readonly output: string }[],
  input = "x",
): OnnxModel {
  return {
    irVersion: 6,
    opset: 11,
    customOpsets: new Map(),
    producer: { name: "", version: "" },
    graph: {
      name: "chain",
      inputs: [{ name: input, dtype: "float32", shape: ["batch", 2] }],
      outputs: [{ name: operators.at(-1)?.output ?? input, dtype: "float32", shape: ["batch", 2] }],
      nodes: operators.map(({ opType, output }, index) => ({
        name: output,
        opType,
        domain: "",
        inputs: [operators[index - 1]?.output ?? input],
        outputs: [output],
        attributes: new Map(),
      })),
      initializers: new Map(),
    },
    metadata: new Map(),
  };
}

export function identityModel(): OnnxModel {
  return chainModel([{ opType: "Identity", output: "y" }]);
}
