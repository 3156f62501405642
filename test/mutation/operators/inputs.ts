import { INPUT_NAME } from "../../../src/arch/index.js";
import { IMAGENET } from "../../../src/convert/export/options.js";
import { ints, type OnnxNode, onnxNode } from "../../../src/convert/formats/onnx/model.js";
import type { Tensor } from "../../../src/core/tensor.js";
import { IMAGES } from "../families.js";
import type { Mutation, Operator } from "../mutation.js";
import { fedBy, wholes } from "../onnx-edits.js";
import { channelOf, first, mapped } from "../tensors.js";

const STEM = "conv1.conv";
const FED = "images.fed";
const WHITE = 255;

interface Feed {
  readonly operator: string;
  readonly cause: Mutation["causes"][number];
  /** What is read in place of each value. */
  readonly value: (data: Tensor["data"], index: number, channel: number, plane: number) => number;
  readonly nodes: readonly OnnxNode[];
  readonly constants?: Readonly<Record<string, Tensor>>;
}

/** Normalised values as multiples of themselves and a shift, by channel. */
function affine(
  operator: string,
  scale: (channel: number) => number,
  shift: (channel: number) => number,
  cause: Feed["cause"] = "not-normalised",
): Feed {
  const column = (of: (channel: number) => number): Tensor<"float32"> => ({
    dtype: "float32",
    shape: [1, 3, 1, 1],
    data: Float32Array.from([0, 1, 2], of),
  });
  return {
    operator,
    cause,
    value: (data, i, channel) => Number(data[i]) * scale(channel) + shift(channel),
    nodes: [
      onnxNode("images.scaled", "Mul", [INPUT_NAME, "images.scale"]),
      onnxNode(FED, "Add", ["images.scaled", "images.shift"]),
    ],
    constants: { "images.scale": column(scale), "images.shift": column(shift) },
  };
}

const mean = (channel: number): number => IMAGENET.mean[channel] ?? 0;
const deviation = (channel: number): number => IMAGENET.deviation[channel] ?? 1;

const FEEDS: readonly Feed[] = [
  {
    operator: "input BGR",
    cause: "bgr",
    value: (data, i, channel, plane) => Number(data[i + (2 - 2 * channel) * plane]),
    nodes: [onnxNode(FED, "Gather", [INPUT_NAME, "images.order"], { axis: { type: "int", value: 1 } })],
    constants: { "images.order": wholes(2, 1, 0) },
  },
  affine("input from 0 to 1", deviation, mean),
  affine(
    "input from 0 to 255",
    (c) => WHITE * deviation(c),
    (c) => WHITE * mean(c),
  ),
  affine(
    "input normalised twice",
    (c) => 1 / deviation(c),
    (c) => -mean(c) / deviation(c),
  ),
  affine(
    "input × 2",
    () => 2,
    () => 0,
    "scaled",
  ),
  {
    operator: "input NHWC read as NCHW",
    cause: "layout",
    value: (data, i, _, plane) => {
      const image = i - (i % (3 * plane));
      const inside = i - image;
      return Number(data[image + (inside % 3) * plane + Math.floor(inside / 3)]);
    },
    nodes: [
      onnxNode("images.moved", "Transpose", [INPUT_NAME], { perm: ints(0, 2, 3, 1) }),
      onnxNode(FED, "Reshape", ["images.moved", "images.shape"]),
    ],
    constants: { "images.shape": wholes(0, 3, IMAGES.height, IMAGES.width) },
  },
];

/** Images that are not what the network was trained on. */
export const inputs: Operator = (network) =>
  FEEDS.map(({ operator, cause, value, nodes, constants }): Mutation => {
    return {
      operator,
      says: operator,
      // Found by structure, it is the input itself.
      layers: [STEM, INPUT_NAME],
      causes: [cause],
      kinds: ["structure", "numeric"],
      named: true,
      network: {
        ...network,
        instead: new Map([
          [
            STEM,
            (read, own) => {
              const images = first(read);
              const channel = channelOf(images);
              const plane = images.data.length / (images.shape[0] ?? 1) / 3;
              return own([mapped(images, (_, i) => value(images.data, i, channel(i), plane))]);
            },
          ],
        ]),
      },
      onnx: fedBy(nodes, FED, constants),
    };
  });
