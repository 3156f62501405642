import { INPUT_NAME, type LayerNode } from "../../arch/index.js";
import { type RealTensor, sameShape } from "../../core/tensor.js";
import { type Evidence, type Guess, type Hypothesis, mapped, type Step, trialOf } from "./hypothesis.js";

/** Hypotheses about layers that read the wrong values. */
export const guessWiring: Guess = (step, evidence) => {
  const { kind } = step.node.op;
  if (step.node.inputs[0] === INPUT_NAME) return images(step, evidence);
  if (kind === "scale") return gates(step, evidence);
  if (kind === "add") return sums(step, evidence);
  if (kind === "flatten") return flattenings(step);
  return otherSources(step, evidence);
};

/** ImageNet statistics, RGB. */
const MEAN = [0.485, 0.456, 0.406];
const DEVIATION = [0.229, 0.224, 0.225];

/** Inputs that the first layer may have read instead of the images. */
function images(step: Step, evidence: Evidence): Hypothesis[] {
  const { inputs, compute } = step;
  const [input] = inputs;
  if (!input) return [];
  const trial = trialOf(step, evidence);
  const [, channels = 3, height = 1, width = 1] = input.shape;
  const plane = height * width;
  const channelOf = (i: number): number => Math.floor(i / plane) % channels;
  const fed = (
    cause: Hypothesis["cause"],
    says: string,
    f: (value: number, i: number) => number,
  ): Hypothesis => ({
    cause,
    says,
    plausible: () => trial({ input: mapped(input, f) }),
    output: () => compute({ inputs: [mapped(input, f)] }),
  });
  const raw = (x: number, i: number): number =>
    x * (DEVIATION[channelOf(i)] ?? 1) + (MEAN[channelOf(i)] ?? 0);
  return [
    fed(
      "bgr",
      "red and blue are swapped",
      (_, i) => input.data[i + (2 - 2 * channelOf(i)) * plane] as number,
    ),
    fed(
      "not-normalised",
      "the images are normalised twice",
      (x, i) => (x - (MEAN[channelOf(i)] ?? 0)) / (DEVIATION[channelOf(i)] ?? 1),
    ),
    fed("not-normalised", "the images' normalisation is undone: pixels from 0 to 1 are read", raw),
    fed(
      "not-normalised",
      "the images' normalisation is undone: pixels from 0 to 255 are read",
      (x, i) => 255 * raw(x, i),
    ),
    fed("layout", "images [height, width, channel] are read as [channel, height, width]", (_, i) => {
      const image = Math.floor(i / (channels * plane)) * channels * plane;
      const inside = i - image;
      return input.data[image + (inside % channels) * plane + Math.floor(inside / channels)] as number;
    }),
  ];
}

/** Other ways to combine two values. */
const COMBINED: readonly (readonly [says: string, combine: (stream: number, gate: number) => number])[] = [
  ["the gate is added to the stream", (x, gate) => x + gate],
  ["the stream and its gate are averaged", (x, gate) => (x + gate) / 2],
  ["the larger of the stream and its gate is taken", Math.max],
  ["the smaller of the stream and its gate is taken", Math.min],
];

