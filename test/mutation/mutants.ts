import type { LayerGraph } from "../../src/arch/index.js";
import type { NamedBytes } from "../../src/core/bytes.js";
import type { RealTensor, Tensor } from "../../src/core/tensor.js";
import { chooseImages } from "../../src/verify/inputs/choose-images.js";
import { seededImages } from "../../src/verify/inputs/images.js";
import { type Fault, faultLayers, type ParityReport } from "../../src/verify/outcome/report.js";
import { optimisedFile } from "../support/optimised.js";
import { candidateOf, FORMS, type Form, OPTIMISED, RUNTIMES } from "./candidates.js";
import {
  IMAGES,
  ONE_BLOCK,
  TINY_FAMILIES,
  type TinyFamily,
  type TinyNetwork,
  tinyCheckpoint,
} from "./families.js";
import { judge } from "./judge.js";
import { type Mutation, spreadOver } from "./mutation.js";
import { run } from "./network.js";
import { OPERATORS } from "./operators/index.js";
import { type Original, originalOf } from "./original.js";
import { type RuleVerdict, verdictsOf } from "./rules.js";

/** What became of a mutant, judged in one way. */
export interface Outcome {
  readonly killed: boolean;
  /** Every fault is at a layer that is wrong. */
  readonly located: boolean;
  /** One of them is told what it is. */
  readonly explained: boolean;
  readonly faults: readonly Fault[];
}

export interface Mutant {
  readonly family: TinyFamily;
  readonly form: Form;
  readonly mutation: Mutation;
  readonly outcome: Outcome;
  /** By values alone, without a look at constants and structure; undefined where a file's layers are found by those. */
  readonly blind?: Outcome;
  /** The same result on these images and on those that leave the least untested, in float64: not wrong there. */
  readonly isEquivalent: boolean;
  /** Empty in a sample. */
  readonly rules: readonly RuleVerdict[];
}

/** Which mutants are tried. */
export interface Sample {
  /** How many forms of each mutation, the next ones in turn. Undefined: all. */
  readonly forms?: number;
  /** This family's share of one mutation of every operator, whatever family has it. Undefined: all of all families. */
  readonly only?: TinyFamily;
  /** Which operators, by what their names contain. Undefined: all. */
  readonly operator?: RegExp;
}

/** Mutants of every operator, family and form, judged one by one. */
export async function* mutants({
  forms = FORMS.length,
  only,
  operator,
}: Sample = {}): AsyncGenerator<Mutant> {
  const images = seededImages(0, IMAGES.batch, IMAGES.height, IMAGES.width);
  for (const [turn, family] of TINY_FAMILIES.entries()) {
    if (only !== undefined && family !== only) continue;
    for (const network of only === undefined ? [family] : [ONE_BLOCK[only], only]) {
      const original = originalOf(family, tinyCheckpoint(network), images);
      const equivalent = equivalence(original);
      const share = only && (shares().get(network) ?? new Set());
      for (const [index, mutation] of share?.size === 0 ? [] : mutationsOf(original).entries()) {
        if (operator?.test(mutation.operator) === false) continue;
        if (share?.has(index) === false) continue;
        let left = forms;
        for (let step = 0; step < FORMS.length && left > 0; step++) {
          const form = FORMS[(index + turn + 3 * step) % FORMS.length] ?? "onnx";
          const mutant = await judged(original, family, mutation, form, equivalent, only === undefined);
          if (!mutant) continue;
          left--;
          yield mutant;
        }
      }
    }
  }
}

let sampled: ReadonlyMap<TinyNetwork, ReadonlySet<number>> | undefined;

/**
 * Of each operator one mutation, chosen so that families, layers and forms take turns: their places in each network's list. In
 * networks of one block, but for what none of those can have, such as two blocks' gates exchanged.
 */
function shares(): ReadonlyMap<TinyNetwork, ReadonlySet<number>> {
  if (sampled) return sampled;
  const chosen = new Map<TinyNetwork, Set<number>>();
  const done = new Set<string>();
  for (const networks of [Object.values(ONE_BLOCK), TINY_FAMILIES]) {
    const places = new Map<string, (readonly [TinyNetwork, number])[]>();
    for (const network of networks)
      mutationsOf({ checkpoint: tinyCheckpoint(network) }).forEach(({ operator }, index) => {
        if (!done.has(operator)) places.set(operator, [...(places.get(operator) ?? []), [network, index]]);
      });
    for (const [operator, all] of places) {
      const [network, index] = all[spreadOver(all.length, done.size)] ?? [];
      done.add(operator);
      if (network) chosen.set(network, (chosen.get(network) ?? new Set()).add(index ?? 0));
    }
  }
  sampled = chosen;
  return sampled;
}

function mutationsOf({
  checkpoint: { graph, stateDict },
}: Pick<Original, "checkpoint">): readonly Mutation[] {
  return OPERATORS.flatMap((operator) => operator({ graph, stateDict }));
}

/** The row of the table that mutants in files are counted in that onnxruntime has optimised. */
const IN_BLOCKS = "any of these, optimised by onnxruntime";

/** How many mutations of each operator and family are tried in files that onnxruntime has optimised. */
const IN_BLOCKS_EACH = 1;

/**
 * Mutants in files that onnxruntime has optimised at every level: of each operator and family one, the next one in turn.
 *
 * @param only a sample: this family's, of the operators whose turn it is
 */
