import { lowerToOnnx, type OnnxOptions } from "../../../src/convert/export/onnx.js";
import { decodeOnnx } from "../../../src/convert/formats/onnx/decode.js";
import { type Checkpoint, openCheckpoint } from "../../../src/convert/open/checkpoint.js";
import { once } from "../../../src/core/functions.js";
import { FAMILIES, missing, readFixture } from "../../fixtures.js";
import { TINY_FAMILIES, tinyCheckpoint } from "../../mutation/families.js";
import type { Seed } from "./campaign.js";

const checkpoints = new Map<string, Checkpoint>();

/** A checkpoint of the fixtures, opened once. */
export function checkpointOf(name: string): Checkpoint {
  const checkpoint = checkpoints.get(name) ?? openCheckpoint(readFixture(name), { subject: name });
  checkpoints.set(name, checkpoint);
  return checkpoint;
}

/** How our exporter writes the files that are edited: every form of every layer. */
const OPTIONS: Readonly<Record<string, OnnxOptions>> = {
  folded: {},
  unfolded: { fold: false, opset: 18 },
  "opset 11": { opset: 11, fold: false },
  pixels: { preprocess: "bgr", opset: 17 },
};

/** Files of other exporters, and what they were made from. */
export const EXPORTED: readonly (readonly [file: string, weights: string])[] = [
  ["osnet_x0_25.torch1.13.op9.onnx", "osnet_x0_25.pth"],
  ["osnet_x0_25.torch1.13.op12.onnx", "osnet_x0_25.pth"],
  ["osnet_x0_25.torch1.13.op12.unfolded.onnx", "osnet_x0_25.pth"],
  ["osnet_x0_25.torch1.13.op16.onnx", "osnet_x0_25.pth"],
  ["osnet_x0_25.torch1.13.static_unnamed.onnx", "osnet_x0_25.pth"],
  ["osnet_ain_x0_25.torch1.13.op12.onnx", "osnet_ain_x0_25.pth"],
  ["osnet_ain_x0_25.torch1.13.op12.unfolded.onnx", "osnet_ain_x0_25.pth"],
  ["osnet_ibn_x0_25.torch1.13.op12.onnx", "osnet_ibn_x0_25.pth"],
  ["osnet_ibn_x0_25.torch1.13.op12.unfolded.onnx", "osnet_ibn_x0_25.pth"],
  ["osnet_nas_x0_25.torch1.13.op12.onnx", "osnet_nas_x0_25.pth"],
  ["osnet_nas_x0_25.torch1.13.op12.unfolded.onnx", "osnet_nas_x0_25.pth"],
  ["cases/soundness/honest.onnx", "osnet_x0_25.pth"],
  ["cases/soundness/dead_gate.onnx", "cases/soundness/dead_gate.pth"],
  ["cases/files/untrained_dynamo.onnx", "cases/files/untrained.pth"],
  ["cases/files/nodes_out_of_order.onnx", "osnet_x0_25.pth"],
  ["real/osnet_x0_25_msmt17.torch2.8.onnx", "real/osnet_x0_25_msmt17.pth"],
];

/** What this package's files are written of, by names. */
export type Networks = readonly (readonly [name: string, open: () => Checkpoint])[];

/** The reference families, as far as this machine has them. */
export const REFERENCE: Networks = FAMILIES.filter((family) => !missing(`${family}.pth`)).map((family) => [
  family,
  () => checkpointOf(`${family}.pth`),
]);

/** Small networks with the same kinds of layers, of which files are edited and settled in a third of the time. */
export const SMALL_NETWORKS: Networks = TINY_FAMILIES.map((family) => [
  `small ${family}`,
  () => tinyCheckpoint(family),
]);

/** Every proven file of networks, and of other exporters that this machine has; each is made when it is first drawn. */
export function seeds(networks: Networks = REFERENCE): readonly Seed[] {
  const own = networks.flatMap(([family, network]) =>
    Object.entries(OPTIONS).map(([form, options]) => ({
      name: `${family} ${form}`,
      open: once(() => {
        const checkpoint = network();
        return { checkpoint, model: lowerToOnnx(checkpoint.graph, checkpoint.stateDict, options) };
      }),
    })),
  );
  const exported = EXPORTED.filter((files) => !missing(...files)).map(([file, weights]) => ({
    name: file,
    open: once(() => {
      const model = decodeOnnx(readFixture(file), { subject: file });
      const [input, ...others] = model.graph.inputs;
      // Small images settle more edits in the same time.
      const shape = [input?.shape?.[0] ?? "n", 3, "height", "width"];
      const graph = { ...model.graph, inputs: [{ ...input, name: input?.name ?? "", shape }, ...others] };
      return { checkpoint: checkpointOf(weights), model: { ...model, graph } };
    }),
  }));
  return [...own, ...exported];
}
