import { INPUT_NAME, type LayerNode, outputShapes, parametersOf } from "../../arch/index.js";
import { InputError } from "../../core/errors.js";
import { copyOf, type RealTensor, type Shape, type Tensor } from "../../core/tensor.js";
import type { LayerOutput } from "../backends/backend.js";
import { numericsOf } from "../backends/registry.js";
import { isRounding, type LocalError } from "../bounds/local-error.js";
import { type LayerGroup, layerGroups, mistakable, neededBy } from "../bounds/recompute.js";
import type { Verification } from "../candidate/candidate.js";
import { type Explanation, effortFor, explain } from "../explain/index.js";
import type { TensorMetrics } from "../outcome/metrics.js";
import type { LayerResult, RelativeTolerance, Tolerance } from "../outcome/report.js";
import { float64Parameters } from "../reference/evaluate-layer.js";
import { type GroupSetting, groupJudge, type Judgement, settingArithmetic } from "./thread-work.js";
import type { CountedUses, Threads } from "./threads.js";
import { judgeLayer, judgeLocally } from "./verdicts.js";

/** Counts uses of the candidate's values. */
type Uses = Pick<CountedUses, "keep" | "free">;

/** Judges layers one by one, each given the candidate's own inputs, and explains the faulty ones. */
interface LocalJudge {
  /**
   * Takes a layer's output, in network order, and judges it. The tensor is kept until the last layer that reads it has
   * come; undefined if the candidate lacks what the layer reads. Without threads, the judgement is made before this returns.
   *
   * @param again other layers as they are in the run that this layer and those after it come from
   */
  judge(name: string, actual: RealTensor, again?: readonly LayerOutput[]): Promise<LocalError | undefined>;
  /** Explanations of faulty layers, by name, once the last layer has been judged. */
  explanations(): Promise<ReadonlyMap<string, Explanation>>;
}

/** Further information about a candidate that local judging needs. */
interface LocalOptions {
  readonly images: Tensor<"float32">;
  readonly parameterShapes: ReadonlyMap<string, Shape>;
  /**
   * Whether a layer without a value may be recomputed as part of a group. Not if the candidate is known to have
   * another layer in its place: then the reader is not at fault.
   */
  readonly mayHide: (layer: string) => boolean;
  /** Whether to explain faulty layers of a group. */
  readonly explains: (group: LayerGroup) => boolean;
  /** Whether the candidate reuses a tensor's memory once the next one is requested. */
  readonly reusesMemory: boolean;
}

interface Faulty {
  readonly group: LayerGroup;
  readonly actual: RealTensor;
  readonly inputs: ReadonlyMap<string, RealTensor>;
  readonly margin: number;
}

/**
 * Layers whose faults are explained together, once all have arrived: those of a block, since gates may be crossed
 * with a later stream's, as far as they come from one run.
 */
interface Chapter {
  /** In network order; undefined where a layer is right. */
  readonly faulty: (Faulty | undefined)[];
  readonly nearby: Map<string, RealTensor>;
  readonly judged: Promise<unknown>[];
}

