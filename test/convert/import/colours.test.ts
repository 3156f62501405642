import { describe, expect, it } from "vitest";
import { lowerToOnnx } from "../../../src/convert/export/onnx.js";
import {
  float,
  int,
  type OnnxModel,
  type OnnxNode,
  onnxNode,
} from "../../../src/convert/formats/onnx/model.js";
import { matchGraph } from "../../../src/convert/import/match.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { fedBy, floats, followed, scalar, wholes } from "../../mutation/onnx-edits.js";
import { SMALL } from "../../support/osnet.js";
import { anonymous } from "./graphs.js";

const MEAN = [0.485, 0.456, 0.406];
const DEVIATION = [0.229, 0.224, 0.225];

/** Channels with an axis of their own again. */
const STACKED = [0, 1, 2].map((at) => onnxNode(`scaled.${at}`, "Unsqueeze", [`plane.${at}`, "axis"]));

it("channels of other maps are no images", () => {
  const { graph, stateDict } = tinyCheckpoint("block");
  const edit = followed(
    "conv1.relu",
    (before) => [
      ...[0, 1, 2, 3, 4, 5, 6, 7].map((at) =>
        onnxNode(`slice.${at}`, "Slice", [before, `from.${at}`, `to.${at}`, "axis"]),
      ),
      onnxNode(
        "conv1.relu",
        "Concat",
        [0, 1, 2, 3, 4, 5, 6, 7].map((at) => `slice.${at}`),
        { axis: int(1) },
      ),
    ],
    Object.fromEntries([
      ["axis", wholes(1)],
      ...[0, 1, 2, 3, 4, 5, 6, 7].flatMap((at) => [
        [`from.${at}`, wholes(at)] as const,
        [`to.${at}`, wholes(at + 1)] as const,
      ]),
    ]),
  );
  const model = anonymous(edit(lowerToOnnx(graph, stateDict, { size: SMALL })));
  expect(matchGraph(model, { subject: "m", graph }).differences).not.toEqual([]);
});

/** Ways to take one channel of the images, and to join them again. */
const WAYS: Readonly<
  Record<string, { readonly take: (at: number) => readonly OnnxNode[]; readonly joins: readonly OnnxNode[] }>
> = {
  slices: {
    take: (at) => [onnxNode(`colour.${at}`, "Slice", ["images", `from.${at}`, `to.${at}`, "axis"])],
    joins: [],
  },
  "places without an axis, stacked": {
    take: (at) => [onnxNode(`colour.${at}`, "Gather", ["images", `place.${at}`], { axis: int(1) })],
    joins: STACKED,
  },
  "parts of a split": {
    take: (at) =>
      at > 0
        ? []
        : [
            {
              ...onnxNode("colours", "Split", ["images"], { axis: int(1) }),
              outputs: [0, 1, 2].map((c) => `colour.${c}`),
            },
          ],
    joins: [],
  },
  "parts of a split without their axis, stacked": {
    take: (at) => [
      ...(at > 0
        ? []
        : [
            {
              ...onnxNode("colours", "Split", ["images"], { axis: int(1) }),
              outputs: [0, 1, 2].map((c) => `part.${c}`),
            },
          ]),
      onnxNode(`colour.${at}`, "Squeeze", [`part.${at}`, "axis"]),
    ],
    joins: STACKED,
  },
};

