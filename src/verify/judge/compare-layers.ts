import { type LayerNode, outputShapes } from "../../arch/index.js";
import { copyOf, formatShape, type RealTensor, type Shape, sameShape } from "../../core/tensor.js";
import type { LayerOutput } from "../backends/backend.js";
import type { Verification } from "../candidate/candidate.js";
import type { Explanation } from "../explain/index.js";
import { observeVacuity } from "../inputs/vacuity.js";
import { measure } from "../outcome/metrics.js";
import {
  type Fault,
  type GateResult,
  type LayerResult,
  layerFault,
  type Tolerance,
  type Vacuity,
} from "../outcome/report.js";
import { type OutputVerdicts, outputJudge } from "./embedding.js";
import { layerJudge } from "./layer-judge.js";
import type { Measured } from "./thread-work.js";
import { type CountedUses, countedUses, startThreads, type Threads } from "./threads.js";
import { gateResult } from "./verdicts.js";

/** Both sides' values of one layer; the expected one is valid until the next. */
interface JoinedLayer {
  readonly name: string;
  readonly expected: RealTensor;
  readonly actual: RealTensor;
  /** The layers that the actual side has output again, right before this one. */
  readonly again: readonly LayerOutput[];
  /** Releases the actual value's memory, if it is the backend's. */
  readonly release?: () => void;
}

/**
 * Joins two streams of layer outputs by exact name, and yields each wanted layer as soon as both sides have it. Two
 * backends in network order advance in step, and nothing is kept; a side that runs ahead has its values copied, since
 * backends may use a tensor's memory again. What either side never yields is never yielded here: the caller compares
 * names.
 */
export async function* joinByName(
  expected: AsyncIterable<LayerOutput>,
  actual: AsyncIterable<LayerOutput>,
  wanted: ReadonlySet<string>,
): AsyncGenerator<JoinedLayer> {
  const remaining = new Set(wanted);
  const left = openSide(expected, remaining);
  const right = openSide(actual, remaining);
  try {
    while (remaining.size > 0) {
      const fromLeft = await left.next();
      const fromRight = await right.next();
      if (!fromLeft && !fromRight) return;
      const pairs =
        fromLeft && fromRight?.name === fromLeft.name
          ? [joined(fromLeft, fromRight)]
          : [...pairUp(fromLeft, left, right), ...pairUp(fromRight, right, left)];
      for (const pair of pairs) {
        remaining.delete(pair.name);
        yield pair;
      }
    }
  } finally {
    await left.close();
    await right.close();
  }

  function* pairUp(output: SideOutput | undefined, own: OpenSide, other: OpenSide): Generator<JoinedLayer> {
    if (!output) return;
    const { name, tensor, again, release } = output;
    const partner = other.waiting.get(name);
    if (!partner) {
      own.waiting.set(name, { name, tensor: copyOf(tensor), again });
      release?.();
      return;
    }
    other.waiting.delete(name);
    yield own === left ? joined(output, partner) : joined(partner, output);
  }
}

function joined(expected: SideOutput, { tensor, ...actual }: SideOutput): JoinedLayer {
  return { ...actual, expected: expected.tensor, actual: tensor };
}

/**
 * A wanted layer, with the layers that its side has output again right before it: one side may run ahead of the
 * other.
 */
interface SideOutput extends Omit<LayerOutput, "again"> {
  readonly again: readonly LayerOutput[];
}

interface OpenSide {
  /** Values that wait for the other side's. */
  readonly waiting: Map<string, SideOutput>;
  /** The next value that is still wanted. */
  next(): Promise<SideOutput | undefined>;
  close(): Promise<void>;
}

function openSide(source: AsyncIterable<LayerOutput>, wanted: ReadonlySet<string>): OpenSide {
  const iterator = source[Symbol.asyncIterator]();
  return {
    waiting: new Map(),
    async next() {
      const again: LayerOutput[] = [];
      for (;;) {
        const result = await iterator.next();
        if (result.done) return undefined;
        const { value } = result;
        if (value.again) again.push(value);
        else if (wanted.has(value.name)) return { ...value, again };
        else value.release?.();
      }
    },
    async close() {
      await iterator.return?.();
    },
  };
}

/** The result of running both sides. */
export interface Comparison {
  /** The layers for which both sides have values of the same shape, by name. */
  readonly layers: ReadonlyMap<string, LayerResult>;
  /** The gates among them, by the layer that computes each. */
  readonly gates: ReadonlyMap<string, GateResult>;
  readonly outputs: OutputVerdicts;
  /** Layers for which the sides have values of different shapes. */
  readonly misshapen: readonly Fault[];
  readonly vacuity: Vacuity;
  /** Explanations of the layers that are wrong on their own inputs. */
  readonly explanations: ReadonlyMap<string, Explanation>;
}

/** A layer with a value on both sides. */
interface Pair {
  readonly node: LayerNode;
  readonly actual: RealTensor;
  /** The layers that the candidate has output again, right before this one. */
  readonly again: readonly LayerOutput[];
  readonly expected: Shape;
  /**
   * The distance between the candidate's value and the reference network's; undefined if their shapes differ.
   */
  readonly measured: Measured | Promise<Measured> | undefined;
}