/** @param threads where to judge; by default on this thread */
function localJudge(
  setting: GroupSetting,
  options: LocalOptions,
  uses: Uses,
  threads: Threads | undefined,
): LocalJudge {
  const { graph, precision } = setting;
  const { images, parameterShapes, mayHide } = options;
  const here = groupJudge(setting);
  const judgeGroup = threads?.groupJudge(setting) ?? here.judge;
  const { keep, free } = uses;
  const groups = new Map(
    layerGroups(graph, new Set(setting.shown))
      .filter(({ hidden }) => hidden.every(mayHide))
      .map((group) => [group.layer.name, group]),
  );
  const shapes = outputShapes(graph, images.shape);
  const values = valuesInUse(groups, images, uses);
  const found = new Map<string, Explanation>();
  const blocks = new Map(graph.nodes.map(({ name, block }) => [name, block]));
  const crossed = new Set(mistakable(graph));
  const effort = effortFor(graph, images.shape);
  let block: string | undefined;
  let chapter = newChapter();
  let looked: Promise<void> = Promise.resolve();

  function lookInto({ faulty, nearby }: Chapter): void {
    for (const fault of faulty) {
      if (!fault) continue;
      if (effort.left <= 0) break;
      const { group, actual, inputs, margin } = fault;
      const source = (name: string): RealTensor => inputs.get(name) ?? images;
      const recomputed = here.recompute(group, source);
      const owned = { ...recomputed, output: copyOf(recomputed.output) };
      const parameters = float64Parameters(setting.parameters);
      const explanation = explain(
        {
          graph,
          group,
          actual,
          recomputed: owned,
          source,
          nearby: new Map([...nearby, ...inputs]),
          shapes,
          parameters,
          parameterShapes,
          effort,
        },
        margin,
      );
      if (explanation) found.set(group.layer.name, explanation);
    }
    for (const value of nearby.values()) free(value);
    for (const fault of faulty) if (fault) for (const value of valuesOf(fault)) free(value);
  }

  /** Chapters are explained in sequence, since they share the effort. */
  function close(): void {
    const ended = chapter;
    chapter = newChapter();
    const ready = Promise.all([looked, ...ended.judged]);
    looked = ready.then(() => lookInto(ended));
    // A rejection is reported where it is awaited.
    looked.catch(() => undefined);
  }

  function beNear(name: string, value: RealTensor): void {
    if (!crossed.has(name)) return;
    const other = chapter.nearby.get(name);
    keep(value);
    chapter.nearby.set(name, value);
    if (other) free(other);
  }

  /** @param place index among the faulty layers of its chapter */
  function note({ faulty }: Chapter, place: number, layer: Omit<Faulty, "margin">, judged: Judgement): void {
    const { error, overflow } = judged;
    if (overflow !== undefined)
      found.set(layer.group.layer.name, overflowed(overflow, settingArithmetic(setting).largest, precision));
    if (overflow === undefined && options.explains(layer.group) && !isRounding(error))
      faulty[place] = { ...layer, margin: Math.max(error.margin, error.spread) };
    else for (const value of valuesOf(layer)) free(value);
  }

  return {
    async judge(name, value, again = []) {
      const group = groups.get(name);
      const actual = options.reusesMemory ? copyOf(value) : value;
      if (blocks.get(name) !== block || again.length > 0) {
        close();
        block = blocks.get(name);
      }
      for (const { name: other, tensor } of again) {
        values.replace(other, tensor);
        beNear(other, tensor);
      }
      beNear(name, actual);
      values.add(name, actual);
      const inputs = group && values.take(group);
      if (!group || !inputs) return undefined;
      const own = chapter;
      const place = own.faulty.push(undefined) - 1;
      const layer = { group, actual, inputs };
      for (const each of valuesOf(layer)) keep(each);
      const judging = judgeGroup(group, actual, (source) => inputs.get(source) ?? images);
      values.drop(group);
      if ("error" in judging) {
        note(own, place, layer, judging);
        return judging.error;
      }
      const noted = judging.then((judged) => note(own, place, layer, judged));
      own.judged.push(noted);
      noted.catch(() => undefined);
      return (await judging).error;
    },
    async explanations() {
      close();
      await looked;
      return found;
    },
  };
}

function newChapter(): Chapter {
  return { faulty: [], nearby: new Map(), judged: [] };
}

function valuesOf({ actual, inputs }: Omit<Faulty, "margin">): readonly RealTensor[] {
  return [actual, ...inputs.values()];
}

/** If values overflow, that is the only explanation. */
function overflowed(most: number, largest: number, precision: GroupSetting["precision"]): Explanation {
  const reaches =
    most > largest ? `its values reach ${most.toPrecision(2)}` : "its intermediate results exceed it";
  const says = `the network overflows in ${precision}`;
  return {
    cause: "overflow",
    says,
    sentence: `${says}: ${reaches}, and the largest ${precision} is ${largest.toPrecision(3)}, so any runtime overflows here in ${precision}, including PyTorch`,
  };
}

interface ValuesInUse {
  add(name: string, value: RealTensor): void;
  /** Replaces the value of a layer that will still be read. */
  replace(name: string, value: RealTensor): void;
  /** The values that a group reads; undefined if any of them has not arrived. */
  take(group: LayerGroup): ReadonlyMap<string, RealTensor> | undefined;
  /** Releases the values that a group has read, once no other group reads them. */
  drop(group: LayerGroup): void;
}

function valuesInUse(
  groups: ReadonlyMap<string, LayerGroup>,
  images: RealTensor,
  { keep, free }: Uses,
): ValuesInUse {
  const readers = new Map<string, number>();
  for (const group of groups.values())
    for (const name of neededBy(group, groups)) readers.set(name, (readers.get(name) ?? 0) + 1);
  const values = new Map<string, RealTensor>([[INPUT_NAME, images]]);
  const set = (name: string, value: RealTensor): void => {
    const other = values.get(name);
    keep(value);
    values.set(name, value);
    if (other) free(other);
  };
  return {
    add(name, value) {
      if (readers.has(name)) set(name, value);
    },
    replace(name, value) {
      if (values.has(name)) set(name, value);
    },
    take(group) {
      const inputs = new Map<string, RealTensor>();
      for (const name of neededBy(group, groups)) {
        const value = values.get(name);
        if (value) inputs.set(name, value);
      }
      return group.sources.every((name) => inputs.has(name)) ? inputs : undefined;
    },
    drop(group) {
      for (const name of neededBy(group, groups)) {
        const left = (readers.get(name) ?? 0) - 1;
        readers.set(name, left);
        const value = values.get(name);
        if (left > 0 || !value) continue;
        values.delete(name);
        free(value);
      }
    },
  };
}