/** A stream's gate is missing, or another stream's, computed from this stream or another. */
function gates({ node, inputs, compute }: Step, evidence: Evidence): Hypothesis[] {
  const [stream, gate] = inputs;
  if (!stream || !gate) return [];
  const plane = stream.data.length / gate.data.length;
  const scales = evidence.graph.nodes.filter(({ op, block }) => op.kind === "scale" && block === node.block);
  const others = scales.filter(({ name }) => name !== node.name);
  const named = (other: LayerNode, which: 0 | 1): RealTensor | undefined =>
    evidence.nearby.get(other.inputs[which] ?? "");
  return [
    { cause: "gate-missing", says: "the stream is not gated", output: () => mapped(stream, (x) => x) },
    {
      cause: "gate-missing",
      says: "the gate is applied twice",
      output: () => compute({ inputs: [compute(), gate] }),
    },
    {
      cause: "gate-missing",
      says: "the stream is added to its gated output",
      output: () => {
        const gated = compute().data.slice();
        return mapped(stream, (x, i) => x + (gated[i] as number));
      },
    },
    ...COMBINED.map(([says, combine]) => ({
      cause: "gate-other" as const,
      says,
      output: () => mapped(stream, (x, i) => combine(x, gate.data[Math.floor(i / plane)] as number)),
    })),
    ...others.map((other) => ({
      cause: "gates-crossed" as const,
      says: `the stream is gated by stream ${other.stream}'s gate`,
      output: () => {
        const its = named(other, 1);
        return its && compute({ inputs: [stream, its] });
      },
    })),
    ...others.map((other) => ({
      cause: "streams-exchanged" as const,
      says: `the gate is applied to stream ${other.stream}`,
      output: () => {
        const its = named(other, 0);
        return its && compute({ inputs: [its, gate] });
      },
    })),
    ...others.map((other) => ({
      cause: "streams-exchanged" as const,
      says: `the values are those of stream ${other.stream}`,
      output: () => {
        const [values, its] = [named(other, 0), named(other, 1)];
        return values && its && compute({ inputs: [values, its] });
      },
    })),
  ];
}

/** A pooled map was flattened with its axes exchanged. */
function flattenings({ inputs: [input], shape }: Step): Hypothesis[] {
  if (!input) return [];
  const [images = 1, channels = 1] = shape;
  return [
    {
      cause: "layout",
      says: "images and channels are swapped: the maps are read channel by channel",
      output: () =>
        mapped(
          { ...input, shape },
          (_, i) => input.data[(i % images) * channels + Math.floor(i / images)] as number,
        ),
    },
  ];
}

/** A sum with a term missing or twice, and an instance norm on the wrong side of a block's residual sum. */
function sums(step: Step, evidence: Evidence): Hypothesis[] {
  const { node, inputs, compute } = step;
  const weighted =
    (weights: readonly number[]): Hypothesis["output"] =>
    () =>
      compute({ inputs: inputs.map((input, i) => mapped(input, (x) => x * (weights[i] ?? 1))) });
  const terms = node.inputs.map((name, term): readonly Hypothesis[] => [
    {
      cause: "term-missing",
      says: `${name} is missing from the sum`,
      output: weighted(inputs.map((_, i) => (i === term ? 0 : 1))),
    },
    ...inputs.flatMap((_, other): Hypothesis[] =>
      other === term
        ? []
        : [
            {
              cause: "streams-exchanged",
              says: `${name} is added twice, and ${node.inputs[other]} not at all`,
              output: weighted(inputs.map((_, i) => (i === term ? 2 : i === other ? 0 : 1))),
            },
          ],
    ),
  ]);
  return [
    ...combined(step),
    ...terms.flat(),
    ...bypassedNorms(step, evidence),
    ...misplacedNorms(step, evidence),
  ];
}

/** The right terms, combined differently. */
function combined({ node, inputs, compute }: Step): Hypothesis[] {
  const weighted =
    (weights: readonly number[]): Hypothesis["output"] =>
    () =>
      compute({ inputs: inputs.map((input, i) => mapped(input, (x) => x * (weights[i] ?? 1))) });
  const folded =
    (f: (a: number, b: number) => number): Hypothesis["output"] =>
    () => {
      const [first, ...others] = inputs;
      return first && mapped(first, (x, i) => others.reduce((y, { data }) => f(y, data[i] as number), x));
    };
  const even = 1 / inputs.length;
  return [
    {
      cause: "terms-weighted",
      says: `the ${inputs.length} terms are averaged, not summed`,
      output: weighted(inputs.map(() => even)),
    },
    ...node.inputs.map(
      (name, term): Hypothesis => ({
        cause: "terms-weighted",
        says: `${name} is subtracted, not added`,
        output: weighted(inputs.map((_, i) => (i === term ? -1 : 1))),
      }),
    ),
    {
      cause: "terms-weighted",
      says: "the maximum of the terms is taken, not their sum",
      output: folded(Math.max),
    },
    { cause: "terms-weighted", says: "the terms are multiplied", output: folded((a, b) => a * b) },
  ];
}

