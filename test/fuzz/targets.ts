import { isDeepStrictEqual } from "node:util";
import { expand, parametersOf, parseSpec, variant } from "../../src/arch/index.js";
import { decodeNpy, openNpz } from "../../src/convert/formats/npz.js";
import { decodeOnnx } from "../../src/convert/formats/onnx/decode.js";
import { decodePth } from "../../src/convert/formats/pth/decode.js";
import { zerosForAbsent } from "../../src/convert/formats/refusals.js";
import { decodeSafetensors } from "../../src/convert/formats/safetensors.js";
import { decodeTfjs, tfjsShardPaths } from "../../src/convert/formats/tfjs/codec.js";
import { withoutBranches } from "../../src/convert/import/passes.js";
import { openCheckpoint } from "../../src/convert/open/checkpoint.js";
import { liftCheckpoint, matchModel } from "../../src/convert/open/lift.js";
import { openModel } from "../../src/convert/open/open-file.js";
import type { Bytes } from "../../src/core/bytes.js";
import { InputError } from "../../src/core/errors.js";
import { decodePng } from "../../src/verify/inputs/png.js";
import { planSuite } from "../../src/verify/suite/plan.js";
import { checkSuiteFile } from "../../src/verify/suite/rules.js";
import { inPieces } from "../support/pieces.js";
import type { Seed } from "./mutate/index.js";
import { NPY_SEEDS, NPZ_SEEDS } from "./seeds/npz.js";
import { LIFT_SEEDS, ONNX_SEEDS } from "./seeds/onnx.js";
import { PNG_SEEDS } from "./seeds/png.js";
import { CHECKPOINT_SEEDS, PTH_SEEDS, TINY_SPEC } from "./seeds/pth.js";
import { SAFETENSORS_SEEDS } from "./seeds/safetensors.js";
import { SUITE_SEEDS } from "./seeds/suite.js";
import { splitTfjs, TFJS_SEEDS } from "./seeds/tfjs.js";

/** What is fuzzed: a reader of untrusted bytes, and files to start from. Another reader is another row. */

export interface Target {
  readonly name: string;
  readonly seeds: readonly Seed[];
  /** Reads the bytes, all of them; throws `InputError` for what it refuses, and nothing else. */
  readonly read: (bytes: Uint8Array) => void;
}