export async function* optimisedMutants(only?: TinyFamily): AsyncGenerator<Mutant> {
  const images = seededImages(0, IMAGES.batch, IMAGES.height, IMAGES.width);
  for (const [turn, family] of TINY_FAMILIES.entries()) {
    if (only !== undefined && family !== only) continue;
    const original = originalOf(family, tinyCheckpoint(only ? ONE_BLOCK[only] : family), images);
    const equivalent = equivalence(original);
    const byOperator = new Map<string, Mutation[]>();
    for (const mutation of mutationsOf(original)) {
      if (mutation.unfolded || mutation.named) continue;
      byOperator.set(mutation.operator, [...(byOperator.get(mutation.operator) ?? []), mutation]);
    }
    for (const [index, mutations] of [...byOperator.values()].entries()) {
      if (only !== undefined && (index + turn) % SAMPLED_OPERATORS !== 0) continue;
      let left = IN_BLOCKS_EACH;
      for (let step = 0; step < mutations.length && left > 0; step++) {
        const mutation = mutations[(spreadOver(mutations.length, index + turn) + step) % mutations.length];
        const mutant =
          mutation &&
          (await judged(
            original,
            family,
            asOptimised(original, mutation),
            OPTIMISED,
            equivalent,
            only === undefined,
          ));
        if (!mutant) continue;
        left--;
        yield { ...mutant, mutation: { ...mutant.mutation, operator: IN_BLOCKS } };
      }
    }
  }
}

/** A factor before a sigmoid becomes one of the weights before that. */
function asOptimised({ checkpoint: { graph } }: Original, mutation: Mutation): Mutation {
  const before = graph.nodes.flatMap(({ name, op, inputs }) =>
    op.kind === "sigmoid" && mutation.layers.includes(name) ? inputs : [],
  );
  if (before.length === 0) return mutation;
  return { ...mutation, layers: [...mutation.layers, ...before], kinds: [...mutation.kinds, "weights"] };
}

/** Every how many operators one is in a family's sample. */
const SAMPLED_OPERATORS = 16;

async function judged(
  original: Original,
  family: TinyFamily,
  mutation: Mutation,
  form: Form,
  equivalent: (mutation: Mutation) => boolean,
  byRules: boolean,
): Promise<Mutant | undefined> {
  const candidate = await fileOf(mutation, form, original.images);
  if (!candidate) return undefined;
  const { report, blind, shown, values } = await judge(original, candidate, RUNTIMES[form]);
  const { graph } = original.checkpoint;
  const layers = shownLayers(graph, mutation.layers, shown);
  const outcome = outcomeOf(report, mutation, layers);
  return {
    family,
    form,
    mutation,
    outcome,
    ...(form.endsWith("without names") || form === OPTIMISED
      ? {}
      : { blind: outcomeOf(blind, { ...mutation, kinds: [] }, layers) }),
    isEquivalent: !outcome.killed && equivalent(mutation),
    rules: byRules ? await verdictsOf(original, values) : [],
  };
}

async function fileOf(
  mutation: Mutation,
  form: Form,
  images: Tensor<"float32">,
): Promise<NamedBytes | undefined> {
  if (form !== OPTIMISED) return candidateOf(mutation, form, images);
  const plain = candidateOf(mutation, "onnx", images);
  return plain && { ...plain, bytes: await optimisedFile(plain.bytes as Uint8Array, "all") };
}

/** Layers, and for those that a candidate does not show the next ones that it does: there their faults are seen. */
function shownLayers(
  graph: LayerGraph,
  layers: readonly string[],
  shown: ReadonlySet<string>,
): ReadonlySet<string> {
  const found = new Set(layers);
  for (const { name, inputs } of graph.nodes)
    if (inputs.some((input) => found.has(input) && !shown.has(input))) found.add(name);
  return found;
}

function outcomeOf(
  { passed, faults }: ParityReport,
  { causes, kinds }: Pick<Mutation, "causes" | "kinds">,
  layers: ReadonlySet<string>,
): Outcome {
  const killed = !passed;
  const isRight = ({ kind, cause }: Fault): boolean =>
    cause !== undefined ? causes.includes(cause) : kind !== "numeric" && kinds.includes(kind);
  return {
    killed,
    located:
      killed &&
      faults.length > 0 &&
      faults.every((fault) => faultLayers(fault).every((layer) => layers.has(layer))),
    explained: killed && faults.some((fault) => layers.has(fault.layer) && isRight(fault)),
    faults,
  };
}

/** Of float64: sums in another order may differ in the last places. */
const SAME = 2 ** -45;

/** Whether a mutation shows in the network's results, by running it in float64. */
function equivalence({ checkpoint, images }: Original): (mutation: Mutation) => boolean {
  const { graph, stateDict } = checkpoint;
  const { batch: _batch, ...size } = IMAGES;
  let sets: readonly Tensor<"float32">[] | undefined;
  return ({ network }) => {
    sets ??= [images, chooseImages(graph, stateDict, { ...size, batch: 8 }).images];
    return sets.every((set) => {
      const wrong = run(network, set, "float64");
      const right = run({ graph, stateDict }, set, "float64");
      return resultsOf(graph).every((layer) => isSame(right.get(layer), wrong.get(layer)));
    });
  };
}

function resultsOf({ outputs }: LayerGraph): readonly string[] {
  return [outputs.features, outputs[outputs.evaluation] ?? outputs.features];
}

function isSame(right: RealTensor | undefined, wrong: RealTensor | undefined): boolean {
  if (!right || !wrong) return false;
  const [a, b] = [Float64Array.from(right.data), Float64Array.from(wrong.data)];
  const largest = a.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return a.every((value, i) => Math.abs(value - (b[i] as number)) <= SAME * largest);
}
