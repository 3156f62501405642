import { expect, it } from "vitest";
import { lowerToOnnx } from "../../../src/convert/export/onnx.js";
import { int, onnxNode } from "../../../src/convert/formats/onnx/model.js";
import { matchGraph } from "../../../src/convert/import/match.js";
import { tinyCheckpoint } from "../../mutation/families.js";
import { fedBy, followed, scalar, wholes } from "../../mutation/onnx-edits.js";
import { SMALL } from "../../support/osnet.js";
import { anonymous } from "./graphs.js";

const MEAN = [0.485, 0.456, 0.406];
const DEVIATION = [0.229, 0.224, 0.225];

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

it.each([
  ["red, green and blue", [0, 1, 2], []],
  ["blue, green and red", [2, 1, 0], []],
  ["one channel twice", [0, 0, 2], ["Concat"]],
])("images that are normalised channel by channel are read: %s", (_, order, unknown) => {
  const { graph, stateDict } = tinyCheckpoint("block");
  const model = fedBy(
    [
      ...order.flatMap((channel, at) => [
        onnxNode(`slice.${at}`, "Slice", ["images", `from.${channel}`, `to.${channel}`, "axis"]),
        onnxNode(`centred.${at}`, "Sub", [`slice.${at}`, `mean.${at}`]),
        onnxNode(`scaled.${at}`, "Div", [`centred.${at}`, `deviation.${at}`]),
      ]),
      onnxNode("joined", "Concat", ["scaled.0", "scaled.1", "scaled.2"], { axis: int(1) }),
    ],
    "joined",
    Object.fromEntries([
      ["axis", wholes(1)],
      ...[0, 1, 2].flatMap((at) => [
        [`from.${at}`, wholes(at)] as const,
        [`to.${at}`, wholes(at + 1)] as const,
        [`mean.${at}`, scalar(MEAN[at] ?? 0)] as const,
        [`deviation.${at}`, scalar(DEVIATION[at] ?? 1)] as const,
      ]),
    ]),
  )(lowerToOnnx(graph, stateDict, { size: SMALL }));
  const { preprocess } = matchGraph(anonymous(model), { subject: "m", graph });
  expect(preprocess?.unknown.filter((name) => name === "Concat")).toEqual(unknown);
  if (unknown.length > 0) return;
  expect(preprocess?.order).toEqual(order);
  expect(preprocess?.scale.map((value) => 1 / value)).toEqual(
    DEVIATION.map((value) => expect.closeTo(value, 6)),
  );
  expect(preprocess?.shift).toEqual(MEAN.map((mean, at) => expect.closeTo(-mean / (DEVIATION[at] ?? 1), 5)));
});