/**
 * Runs both sides on the images and judges every wanted layer as soon as both have it.
 *
 * @param meanwhile work for this thread, done once, while others judge; not called if there are none
 * @throws InputError if a side cannot run on the images
 */
export async function compareLayers(
  verification: Verification,
  tolerance: Tolerance,
  wanted: readonly LayerNode[],
  meanwhile: () => void = () => undefined,
): Promise<Comparison> {
  const { graph, candidate, images } = verification;
  const nodes = new Map(wanted.map((node) => [node.name, node]));
  const gateLayers = new Map(graph.gates.map((gate) => [gate.layer, gate]));
  const { features, evaluation } = graph.outputs;
  const outputLayer = [features, graph.outputs[evaluation]].find((name) => name && nodes.has(name));
  const given = candidate.program?.outputs.map(({ layer }) => layer) ?? [];
  const returned = [...gateLayers.keys(), ...given, ...(outputLayer ? [outputLayer] : [])];
  const results = new Map<string, LayerResult>();
  const gates = new Map<string, GateResult>();
  const misshapen: Fault[] = [];

  const threads = await startThreads(verification, [...nodes.keys()], returned, meanwhile);
  const counted = countedUses();
  const uses = threads ?? counted;
  let settled: Promise<void> = Promise.resolve();
  try {
    const judge = layerJudge(verification, tolerance, uses, threads);
    const outputs = outputJudge(verification, tolerance, outputLayer);
    const observer = observeVacuity(graph, { images });
    const pairs = threads
      ? sharedPairs(verification, nodes, threads)
      : joinedPairs(verification, nodes, counted);
    for await (const pair of pairs) {
      const { node, actual, again, expected, measured } = pair;
      const { name } = node;
      const free = (): void => {
        for (const shared of [actual, ...again.map(({ tensor }) => tensor)]) uses.free(shared);
      };
      if (!measured) {
        const shapes = `shape ${formatShape(actual.shape)}, expected ${formatShape(expected)}`;
        misshapen.push(layerFault(node, "structure", null, shapes));
        free();
        continue;
      }
      observer.observe(name, actual);
      const metrics = "metrics" in measured ? measured.metrics : measured.then(({ metrics }) => metrics);
      const judging = judge.judge(node, metrics, actual, again);
      // A rejection of either is reported by `settled`.
      if (threads) for (const each of [Promise.resolve(metrics), judging]) each.catch(() => undefined);
      // In the order of the layers, although they may be judged in another.
      settled = Promise.all([measured, judging, settled]).then(async ([{ expected }, result]) => {
        results.set(name, result);
        const gate = gateLayers.get(name);
        if (gate && expected) gates.set(name, gateResult(gate, expected, actual, result));
        if (expected) outputs.note({ name, expected, actual });
        free();
        verification.onProgress?.(results.size, wanted.length);
      });
      if (threads) settled.catch(() => undefined);
      else await settled;
    }
    // Memory of the last segment is free again, and threads still judge its layers.
    await outputs.run();
    await settled;
    const explanations = await judge.explanations();
    // The memory of the threads is released before the unmodified model runs again.
    await threads?.end();
    return {
      layers: results,
      gates,
      outputs: await outputs.finish(),
      misshapen,
      vacuity: observer.finish(),
      explanations,
    };
  } finally {
    await threads?.end();
  }
}

/** On one thread, each layer is measured as soon as both sides have it. */
async function* joinedPairs(
  { reference, candidate, images }: Verification,
  nodes: ReadonlyMap<string, LayerNode>,
  { hold }: CountedUses,
): AsyncGenerator<Pair> {
  const joined = joinByName(
    reference.backend.run(images),
    candidate.backend.run(images),
    new Set(nodes.keys()),
  );
  for await (const { name, expected, actual, again, release } of joined) {
    hold(actual, release);
    for (const other of again) hold(other.tensor, other.release);
    const node = nodes.get(name);
    if (!node) continue;
    const isShaped = sameShape(expected.shape, actual.shape);
    const measured = isShaped ? { metrics: measure(expected, actual), expected } : undefined;
    yield { node, actual, again, expected: expected.shape, measured };
  }
}

/** With threads, the candidate runs on this one, and the reference on another. */
async function* sharedPairs(
  { graph, candidate, images }: Verification,
  nodes: ReadonlyMap<string, LayerNode>,
  threads: Threads,
): AsyncGenerator<Pair> {
  const shapes = outputShapes(graph, images.shape);
  const remaining = new Set(nodes.keys());
  let again: readonly LayerOutput[] = [];
  for await (const output of candidate.backend.run(images)) {
    const node = nodes.get(output.name);
    if (!output.again && !(node && remaining.has(output.name))) {
      output.release?.();
      continue;
    }
    const tensor = await threads.share(output.tensor);
    output.release?.();
    if (output.again || !node) {
      again = [...again, { name: output.name, tensor }];
      continue;
    }
    const expected = shapes.get(node.name) ?? [];
    const isShaped = sameShape(expected, tensor.shape);
    const measured = isShaped ? threads.measure(node.name, tensor) : undefined;
    remaining.delete(node.name);
    yield { node, actual: tensor, again, expected, measured };
    again = [];
    if (remaining.size === 0) return;
  }
}
