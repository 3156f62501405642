import type { InferenceSession } from "onnxruntime-node";
import { lowerToOnnx } from "../src/convert/export/onnx.js";
import { encodeOnnx } from "../src/convert/formats/onnx/encode.js";
import { loadOnnxruntime } from "../src/verify/backends/node-packages.js";
import { seededImages } from "../src/verify/inputs/images.js";
import { exportByTorch, type Peers } from "./peers.js";
import { median, type Row, type Subject } from "./results.js";

/** Images that an embedding is compared on, and timed with in turn. */
const SEEDS = [1, 2, 3, 4];

/** How often both files of a pair are loaded, each first in half of them. */
const LOADS = 8;

/** Milliseconds of both files of a pair. */
type Pair = readonly [number, number];

/** How far two exports of one network may be apart, as a share of the largest value: more is another network. */
const AGREEMENT = 1e-3;

/**
 * One image of 256×128 in onnxruntime, one thread: our file of each network against torch's own export of the same weights. The two take
 * turns, so that whatever else the machine does falls on both, and processor time is taken, not the clock's; the ratio is the median of the
 * rounds' ratios. Where a session's buffers happen to lie makes it up to 4 % faster or slower, even if both are of the same file, so that both
 * are loaded several times, each in turn first, and the ratio is the geometric mean over all loads.
 */
export async function benchInference(
  subjects: readonly Subject[],
  { python, version }: NonNullable<Peers["torch"]>,
  rounds: number,
): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for (const { name, checkpoint } of subjects) {
    const exported = exportByTorch(python, checkpoint);
    const written = encodeOnnx(lowerToOnnx(checkpoint.graph, checkpoint.stateDict));
    const kept = encodeOnnx(lowerToOnnx(checkpoint.graph, checkpoint.stateDict, { keepDenormals: true }));
    const drift = await differ(written, exported);
    if (!(drift <= AGREEMENT))
      throw new Error(`${name}: torch's export computes something else (${drift} of max)`);
    const isSame = (await differ(written, kept)) === 0;
    const times: Pair[] = [];
    const ratios: number[] = [];
    const each = Math.ceil(rounds / LOADS);
    for (let load = 0; load < LOADS; load++) {
      const pairs =
        load % 2 === 0
          ? await inTurn(written, exported, each)
          : (await inTurn(exported, written, each)).map(([other, own]): Pair => [own, other]);
      times.push(...pairs);
      ratios.push(median(pairs.map(([own, other]) => own / other)));
    }
    rows.push({
      work: `inference, ${name}`,
      peer: `torch ${version}`,
      ratio: Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / LOADS),
      goal: checkpoint.isTrained ? 0.25 : 1,
      own: Math.min(...times.map(([own]) => own)),
      other: Math.min(...times.map(([, other]) => other)),
      rounds: times.length,
      note: `embeddings ${isSame ? "bit-identical to" : "not those of"} the file with --keep-denormals; ${drift.toExponential(1)} of max from the peer's`,
    });
  }
  return rows;
}

/** Processor time in milliseconds of both files, which are loaded in this order, round by round. */
async function inTurn(a: Uint8Array, b: Uint8Array, rounds: number): Promise<readonly Pair[]> {
  const sessions = [await load(a), await load(b)] as const;
  const timed = async (session: Loaded, seed: number): Promise<number> => {
    const start = process.cpuUsage();
    await session.embed(seed);
    const { user, system } = process.cpuUsage(start);
    return (user + system) / 1e3;
  };
  for (const session of sessions) for (const seed of SEEDS) await session.embed(seed);
  const times: Pair[] = [];
  for (let round = 0; round < rounds; round++) {
    const seed = SEEDS[round % SEEDS.length] ?? 1;
    // Who is first changes: the second finds the processor as the first left it.
    const isTurned = round % 2 === 1;
    const before = isTurned ? await timed(sessions[1], seed) : undefined;
    const one = await timed(sessions[0], seed);
    times.push([one, before ?? (await timed(sessions[1], seed))]);
  }
  for (const session of sessions) await session.release();
  return times;
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

/** The largest difference between the embeddings of two files, as a share of the largest value. */
async function differ(a: Uint8Array, b: Uint8Array): Promise<number> {
  const [one, other] = [await load(a), await load(b)];
  const shares: number[] = [];
  for (const seed of SEEDS) {
    const [x, y] = [await one.embed(seed), await other.embed(seed)];
    const largest = y.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
    const apart = x.reduce((max, value, index) => Math.max(max, Math.abs(value - (y[index] ?? NaN))), 0);
    shares.push(apart / largest);
  }
  for (const session of [one, other]) await session.release();
  return Math.max(...shares);
}
