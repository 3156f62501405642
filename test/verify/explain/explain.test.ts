import { expect, it } from "vitest";
import type { OnnxAttribute, OnnxModel, OnnxNode } from "../../../src/convert/formats/onnx/model.js";
import type { Cause } from "../../../src/verify/explain/index.js";
import { openVerification } from "../../../src/verify/open.js";
import type { Fault } from "../../../src/verify/outcome/report.js";
import { verify } from "../../../src/verify/verify.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { convert, openReference, rewriteOnnx, withTensor } from "../../support/osnet.js";

const FAMILIES = {
  osnet: tinyCheckpoint("block"),
  ain: tinyCheckpoint("ain block"),
};

type Change = (model: OnnxModel) => OnnxModel;

function node(output: string, change: (node: OnnxNode) => OnnxNode): Change {
  return (model) => {
    const nodes = model.graph.nodes.map((each) => (each.outputs.includes(output) ? change(each) : each));
    return { ...model, graph: { ...model.graph, nodes } };
  };
}

function attribute(output: string, name: string, value: OnnxAttribute): Change {
  return node(output, (each) => ({ ...each, attributes: new Map([...each.attributes, [name, value]]) }));
}

function operator(output: string, opType: string): Change {
  return node(output, (each) => ({ ...each, opType }));
}

function reading(output: string, from: string, to: string): Change {
  return node(output, (each) => ({
    ...each,
    inputs: each.inputs.map((name) => (name === from ? to : name)),
  }));
}

function weights(name: string, change: (value: number, index: number, all: Float32Array) => number): Change {
  return (model) => {
    const initializers = withTensor(model.graph.initializers, name, (tensor) => {
      const values = Float32Array.from(tensor.data as Float32Array);
      return { dtype: "float32", shape: tensor.shape, data: values.map(change) };
    });
    return { ...model, graph: { ...model.graph, initializers } };
  };
}

const epsilon = (value: number): OnnxAttribute => ({ type: "float", value });

/** One thing changed in a file, the layer that must be named for it, and what must be found out about it. */
const FAULTS: readonly [
  name: string,
  family: keyof typeof FAMILIES,
  fold: boolean,
  change: Change,
  layer: string,
  cause: Cause,
  says: RegExp,
][] = [
  [
    "an instance norm of ε 1e-4",
    "ain",
    false,
    attribute("conv2.0.IN", "epsilon", epsilon(1e-4)),
    "conv2.0.IN",
    "epsilon",
    /ε is 1e-4, not 1e-5/,
  ],
  [
    "an instance norm of ε 1e-6",
    "ain",
    false,
    attribute("conv2.0.IN", "epsilon", epsilon(1e-6)),
    "conv2.0.IN",
    "epsilon",
    /ε is 1e-6/,
  ],
  [
    "an instance norm of an ε that nobody uses",
    "ain",
    false,
    attribute("conv2.0.IN", "epsilon", epsilon(0.03)),
    "conv2.0.IN",
    "epsilon",
    /ε is 3e-2/,
  ],
  [
    "a batch norm of ε 1e-3",
    "osnet",
    false,
    attribute("conv2.0.conv2b.0.bn", "epsilon", epsilon(1e-3)),
    "conv2.0.conv2b.0.bn",
    "epsilon",
    /ε is 1e-3/,
  ],
  [
    "a batch norm left out",
    "osnet",
    false,
    node("conv2.0.conv2b.0.bn", (each) => ({
      ...each,
      opType: "Identity",
      attributes: new Map(),
      inputs: each.inputs.slice(0, 1),
    })),
    "conv2.0.conv2b.0.bn",
    "batch-norm-missing",
    /is missing/,
  ],
  [
    "a ReLU for a sigmoid",
    "osnet",
    true,
    operator("conv2.0.gate[1].gate_activation", "Relu"),
    "conv2.0.gate[1].gate_activation",
    "sigmoid-missing",
    /a ReLU on these values/,
  ],
  [
    "the gate of a later stream",
    "osnet",
    true,
    reading("conv2.0.gate[1]", "conv2.0.gate[1].gate_activation", "conv2.0.gate[3].gate_activation"),
    "conv2.0.gate[1]",
    "gates-crossed",
    /stream 3's gate/,
  ],
  [
    "the gate of an earlier stream",
    "osnet",
    true,
    reading("conv2.0.gate[3]", "conv2.0.gate[3].gate_activation", "conv2.0.gate[1].gate_activation"),
    "conv2.0.gate[3]",
    "gates-crossed",
    /stream 1's gate/,
  ],
  [
    "another stream's values",
    "osnet",
    true,
    node("conv2.0.gate[2]", (each) => ({
      ...each,
      inputs: ["conv2.0.conv2a.relu", ...each.inputs.slice(1)],
    })),
    "conv2.0.gate[2]",
    "streams-exchanged",
    /applied to stream 1/,
  ],
  [
    "a hard sigmoid",
    "osnet",
    true,
    operator("conv2.0.gate[3].gate_activation", "HardSigmoid"),
    "conv2.0.gate[3].gate_activation",
    "hard-sigmoid",
    /slope 1\/5/,
  ],
  [
    "no sigmoid",
    "osnet",
    true,
    operator("conv2.0.gate[3].gate_activation", "Identity"),
    "conv2.0.gate[3].gate_activation",
    "sigmoid-missing",
    /missing/,
  ],
  [
    "a gate by the maximum",
    "osnet",
    true,
    operator("conv2.0.gate[3].global_avgpool", "ReduceMax"),
    "conv2.0.gate[3].global_avgpool",
    "pooling",
    /maximum/,
  ],
  [
    "TensorFlow's SAME in the max-pool",
    "osnet",
    true,
    attribute("maxpool", "pads", { type: "ints", value: [0, 0, 1, 1] }),
    "maxpool",
    "same-padding",
    /one less before/,
  ],
  [
    "TensorFlow's SAME in the stem",
    "osnet",
    false,
    attribute("conv1.conv", "pads", { type: "ints", value: [2, 2, 3, 3] }),
    "conv1.conv",
    "same-padding",
    /one less before/,
  ],
  [
    "no ReLU",
    "osnet",
    false,
    operator("conv2.0.conv2c.1.relu", "Identity"),
    "conv2.0.conv2c.1.relu",
    "relu-missing",
    /missing/,
  ],
  [
    "weights shifted by one",
    "osnet",
    false,
    weights("conv2.0.conv2b.0.conv2.weight", (_, i, all) => all[(i + 1) % all.length] ?? 0),
    "conv2.0.conv2b.0.conv2",
    "bytes-shifted",
    /one element/,
  ],
  [
    "kernels transposed",
    "osnet",
    false,
    weights(
      "conv2.0.conv2b.0.conv2.weight",
      (_, i, all) => all[i - (i % 9) + (i % 3) * 3 + Math.floor((i % 9) / 3)] ?? 0,
    ),
    "conv2.0.conv2b.0.conv2",
    "kernel-transposed",
    /height and width/,
  ],
  [
    "a residual subtracted",
    "osnet",
    false,
    operator("conv2.0.add", "Sub"),
    "conv2.0.add",
    "terms-weighted",
    /conv2\.0\.downsample\.bn is subtracted, not added/,
  ],
  ["an ELU at the end", "osnet", false, operator("fc.2", "Elu"), "fc.2", "relu-other", /it is an ELU/],
  [
    "a bias off by 0.001",
    "osnet",
    false,
    weights("conv2.0.gate.fc2.bias", (value, i) => (i === 3 ? value + 0.001 : value)),
    "conv2.0.gate[1].fc2",
    "bias",
    /0\.00100 in channel 3/,
  ],
  [
    "one weight off by 1 %",
    "osnet",
    false,
    weights("conv2.0.conv1.conv.weight", (value, i) => (i === 7 ? value * 1.01 : value)),
    "conv2.0.conv1.conv",
    "weights-other",
    /\[0, 7, 0, 0\]/,
  ],
  [
    "weights of 8 significant bits",
    "osnet",
    true,
    weights("conv2.0.conv1.bn.folded.weight", (value) => bfloat16(value)),
    "conv2.0.conv1.bn",
    "weights-rounded",
    /bfloat16/,
  ],
];

