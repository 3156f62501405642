import onnxProto from "onnx-proto";
import { describe, expect, it } from "vitest";
import { decodeOnnx } from "../../../../src/convert/formats/onnx/decode.js";

const { onnx } = onnxProto;
type Nodes = onnxProto.onnx.INodeProto[];

/** A model of two inputs with local functions. */
function model(nodes: Nodes, functions: onnxProto.onnx.IFunctionProto[]): Uint8Array {
  const graph = { name: "g", node: nodes, input: [{ name: "a" }, { name: "b" }], output: [{ name: "y" }] };
  const opsetImport = [{ version: 17 }, { domain: "own", version: 1 }];
  return onnx.ModelProto.encode({ irVersion: 8, opsetImport, graph, functions }).finish();
}

const call = (opType: string, input: string[], output: string[], extra: object = {}): Nodes[number] => ({
  opType,
  domain: "own",
  input,
  output,
  ...extra,
});

const LEAKY = {
  name: "Leaky",
  domain: "own",
  input: ["x"],
  output: ["t"],
  attribute: ["slope"],
  node: [
    {
      opType: "LeakyRelu",
      input: ["x"],
      output: ["t"],
      attribute: [{ name: "alpha", refAttrName: "slope", type: 1 }],
    },
  ],
};

/** Both at once: a function in a function, a value inside, an input handed on. */
const PAIR = {
  name: "Pair",
  domain: "own",
  input: ["x", "z"],
  output: ["sum", "x"],
  node: [
    call("Leaky", ["x"], ["inside"], { attribute: [{ name: "slope", type: 1, f: 0.5 }] }),
    { opType: "Add", input: ["inside", "z"], output: ["sum"] },
  ],
};

describe("functions of a file's own", () => {
  it("are replaced by their nodes", () => {
    const bytes = model(
      [
        call("Pair", ["a", "b"], ["s", "p"], { name: "first" }),
        call("Pair", ["s", "p"], ["y"], { name: "second" }),
      ],
      [LEAKY, PAIR],
    );
    const { graph, inlined } = decodeOnnx(bytes, { subject: "m.onnx" });
    expect(inlined).toBe(4);
    expect(graph.nodes.map(({ opType, inputs, outputs }) => [opType, inputs, outputs])).toEqual([
      ["LeakyRelu", ["a"], ["first/1/inside"]],
      ["Add", ["first/1/inside", "b"], ["s"]],
      ["Identity", ["a"], ["p"]],
      ["LeakyRelu", ["s"], ["second/3/inside"]],
      ["Add", ["second/3/inside", "p"], ["y"]],
    ]);
    expect(graph.nodes[0]?.attributes.get("alpha")).toEqual({ type: "float", value: 0.5 });
  });

  it("give no two nodes the same name", () => {
    const relu = { opType: "Relu", input: ["x"], output: ["positive"] };
    const half = { opType: "Neg", input: ["positive"], output: ["t"] };
    const calls = [call("Two", ["a"], ["u"], { name: "first" }), call("Two", ["u"], ["y"])];
    const namesOf = (node: Nodes): readonly string[] => {
      const two = { name: "Two", domain: "own", input: ["x"], output: ["t"], node };
      return decodeOnnx(model(calls, [two]), { subject: "m.onnx" }).graph.nodes.map(({ name }) => name);
    };
    expect(namesOf([relu, half])).toEqual(["", "", "", ""]);
    expect(namesOf([{ ...relu, name: "r" }, half])).toEqual(["first/1/r", "", "y/2/r", ""]);
  });

  it("are replaced in branches, and branches in them get the call's names", () => {
    const choose = {
      name: "Choose",
      domain: "own",
      input: ["x", "yes"],
      output: ["r"],
      attribute: ["slope"],
      node: [
        { opType: "Relu", input: ["x"], output: ["inside"] },
        {
          opType: "If",
          input: ["yes"],
          output: ["r"],
          attribute: [
            {
              name: "then_branch",
              type: 5,
              g: {
                name: "then",
                node: [
                  call("Leaky", ["inside"], ["t"], {
                    attribute: [{ name: "slope", type: 1, refAttrName: "slope" }],
                  }),
                ],
                output: [{ name: "t" }],
              },
            },
            {
              name: "else_branch",
              type: 5,
              g: {
                name: "else",
                node: [{ opType: "Add", input: ["x", "c"], output: ["e"] }],
                initializer: [{ name: "c", dataType: 1, dims: [1], floatData: [2] }],
                output: [{ name: "e" }],
              },
            },
          ],
        },
      ],
    };
    const bytes = model(
      [call("Choose", ["a", "b"], ["y"], { name: "n", attribute: [{ name: "slope", type: 1, f: 0.25 }] })],
      [LEAKY, choose],
    );
    const { graph, inlined } = decodeOnnx(bytes, { subject: "m.onnx" });
    expect(inlined).toBe(2);
    const branch = graph.nodes.find(({ opType }) => opType === "If");
    expect(branch?.inputs).toEqual(["b"]);
    const [yes, no] = ["then_branch", "else_branch"].map((name) => branch?.attributes.get(name)?.value);
    expect(yes).toMatchObject({
      nodes: [
        {
          opType: "LeakyRelu",
          inputs: ["n/1/inside"],
          outputs: ["n/1/t"],
          attributes: new Map([["alpha", { type: "float", value: 0.25 }]]),
        },
      ],
      outputs: [{ name: "n/1/t" }],
    });
    expect(no).toMatchObject({
      nodes: [{ opType: "Add", inputs: ["a", "n/1/c"], outputs: ["n/1/e"] }],
      outputs: [{ name: "n/1/e" }],
      initializers: new Map([["n/1/c", { dtype: "float32", shape: [1], data: Float32Array.of(2) }]]),
    });
  });

  it("omit an attribute that the call omits", () => {
    const { graph } = decodeOnnx(model([call("Leaky", ["a"], ["y"])], [LEAKY]), { subject: "m.onnx" });
    expect(graph.nodes[0]?.attributes.size).toBe(0);
  });

  it.each([
    ["calls itself", [{ ...LEAKY, node: [call("Leaky", ["x"], ["t"])] }], "functions nested"],
    [
      "stands for too many nodes",
      Array.from({ length: 25 }, (_, at) => ({
        name: at === 0 ? "Leaky" : `F${at}`,
        domain: "own",
        input: ["x"],
        output: ["t"],
        node:
          at === 24
            ? [{ opType: "Relu", input: ["x"], output: ["t"] }]
            : [call(`F${at + 1}`, ["x"], ["u"]), call(`F${at + 1}`, ["u"], ["t"])],
      })),
      "too many",
    ],
  ])("are refused where one %s", (_, functions, found) => {
    const bytes = model([call("Leaky", ["a"], ["y"])], functions);
    expect(() => decodeOnnx(bytes, { subject: "m.onnx" })).toThrow(found);
  });
});