/** If more constants differ than this, the weights are another checkpoint's, which explains everything. */
const FEW_WEIGHTS = 32;

/**
 * Three roundings of a pixel as a share of white, which is at most its normalised value and twice the mean's, with a
 * margin.
 */
const NORMALIZED_TOLERANCE: RelativeTolerance = { rule: "relative-to-max", value: 2 ** -20 };

/** Half precision rounds a pixel, the mean and the result. */
const HALF_NORMALIZED: RelativeTolerance = { rule: "relative-to-max", value: 2 ** -8 };

function normalizedTolerance({ precision }: Verification["candidate"]): RelativeTolerance {
  return precision === "float16" ? HALF_NORMALIZED : NORMALIZED_TOLERANCE;
}

/** Judges layers as they arrive, in network order. */
interface LayerJudge {
  /**
   * @param metrics of the layer against the reference network's
   * @param again other layers as they are in the run that this layer and those after it come from
   */
  judge(
    node: LayerNode,
    metrics: TensorMetrics | Promise<TensorMetrics>,
    actual: RealTensor,
    again: readonly LayerOutput[],
  ): Promise<LayerResult>;
  explanations(): Promise<ReadonlyMap<string, Explanation>>;
}

/**
 * Judges each layer against the reference network, or on the candidate's own inputs to it.
 *
 * @param uses counts the uses of the values that are judged
 * @param threads where to do it, if not here
 */
export function layerJudge(
  { graph, candidate, images, parameters, weights }: Verification,
  tolerance: Tolerance,
  uses: Uses,
  threads: Threads | undefined,
): LayerJudge {
  if (tolerance.rule === "relative-to-max")
    return {
      judge: async (node, metrics, actual) => judgeLayer(node, await metrics, actual, tolerance),
      explanations: async () => new Map(),
    };
  if (!parameters)
    throw new InputError({
      code: "argument",
      subject: "--tolerance auto",
      found: "no checkpoint to recompute layers from",
      expected: "a checkpoint as the reference",
      remedy: "use the checkpoint, or a number as the tolerance",
    });
  // Weights that cannot be seen in the network's results can be seen in intermediate values.
  const constants = weights?.withZeros ?? parameters;
  const deviations = new Set(candidate.structure?.map(({ layer }) => layer));
  const shown = new Set(candidate.backend.layers);
  const others = weights?.faults.filter(({ layer }) => shown.has(layer)) ?? [];
  // A fault that the constants show needs no values.
  const known = new Set(others.flatMap(({ layer, cause }) => (cause === undefined ? [] : layer)));
  const isKnown = (layer: string): boolean => known.has(layer) || weights?.ofOneCause?.has(layer) === true;
  let local: LocalJudge | undefined;
  return {
    async judge(node, metrics, actual, again) {
      local ??= makeJudge(actual);
      const error = await local.judge(node.name, actual, again);
      // If the model normalises images itself, no layer comes before them: the reference's images are the
      // expected ones.
      if (node.op.kind === "input")
        return judgeLayer(node, await metrics, actual, normalizedTolerance(candidate));
      return judgeLocally(node, await metrics, actual, error);
    },
    explanations: async () => (await local?.explanations()) ?? new Map(),
  };

  function makeJudge({ dtype }: RealTensor): LocalJudge {
    const setting: GroupSetting = {
      graph,
      images: images.shape,
      shown: candidate.backend.layers,
      parameters: constants,
      precision: candidate.precision ?? candidate.backend.facts?.()?.storage ?? dtype,
      numerics: numericsOf(candidate.backend.name),
      foldsNarrow: candidate.foldsNarrow ?? false,
    };
    return localJudge(
      setting,
      {
        images,
        parameterShapes: new Map(parametersOf(graph).map(({ path, shape }) => [path, shape])),
        mayHide: (layer) => !deviations.has(layer),
        // Quantised activations are rounded at every layer, which is the only explanation.
        explains: ({ nodes }) =>
          others.length <= FEW_WEIGHTS &&
          !weights?.result.quantised &&
          !nodes.some(({ name }) => isKnown(name)),
        reusesMemory: candidate.backend.name === "reference" && !threads,
      },
      uses,
      threads,
    );
  }
}
