import { INPUT_NAME, type LayerGraph, outputShapes } from "../../arch/index.js";
import type { RealTensor, Shape, Tensor } from "../../core/tensor.js";
import type { FloatDType } from "../../core/tensor-cast.js";
import type { LayerOutput } from "../backends/backend.js";
import {
  arithmeticOf,
  foldedNarrow,
  isOverflow,
  isRounding,
  type LayerGroup,
  type LocalError,
  layerGroups,
  localError,
  mistakable,
  type Numerics,
  neededBy,
  recomputer,
} from "../bounds/index.js";
import { type Explanation, effortFor, explain } from "../explain/index.js";
import type { ParameterSource } from "../reference/index.js";

/** Judges layers one by one, each on what the candidate itself fed to it, and looks for what is wrong with the faulty. */
export interface LocalJudge {
  /**
   * Takes a layer's output, in network order, and judges it. The tensor is kept until the last layer that reads it has
   * come; undefined if the candidate lacks what the layer reads.
   *
   * @param again other layers as they are in the run that this layer and those after it come from
   */
  judge(name: string, actual: RealTensor, again?: readonly LayerOutput[]): LocalError | undefined;
  /** What was found of faulty layers, by name, once the last layer has been judged. */
  explanations(): ReadonlyMap<string, Explanation>;
}

/** What a local judgement needs to know of a candidate. */
export interface LocalOptions {
  /** Names of the layers that the candidate will show. */
  readonly shown: readonly string[];
  readonly images: Tensor<"float32">;
  /** The checkpoint's parameters. */
  readonly parameters: ParameterSource;
  readonly parameterShapes: ReadonlyMap<string, Shape>;
  /** What the candidate's values and weights are stored in. */
  readonly precision: FloatDType;
  /** How its runtime rounds. */
  readonly numerics?: Numerics | undefined;
  /** Whether batch norms may have been folded in it. */
  readonly foldsNarrow: boolean;
  /**
   * Whether a layer that is not shown may be recomputed on the way to one that is. Not if the candidate is known to have
   * another in its place: what reads it is not to be blamed.
   */
  readonly mayHide: (layer: string) => boolean;
  /** Whether to look for what is wrong with a faulty layer. */
  readonly explains: boolean;
  /** Whether the candidate uses a tensor's memory again once the next is asked for. */
  readonly reusesMemory: boolean;
}

interface Faulty {
  readonly group: LayerGroup;
  readonly actual: RealTensor;
  readonly inputs: ReadonlyMap<string, RealTensor>;
  readonly margin: number;
}

export function localJudge(graph: LayerGraph, options: LocalOptions): LocalJudge {
  const { shown, images, parameters, precision, mayHide, reusesMemory } = options;
  const plain = arithmeticOf(precision, options.numerics);
  const arithmetic = options.foldsNarrow ? foldedNarrow(plain) : plain;
  const groups = new Map(
    layerGroups(graph, new Set(shown))
      .filter(({ hidden }) => hidden.every(mayHide))
      .map((group) => [group.layer.name, group]),
  );
  const shapes = outputShapes(graph, images.shape);
  const { recompute } = recomputer(graph, shapes, parameters, arithmetic);
  const values = valuesInUse(groups, images);
  const found = new Map<string, Explanation>();
  // Gates may be crossed with a later stream's: faults are looked into when all of their block is there.
  const blocks = new Map(graph.nodes.map(({ name, block }) => [name, block]));
  const kept = new Set(mistakable(graph));
  const effort = effortFor(graph, images.shape);
  const nearby = new Map<string, RealTensor>();
  let faulty: Faulty[] = [];
  let block: string | undefined;

  function lookInto(): void {
    for (const { group, actual, inputs, margin } of faulty) {
      if (effort.left <= 0) break;
      const source = (name: string): RealTensor => inputs.get(name) ?? images;
      const recomputed = recompute(group, source);
      const owned = {
        bound: recomputed.bound,
        output: { ...recomputed.output, data: recomputed.output.data.slice() },
      };
      const parameterShapes = options.parameterShapes;
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
    faulty = [];
  }

  return {
    judge(name, value, again = []) {
      const group = groups.get(name);
      const actual = reusesMemory ? ({ ...value, data: value.data.slice() } as RealTensor) : value;
      if (blocks.get(name) !== block || again.length > 0) {
        lookInto();
        nearby.clear();
        block = blocks.get(name);
      }
      for (const { name: other, tensor } of again) {
        values.replace(other, tensor);
        if (kept.has(other)) nearby.set(other, tensor);
      }
      if (kept.has(name)) nearby.set(name, actual);
      values.add(name, actual);
      const inputs = group && values.take(group);
      if (!group || !inputs) return undefined;
      const { output, bound } = recompute(group, (source) => inputs.get(source) ?? images);
      const readsNaN = (): boolean =>
        group.sources.some((source) => (inputs.get(source) ?? images).data.some(Number.isNaN));
      const error = localError(actual, output, bound, readsNaN);
      if (!isRounding(error) && isOverflow(actual, output, bound, arithmetic.largest))
        found.set(name, overflow(output, arithmetic.largest, precision));
      else if (options.explains && !isRounding(error))
        faulty.push({ group, actual, inputs, margin: Math.max(error.margin, error.spread) });
      return error;
    },
    explanations() {
      lookInto();
      return found;
    },
  };
}

/** Beyond the largest number of a type there is one thing to say, whatever the values look like. */
function overflow({ data }: RealTensor, largest: number, precision: FloatDType): Explanation {
  let most = 0;
  for (const value of data) if (Number.isFinite(value)) most = Math.max(most, Math.abs(value));
  const reaches =
    most > largest ? `its values reach ${most.toPrecision(2)}` : "what it computes on the way is beyond it";
  const says = `the network overflows in ${precision}`;
  return {
    cause: "overflow",
    says,
    sentence: `${says}: ${reaches}, and the largest ${precision} is ${largest.toPrecision(3)}, so that any runtime gives infinities here in ${precision}, PyTorch too`,
  };
}

interface ValuesInUse {
  add(name: string, value: RealTensor): void;
  /** Another value for a layer that is still to be read. */
  replace(name: string, value: RealTensor): void;
  /** What a group reads; released once no other group reads it. Undefined if something of it has not come. */
  take(group: LayerGroup): ReadonlyMap<string, RealTensor> | undefined;
}

function valuesInUse(groups: ReadonlyMap<string, LayerGroup>, images: RealTensor): ValuesInUse {
  const readers = new Map<string, number>();
  for (const group of groups.values())
    for (const name of neededBy(group, groups)) readers.set(name, (readers.get(name) ?? 0) + 1);
  const values = new Map<string, RealTensor>([[INPUT_NAME, images]]);
  return {
    add(name, value) {
      if (readers.has(name)) values.set(name, value);
    },
    replace(name, value) {
      if (values.has(name)) values.set(name, value);
    },
    take(group) {
      const inputs = new Map<string, RealTensor>();
      for (const name of neededBy(group, groups)) {
        const value = values.get(name);
        if (value) inputs.set(name, value);
      }
      if (!group.sources.every((name) => inputs.has(name))) return undefined;
      for (const name of neededBy(group, groups)) {
        const left = (readers.get(name) ?? 0) - 1;
        readers.set(name, left);
        if (left === 0) values.delete(name);
      }
      return inputs;
    },
  };
}