/** To nearest, ties away from zero: none are here. */
function bfloat16(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer);
  bits[0] = ((bits[0] ?? 0) + 0x8000) & 0xffff0000;
  return new Float32Array(bits.buffer)[0] ?? 0;
}

it.each(FAULTS)("%s is found by its values alone", async (_, family, fold, change, layer, cause, says) => {
  const checkpoint = FAMILIES[family];
  const bytes = rewriteOnnx(convert(checkpoint, { fold }), change);
  const file = openReference(checkpoint);
  // Without the constants and the structure, which would give most of them away.
  const { weights: _constants, candidate, ...rest } = await openVerification({ name: "m.onnx", bytes }, file);
  const { structure: _structure, ...blind } = candidate;
  const { passed, faults } = await verify({ ...rest, candidate: blind });
  expect(passed).toBe(false);
  const [first] = faults as [Fault];
  expect(first).toMatchObject({ layer, kind: "numeric", cause });
  expect(first.explanation).toMatch(says);
  expect(first.explanation).toMatch(
    /: recomputed this way, the error falls (from \d[\d.]{0,12} )?to [\d.e-]+ times the bound$/,
  );
});

/** A ReLU that is off by less than any other function would be. */
const HARDLY: readonly [name: string, change: Change][] = [
  ["a least value of 1e-30", (model) => withLeast(operator("conv1.relu", "Max")(model))],
  [
    "a slope of 1e-7",
    (model) => attribute("conv1.relu", "alpha", epsilon(1e-7))(operator("conv1.relu", "LeakyRelu")(model)),
  ],
];

function withLeast(model: OnnxModel): OnnxModel {
  const least = { dtype: "float32", shape: [], data: Float32Array.of(1e-30) } as const;
  const reads = node("conv1.relu", (each) => ({ ...each, inputs: [...each.inputs, "least"] }))(model);
  const initializers = new Map([...model.graph.initializers, ["least", least] as const]);
  return { ...reads, graph: { ...reads.graph, initializers } };
}

it.each(HARDLY)("%s is not called another activation", async (_, change) => {
  const checkpoint = FAMILIES.osnet;
  const bytes = rewriteOnnx(convert(checkpoint, { fold: false }), change);
  const file = openReference(checkpoint);
  const { passed, faults } = await verify(await openVerification({ name: "m.onnx", bytes }, file));
  expect(passed).toBe(false);
  expect(faults[0]?.layer).toBe("conv1.relu");
  expect(faults[0]?.explanation).not.toMatch(/clipped|leaky|Mish|softplus|ELU/);
});
