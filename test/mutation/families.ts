import { type BlockSpec, expand, type OsnetSpec, outputShapes } from "../../src/arch/index.js";
import { encodeSafetensors } from "../../src/convert/formats/safetensors.js";
import { type Checkpoint, openCheckpoint } from "../../src/convert/open/checkpoint.js";
import { seededStateDict } from "../../src/convert/seeded-weights.js";
import { elementCount, type StateDict } from "../../src/core/tensor.js";
import type { Network } from "./network.js";

/** Small networks of every kind, at which a whole verification takes milliseconds. */
export type TinyFamily = "osnet" | "ibn" | "ain" | "nas" | "attribute";

export const TINY_FAMILIES: readonly TinyFamily[] = ["osnet", "ibn", "ain", "nas", "attribute"];

/** The same networks of one block: for what does not depend on how many there are, in half the time. */
export type OneBlock = "block" | "ibn block" | "ain block" | "attribute block" | "nas block";

export const ONE_BLOCK: Readonly<Record<TinyFamily, OneBlock>> = {
  osnet: "block",
  ibn: "ibn block",
  ain: "ain block",
  attribute: "attribute block",
  nas: "nas block",
};

export type TinyNetwork = TinyFamily | OneBlock;

const STEM = 8;
const WIDTHS = [32, 48] as const;

/** Two blocks of three streams, whose gates have weights of the same shapes, and one of two. */
function tinySpec(network: TinyNetwork): OsnetSpec {
  const ofOneBlock = TINY_FAMILIES.find((each) => ONE_BLOCK[each] === network);
  const family = ofOneBlock ?? network;
  const placement = (first: boolean): BlockSpec["instanceNorm"] =>
    family === "ain"
      ? "inside"
      : family === "ibn"
        ? first
          ? "outside"
          : "none"
        : family === "nas"
          ? "both"
          : "none";
  const block = (inChannels: number, outChannels: number, streams: number, first: boolean): BlockSpec => ({
    inChannels,
    outChannels,
    streams,
    reduction: 4,
    instanceNorm: placement(first),
  });
  const isAttribute = family === "attribute";
  const first = block(STEM, WIDTHS[0], 3, true);
  return {
    dialect: family === "ain" ? "osnet_ain" : "osnet",
    stem: { channels: STEM, norm: family === "ibn" || family === "ain" ? "instance" : "batch" },
    stages: ofOneBlock
      ? [{ blocks: [first], transition: true }]
      : [
          { blocks: [first, block(WIDTHS[0], WIDTHS[0], 3, true)], transition: true },
          { blocks: [block(WIDTHS[0], WIDTHS[1], 2, false)], transition: false },
        ],
    gate: { reduction: 2, activation: "sigmoid", layerNorm: family === "nas" },
    pooling: isAttribute ? "max" : "avg",
    embedding: [24],
    head: { classes: 6, loss: isAttribute ? "sigmoid" : "softmax" },
  };
}

const checkpoints = new Map<TinyNetwork, Checkpoint>();

const SEEDS: readonly TinyNetwork[] = [...TINY_FAMILIES, ...Object.values(ONE_BLOCK)];

/** A small network of seeded weights, as a checkpoint that has been read: once, if its weights are not changed. */
export function tinyCheckpoint(family: TinyNetwork, change?: (weights: StateDict) => StateDict): Checkpoint {
  const checkpoint = (change ? undefined : checkpoints.get(family)) ?? writtenAndRead(family, change);
  if (!change) checkpoints.set(family, checkpoint);
  return checkpoint;
}

function writtenAndRead(
  family: TinyNetwork,
  change: (weights: StateDict) => StateDict = (weights) => weights,
): Checkpoint {
  const spec = tinySpec(family);
  const weights = change(seededStateDict(expand(spec), SEEDS.indexOf(family) + 1));
  const subject = `${family}.safetensors`;
  return openCheckpoint(encodeSafetensors(weights, { subject }), { subject, arch: spec });
}

/** What the small networks are run on: no layer's output is as high as it is wide. */
export const IMAGES = { batch: 2, height: 64, width: 32 } as const;

/** Elements of one channel of a layer's output, on such images. */
export function planeOf({ graph }: Network, layer: string): number {
  const { batch, height, width } = IMAGES;
  return elementCount((outputShapes(graph, [batch, 3, height, width]).get(layer) ?? []).slice(2));
}
