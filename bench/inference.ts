import type { InferenceSession } from "onnxruntime-node";
import { lowerToOnnx } from "../src/convert/export/onnx.js";
import { encodeOnnx } from "../src/convert/formats/onnx/encode.js";
import { loadOnnxruntime } from "../src/verify/backends/node-packages.js";
import { seededImages } from "../src/verify/inputs/images.js";
import { exportByTorch, type Peers } from "./peers.js";
import { median, type Row, type Subject } from "./results.js";

/** Images that an embedding is compared on, and timed with in turn. */
const SEEDS = [1, 2, 3, 4];

/** How far two exports of one network may be apart, as a share of the largest value: more is another network. */
const AGREEMENT = 1e-3;

/**
 * One image of 256×128 in onnxruntime, one thread: our file of each network against torch's own export of the same weights. The two take
 * turns, so that whatever else the machine does falls on both, and processor time is taken, not the clock's; the ratio is the median of the
 * rounds' ratios.
 */
export async function benchInference(
  subjects: readonly Subject[],
  { python, version }: NonNullable<Peers["torch"]>,
  rounds: number,
): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for (const { name, checkpoint } of subjects) {
    const exported = exportByTorch(python, checkpoint);
    const [own, plain, other] = await Promise.all(
      [
        encodeOnnx(lowerToOnnx(checkpoint.graph, checkpoint.stateDict)),
        encodeOnnx(lowerToOnnx(checkpoint.graph, checkpoint.stateDict, { keepDenormals: true })),
        exported,
      ].map(load),
    );
    if (!own || !plain || !other) throw new Error("a session is missing");
    const drift = Math.max(...(await Promise.all(SEEDS.map((seed) => differ(own, other, seed)))));
    if (!(drift <= AGREEMENT))
      throw new Error(`${name}: torch's export computes something else (${drift} of max)`);
    const bits = await Promise.all(SEEDS.map((seed) => differ(own, plain, seed)));
    const ratios: number[] = [];
    const times: { own: number[]; peer: number[] } = { own: [], peer: [] };
    for (let round = 0; round < rounds; round++) {
      const seed = SEEDS[round % SEEDS.length] ?? 1;
      // Who is first changes too: the second finds the processor as the first left it.
      const order = round % 2 === 0 ? [own, other] : [other, own];
      const took = new Map<Loaded, number>();
      for (const session of order) {
        const start = process.cpuUsage();
        await session.embed(seed);
        const { user, system } = process.cpuUsage(start);
        took.set(session, (user + system) / 1e3);
      }
      const [ownTime, otherTime] = [took.get(own) ?? NaN, took.get(other) ?? NaN];
      times.own.push(ownTime);
      times.peer.push(otherTime);
      ratios.push(ownTime / otherTime);
    }
    rows.push({
      work: `inference, ${name}`,
      peer: `torch ${version}`,
      ratio: median(ratios),
      goal: checkpoint.isTrained ? 0.25 : 1,
      own: Math.min(...times.own),
      other: Math.min(...times.peer),
      rounds,
      note: `embeddings ${bits.every((bit) => bit === 0) ? "bit-identical to" : "not those of"} the file with --keep-denormals; ${drift.toExponential(1)} of max from the peer's`,
    });
    for (const session of [own, plain, other]) await session.release();
  }
  return rows;
}

interface Loaded {
  readonly embed: (seed: number) => Promise<Float32Array>;
  readonly release: () => Promise<void>;
}

async function load(bytes: Uint8Array): Promise<Loaded> {
  const { InferenceSession, Tensor } = (await loadOnnxruntime()) as typeof import("onnxruntime-node");
  const session: InferenceSession = await InferenceSession.create(bytes, {
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
  });
  const images = new Map(SEEDS.map((seed) => [seed, seededImages(seed, 1, 256, 128)]));
  return {
    async embed(seed) {
      const image = images.get(seed);
      if (!image) throw new Error(`no image ${seed}`);
      const feed = { [session.inputNames[0] ?? ""]: new Tensor("float32", image.data, image.shape) };
      const [output] = Object.values(await session.run(feed));
      if (!(output?.data instanceof Float32Array)) throw new Error("no float32 output");
      return output.data;
    },
    release: () => session.release(),
  };
}

async function differ(a: Loaded, b: Loaded, seed: number): Promise<number> {
  const [x, y] = [await a.embed(seed), await b.embed(seed)];
  const largest = y.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  return x.reduce((max, value, index) => Math.max(max, Math.abs(value - (y[index] ?? NaN))), 0) / largest;
}