/** Images that are normalised channel by channel, in this order, with these means. */
function normalised(way: string, order: readonly number[], mean: (channel: number) => Tensor): OnnxModel {
  const { graph, stateDict } = tinyCheckpoint("block");
  const { take, joins } = WAYS[way] ?? { take: () => [], joins: [] };
  const model = fedBy(
    [
      ...[0, 1, 2].flatMap(take),
      ...order.flatMap((channel, at) => [
        onnxNode(`centred.${at}`, "Sub", [`colour.${channel}`, `mean.${at}`]),
        onnxNode(joins.length > 0 ? `plane.${at}` : `scaled.${at}`, "Div", [
          `centred.${at}`,
          `deviation.${at}`,
        ]),
      ]),
      ...joins,
      onnxNode("joined", "Concat", ["scaled.0", "scaled.1", "scaled.2"], { axis: int(1) }),
    ],
    "joined",
    Object.fromEntries([
      ["axis", wholes(1)],
      ...[0, 1, 2].flatMap((at) => [
        [`place.${at}`, { ...wholes(at), shape: [] }] as const,
        [`from.${at}`, wholes(at)] as const,
        [`to.${at}`, wholes(at + 1)] as const,
        [`mean.${at}`, mean(at)] as const,
        [`deviation.${at}`, scalar(DEVIATION[at] ?? 1)] as const,
      ]),
    ]),
  )(lowerToOnnx(graph, stateDict, { size: SMALL }));
  return anonymous(model);
}

const means = (at: number): Tensor => scalar(MEAN[at] ?? 0);

describe.each(Object.keys(WAYS))("images that are normalised channel by channel are read: %s", (way) => {
  const { graph } = tinyCheckpoint("block");

  it.each([
    ["red, green and blue", [0, 1, 2]],
    ["blue, green and red", [2, 1, 0]],
  ])("%s", (_, order) => {
    const { preprocess } = matchGraph(normalised(way, order, means), { subject: "m", graph });
    expect(preprocess?.unknown).toEqual([]);
    expect(preprocess?.order).toEqual(order);
    expect(preprocess?.scale.map((value) => 1 / value)).toEqual(
      DEVIATION.map((value) => expect.closeTo(value, 6)),
    );
    expect(preprocess?.shift).toEqual(
      MEAN.map((mean, at) => expect.closeTo(-mean / (DEVIATION[at] ?? 1), 5)),
    );
  });

  it.each<readonly [string, readonly number[], (at: number) => Tensor]>([
    ["one channel twice", [0, 0, 2], means],
    ["a mean for each column", [0, 1, 2], () => floats(...Array.from({ length: SMALL.width }, (_, i) => i))],
  ])("%s is not", (_, order, mean) => {
    const { differences } = matchGraph(normalised(way, order, mean), { subject: "m", graph });
    expect(differences).toMatchObject([{ layer: "images" }]);
  });
});

it("images that a batch norm normalises are read", () => {
  const { graph, stateDict } = tinyCheckpoint("block");
  const edit = fedBy(
    [
      onnxNode("normed", "BatchNormalization", ["images", "one", "zero", "mean", "variance"], {
        epsilon: float(0),
      }),
    ],
    "normed",
    {
      one: floats(1, 1, 1),
      zero: floats(0, 0, 0),
      mean: floats(...MEAN),
      variance: floats(...DEVIATION.map((value) => value ** 2)),
    },
  );
  const { differences, preprocess } = matchGraph(
    anonymous(edit(lowerToOnnx(graph, stateDict, { size: SMALL }))),
    { subject: "m", graph },
  );
  expect(differences).toEqual([]);
  expect(preprocess?.shift).toEqual(MEAN.map((mean, at) => expect.closeTo(-mean / (DEVIATION[at] ?? 1), 5)));
});

it.each([
  [1, ["l2Normalize"]],
  [0, undefined],
])("a division by lengths with an axis added at %i", (axis, kinds) => {
  const { graph, stateDict } = tinyCheckpoint("block");
  const edit = followed(
    "features",
    (v) => [
      onnxNode("squares", "Mul", [v, v]),
      onnxNode("sum", "ReduceSum", ["squares", "channels"], { keepdims: int(0) }),
      onnxNode("length", "Sqrt", ["sum"]),
      onnxNode("lengths", "Unsqueeze", ["length", "axis"]),
      onnxNode("features", "Div", [v, "lengths"]),
    ],
    { channels: wholes(1), axis: wholes(axis) },
  );
  const model = anonymous(edit(lowerToOnnx(graph, stateDict, { size: SMALL })));
  const [output] = matchGraph(model, { subject: "m", graph }).outputs;
  expect(output?.operations?.map(({ kind }) => kind)).toEqual(kinds);
});
