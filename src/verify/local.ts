import { INPUT_NAME, type LayerGraph, outputShapes } from "../arch/index.js";
import type { RealTensor, Tensor } from "../tensor.js";
import type { FloatDType } from "../tensor-cast.js";
import {
  ARITHMETIC,
  type LayerGroup,
  type LocalError,
  layerGroups,
  localError,
  recomputer,
} from "./bounds/index.js";
import type { ParameterSource } from "./reference/index.js";

/** Judges layers one by one, each on what the candidate itself fed to it. */
export interface LocalJudge {
  /**
   * Takes a layer's output, in network order, and judges it. The tensor is kept until the last layer that reads it has
   * come; undefined if the candidate lacks what the layer reads.
   */
  judge(name: string, actual: RealTensor): LocalVerdict | undefined;
}

export interface LocalVerdict extends LocalError {
  readonly group: LayerGroup;
  /** The shown values that the group read. */
  readonly source: (name: string) => RealTensor;
}

/** What a local judgement needs to know of a candidate. */
export interface LocalOptions {
  /** Names of the layers that the candidate will show. */
  readonly shown: readonly string[];
  readonly images: Tensor<"float32">;
  /** The checkpoint's parameters. */
  readonly parameters: ParameterSource;
  /** What the candidate's values and weights are stored in. */
  readonly precision: FloatDType;
  /** Whether a layer that is not shown is no fault: a recording holds what it holds, a model may have folded it. */
  readonly mayHide: (layer: string) => boolean;
  /** Whether the candidate uses a tensor's memory again once the next is asked for. */
  readonly reusesMemory: boolean;
}

export function localJudge(graph: LayerGraph, options: LocalOptions): LocalJudge {
  const { shown, images, parameters, precision, mayHide, reusesMemory } = options;
  const groups = new Map(
    layerGroups(graph, new Set(shown))
      .filter(({ hidden }) => hidden.every(mayHide))
      .map((group) => [group.layer.name, group]),
  );
  const { recompute } = recomputer(outputShapes(graph, images.shape), parameters, ARITHMETIC[precision]);
  const readers = new Map<string, number>();
  for (const { sources } of groups.values())
    for (const name of sources) readers.set(name, (readers.get(name) ?? 0) + 1);
  const values = new Map<string, RealTensor>([[INPUT_NAME, images]]);

  return {
    judge(name, actual) {
      const group = groups.get(name);
      if (readers.has(name))
        values.set(name, reusesMemory ? ({ ...actual, data: actual.data.slice() } as RealTensor) : actual);
      if (!group?.sources.every((source) => values.has(source))) return undefined;
      const source = (wanted: string): RealTensor => {
        const value = values.get(wanted);
        if (!value) throw new Error(`${wanted} was released before ${name} was judged`);
        return value;
      };
      const { output, bound } = recompute(group, source);
      const error = localError(actual, output, bound);
      const inputs = new Map(group.sources.map((each) => [each, source(each)]));
      for (const each of group.sources) {
        const left = (readers.get(each) ?? 0) - 1;
        readers.set(each, left);
        if (left === 0) values.delete(each);
      }
      return { ...error, group, source: (wanted) => inputs.get(wanted) ?? images };
    },
  };
}