/** The input of an instance norm was added instead of its output. */
function bypassedNorms({ node, inputs, compute }: Step, { graph, nearby }: Evidence): Hypothesis[] {
  return node.inputs.flatMap((name, term): Hypothesis[] => {
    const norm = graph.nodes.find((each) => each.name === name && each.op.kind === "instanceNorm");
    const source = nearby.get(norm?.inputs[0] ?? "");
    if (!source) return [];
    return [
      {
        cause: "instance-norm-misplaced",
        says: `${norm?.inputs[0]} is added instead of ${name}`,
        output: () => compute({ inputs: inputs.map((input, i) => (i === term ? source : input)) }),
      },
    ];
  });
}

function misplacedNorms({ node, inputs, compute }: Step, evidence: Evidence): Hypothesis[] {
  const { nodes } = evidence.graph;
  const norms = nodes.filter(
    ({ op, inputs: [source], name, block }) =>
      op.kind === "instanceNorm" &&
      (source === node.name || (block === node.block && node.inputs.includes(name))),
  );
  return norms.flatMap((norm): Hypothesis[] => {
    const apply = (input: RealTensor): RealTensor => {
      const result = compute({ node: norm, inputs: [input] });
      return { ...result, data: result.data.slice() };
    };
    const [main, ...rest] = inputs;
    if (!main) return [];
    const says = `${norm.name} normalises the other operand of the sum`;
    return norm.inputs[0] === node.name
      ? inputs.map((input, which) => ({
          cause: "instance-norm-misplaced",
          says,
          output: () => compute({ inputs: inputs.map((each, i) => (i === which ? apply(input) : each)) }),
        }))
      : [
          {
            cause: "instance-norm-misplaced",
            says,
            output: () => compute({ node: norm, inputs: [compute()] }),
          },
          ...(rest.length > 0
            ? [
                {
                  cause: "instance-norm-misplaced" as const,
                  says: `${norm.name} is applied after the sum as well`,
                  output: () => compute({ node: norm, inputs: [compute()] }),
                },
              ]
            : []),
        ];
  });
}

/** Any other value of the block, or the input's own input, if it has the input's shape. */
function otherSources(step: Step, evidence: Evidence): Hypothesis[] {
  const { node, inputs, compute } = step;
  const { nearby, graph } = evidence;
  const [input] = inputs;
  if (!input) return [];
  const trial = trialOf(step, evidence);
  const own = node.inputs[0];
  const nodes = new Map(graph.nodes.map((each) => [each.name, each]));
  const reads = (name: string): Hypothesis => {
    const tensor = nearby.get(name) ?? input;
    const stream = nodes.get(name)?.stream;
    const isBefore = nodes.get(own ?? "")?.inputs.includes(name);
    return {
      cause: isBefore ? "layer-bypassed" : "streams-exchanged",
      says: isBefore
        ? `it reads ${name}, and skips ${own}`
        : `it reads ${name}${stream === undefined ? "" : `, of stream ${stream}`}, not ${own}`,
      plausible: () => trial({ input: tensor }),
      output: () => compute({ inputs: [tensor] }),
    };
  };
  const others = [...nearby].filter(
    ([name, { shape }]) => name !== own && name !== node.name && sameShape(shape, input.shape),
  );
  return [
    ...others.map(([name]) => reads(name)),
    ...(node.op.kind === "instanceNorm"
      ? [
          {
            cause: "instance-norm-misplaced" as const,
            says: "nothing is normalised",
            output: () => mapped(input, (x) => x),
          },
        ]
      : []),
  ];
}