export const TARGETS: readonly Target[] = [
  {
    name: "pth",
    seeds: PTH_SEEDS,
    read: (bytes) => {
      const { stateDict } = decodePth(bytes, { subject: "w.pth" });
      for (const { shape, data } of stateDict.values()) expectSize(shape, data.length);
    },
  },
  {
    // A file is read in pieces, of which none may say anything else.
    name: "pth-pieces",
    seeds: PTH_SEEDS,
    read: (bytes) => expectAlike(inPieces(bytes), bytes),
  },
  {
    name: "pth-key",
    seeds: PTH_SEEDS,
    read: (bytes) => void decodePth(bytes, { subject: "w.pth", key: "state_dict.module" }),
  },
  {
    name: "checkpoint",
    seeds: CHECKPOINT_SEEDS,
    read: (bytes) => void openCheckpoint(bytes, { subject: "w.pth" }),
  },
  {
    name: "safetensors",
    seeds: SAFETENSORS_SEEDS,
    read: (bytes) => {
      const { stateDict } = decodeSafetensors(bytes, "w.safetensors");
      for (const { shape, data } of stateDict.values()) expectSize(shape, data.length);
    },
  },
  {
    name: "npz",
    seeds: NPZ_SEEDS,
    read: (bytes) => {
      const archive = openNpz(bytes, "r.npz");
      for (const name of archive.names) {
        const { shape, data } = archive.read(name);
        expectSize(shape, data.length);
      }
    },
  },
  {
    name: "npy",
    seeds: NPY_SEEDS,
    read: (bytes) => {
      const { shape, data } = decodeNpy(bytes, "a.npy");
      expectSize(shape, data.length);
    },
  },
  {
    name: "onnx",
    seeds: ONNX_SEEDS,
    read: (bytes) => {
      const { graph } = decodeOnnx(bytes, { subject: "m.onnx" });
      for (const { shape, data } of graph.initializers.values()) expectSize(shape, data.length);
    },
  },
  {
    name: "lift",
    seeds: LIFT_SEEDS,
    read: (bytes) => {
      withoutBranches(decodeOnnx(bytes, { subject: "m.onnx" }), "m.onnx");
      const { stateDict } = liftCheckpoint(openModel("onnx", { name: "m.onnx", bytes }));
      for (const { shape, data } of stateDict.values()) expectSize(shape, data.length);
    },
  },
  {
    name: "tfjs",
    seeds: TFJS_SEEDS,
    read: (bytes) => {
      const { json, data } = splitTfjs(bytes);
      const options = { subject: "model.json" };
      const shards = new Map(tfjsShardPaths(json, options).map((path) => [path, data]));
      const { weights } = decodeTfjs({ json, shards }, options);
      for (const { tensor } of weights.values()) expectSize(tensor.shape, tensor.data.length);
    },
  },
  {
    name: "tfjs-lift",
    seeds: TFJS_SEEDS,
    read: (bytes) => {
      const { json, data } = splitTfjs(bytes);
      const file = { name: "model.json", bytes: json, beside: { get: () => data } };
      const { stateDict } = liftCheckpoint(openModel("tfjs", file));
      for (const { shape, data: elements } of stateDict.values()) expectSize(shape, elements.length);
    },
  },
  {
    // Without its weight files, as `inspect` reads it; a graph's axes are in them.
    name: "tfjs-absent",
    seeds: TFJS_SEEDS.filter(({ name }) => name === "layers"),
    read: (bytes) => {
      const { json } = splitTfjs(bytes);
      const model = openModel("tfjs", { name: "model.json", bytes: json }, zerosForAbsent(1 << 20));
      for (const { shape, data } of model.onnx.graph.initializers.values()) expectSize(shape, data.length);
      matchModel(model);
    },
  },
  {
    name: "suite",
    seeds: SUITE_SEEDS,
    read: (bytes) => {
      const value = parsedJson(bytes);
      if (value !== undefined)
        planSuite(
          checkSuiteFile(value, "suite.json", () => undefined),
          "suite.json",
        );
    },
  },
  {
    name: "png",
    seeds: PNG_SEEDS,
    read: (bytes) => {
      const { width, height, data } = decodePng(bytes, "a.png");
      expectSize([height, width, 3], data.length);
    },
  },
  {
    name: "spec",
    seeds: [TINY_SPEC, JSON.stringify(variant("osnet_ain_x0_25"))].map((text, index) => ({
      name: `spec ${index}`,
      kind: "json",
      parts: [{ kind: "json", bytes: new TextEncoder().encode(text) }],
      assemble: ([bytes]) => bytes ?? new Uint8Array(0),
    })),
    read: (bytes) => void parametersOf(expand(parseSpec(new TextDecoder().decode(bytes), "spec.json"))),
  },
];

/** Undefined for what the parser, which is none of ours, refuses. */
function parsedJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
}

/** Readers of one file in two ways; throws what the second one does. */
function expectAlike(first: Bytes, second: Bytes): void {
  const [one, other] = [first, second].map((bytes) => {
    try {
      return { stateDict: decodePth(bytes, { subject: "w.pth" }).stateDict };
    } catch (error) {
      if (error instanceof InputError) return { error };
      throw error;
    }
  });
  if (one?.error?.message !== other?.error?.message || !isDeepStrictEqual(one?.stateDict, other?.stateDict))
    throw new Error(
      `${one?.error?.message ?? "read"} in pieces, ${other?.error?.message ?? "read"} in memory`,
    );
  if (other?.error) throw other.error;
}

/** A tensor that is not what its shape says is a wrong result, which is worse than a crash. */
function expectSize(shape: readonly number[], length: number): void {
  const count = shape.reduce((product, size) => product * size, 1);
  if (count !== length) throw new Error(`${length} elements in a tensor of shape ${shape.join("×")}`);
}
