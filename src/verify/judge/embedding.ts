import type { LayerGraph } from "../../arch/index.js";
import { RESULT_KINDS } from "../../convert/export/options.js";
import type { OnnxDimension } from "../../convert/formats/onnx/model.js";
import { copyOf, formatShape, type RealTensor, type Shape } from "../../core/tensor.js";
import type { Verification } from "../candidate/candidate.js";
import type { ModelOutput } from "../candidate/outputs.js";
import { measure, normalizeRows } from "../outcome/metrics.js";
import {
  type Fault,
  layerFault,
  type OutputResult,
  type QuantizationResult,
  type Tolerance,
} from "../outcome/report.js";
import {
  againstCopy,
  againstReference,
  againstSource,
  applyOperations,
  describeOperations,
  isSameShape,
  layersOf,
} from "./other-models.js";
import { compareRuns, runAlone, runUnoptimised, type WholeRun } from "./reruns.js";
import { finite, judgeOutput, rerunTolerance } from "./verdicts.js";

/** A layer from the run with intermediate outputs, and the reference's. */
interface LayerValues {
  readonly name: string;
  readonly expected: RealTensor;
  readonly actual: RealTensor;
}

/** The verdict on a model's outputs, and the loss from quantisation in the first of them. */
export interface OutputVerdicts {
  /** The output that counts; null if there was none to compare. */
  readonly output: OutputResult | null;
  /** The other outputs that are judged, in order. */
  readonly further: readonly OutputResult[];
  readonly quantization: QuantizationResult | undefined;
  /** Names of outputs that were not judged. */
  readonly notJudged: readonly string[];
  /** Outputs whose shape is not their layer's, or whose layer neither side shows. */
  readonly faults: readonly Fault[];
}

/** Judges outputs as the values of their layers arrive. */
interface OutputJudge {
  /** Keeps a layer's values, if an output is computed from it. */
  note(values: LayerValues): void;
  /**
   * Runs the unmodified model.
   *
   * @throws InputError (`tensor`) if it cannot run on the images
   */
  run(): Promise<void>;
  /** Compares runs that must not differ. */
  finish(): Promise<OutputVerdicts>;
}

/**
 * Judges outputs as a program receives them: those of the unmodified model, if there is one to run; for a recording or a
 * checkpoint, the embedding's layer.
 *
 * @param fallback the embedding's layer if the candidate is not a model
 */
export function outputJudge(
  verification: Verification,
  tolerance: Tolerance,
  fallback: string | undefined,
): OutputJudge {
  const { candidate, images, quantized, graph } = verification;
  const { program } = candidate;
  const outputs = program?.outputs ?? [];
  const layers = new Set(program ? outputs.map(({ layer }) => layer) : [fallback]);
  const noted: LayerValues[] = [];
  const found = new Map<ModelOutput, OutputResult>();
  const faults: Fault[] = [];
  let embedding: OutputResult | null = null;
  let loss: ReturnType<typeof quantizationLoss> | undefined;
  /** The value of the first output in the network of the original weights, of which a reference model has the same. */
  let original: RealTensor | undefined;
  let whole: Awaited<ReturnType<typeof runWhole>>;

  function judgeOne(output: ModelOutput, plain: RealTensor, { name, expected, actual }: LayerValues): void {
    const operations = output.operations ?? [];
    const [wanted, tapped] = [expected, actual].map((tensor) => applyOperations(tensor, operations)) as [
      RealTensor,
      RealTensor,
    ];
    if (!isSameShape(plain.shape, tapped.shape)) {
      if (output.operations) faults.push(misshapen(output, plain.shape, tapped.shape));
      return;
    }
    if (output.declared && !isDeclared(plain.shape, output.declared))
      faults.push(misdeclared(output, plain.shape, output.declared));
    const result = judgeOutput(name, wanted, tapped, plain, tolerance, candidate.precision);
    const operation = describeOperations(operations);
    found.set(output, {
      ...result,
      name: output.name,
      result: resultOf(graph, name),
      ...(operation === "" ? {} : { operation }),
      ...(output.operations ? {} : { status: "fail" as const }),
    });
  }

  async function judge(layer: LayerValues): Promise<void> {
    const values = whole?.values;
    for (const [index, output] of outputs.entries()) {
      const plain = values?.[index];
      if (output.layer === layer.name && plain) judgeOne(output, plain, layer);
    }
    if (!program && layer.name === fallback)
      embedding = {
        ...judgeOutput(layer.name, layer.expected, layer.actual, undefined, tolerance, candidate.precision),
        result: resultOf(graph, layer.name),
      };
    const [first] = outputs;
    if (!quantized || layer.name !== (first?.layer ?? fallback)) return;
    const isPlain = first?.operations?.length === 0;
    const result = isPlain ? (values?.[0] ?? layer.actual) : layer.actual;
    const run = quantized.original.run(images);
    const value = (await layersOf(run, new Set([layer.name]))).get(layer.name);
    if (!value) return;
    loss = quantizationLoss(value, result);
    original = applyOperations(value, first?.operations ?? []);
  }

  return {
    note({ name, expected, actual }) {
      if (!layers.has(name)) return;
      noted.push({ name, expected: copyOf(expected), actual: copyOf(actual) });
    },
    async run() {
      whole = await runWhole(verification);
    },
    async finish() {
      for (const layer of noted) await judge(layer);
      const { values } = whole ?? {};
      // A recording may have fewer layers than a model has.
      const held = new Set(verification.reference.backend.layers);
      const absent = outputs.filter((output) => !found.has(output) && output.operations);
      const beyond = absent.filter((output) => output !== outputs[0] && !held.has(output.layer));
      for (const output of absent)
        if (!beyond.includes(output) && !faults.some(({ layer }) => layer === output.layer))
          faults.push(
            layerFault(
              { name: output.layer },
              "missing",
              null,
              `the output ${JSON.stringify(output.name)} could not be compared: one side has no value for its layer`,
            ),
          );
      const results = outputs.map((output) => found.get(output));
      const [main] = results;
      const judged = outputs.flatMap((output, index) => {
        const [result, tensor] = [results[index], values?.[index]];
        return result && tensor
          ? [{ output, index, tensor, tolerance: rerunTolerance(result, candidate.precision) }]
          : [];
      });
      const reruns =
        whole && judged.length > 0 ? compareRuns({ ...whole, images, outputs: judged }) : undefined;
      const summary = quantized?.summary;
      const reference = await againstReference(verification, outputs[0], original ?? values?.[0]);
      const source = await againstSource(verification, judged);
      return {
        output: main ? { ...main, ...(reruns ? { reruns } : {}) } : embedding,
        further: results.slice(1).flatMap((result) => result ?? []),
        quantization: summary && loss ? { ...summary, ...loss } : undefined,
        notJudged: [...beyond.map(({ name }) => name), ...(program?.notJudged ?? [])],
        faults: [...faults, ...reference, ...source, ...(await againstCopy(verification))],
      };
    },
  };
}

async function runWhole({
  candidate,
  images,
  batch,
}: Verification): Promise<
  (Pick<WholeRun, "alone" | "unoptimised"> & { readonly values: readonly RealTensor[] }) | undefined
> {
  const { program } = candidate;
  if (!program) return undefined;
  // First: the model itself stays loaded.
  const unoptimised = await runUnoptimised(candidate, images);
  const model = program.load({ alone: true });
  const optimised = async () => ({
    values: await model.run(images),
    alone: await runAlone(model, images, batch),
  });
  const runs = await optimised().finally(() => model.release());
  return { ...runs, unoptimised };
}

function resultOf({ outputs }: LayerGraph, layer: string): string {
  return RESULT_KINDS.find((kind) => outputs[kind] === layer) ?? layer;
}

function misshapen({ layer, name }: ModelOutput, found: Shape, expected: Shape): Fault {
  return layerFault(
    { name: layer },
    "structure",
    null,
    `the output ${JSON.stringify(name)} has shape ${formatShape(found)}, expected ${formatShape(expected)}`,
  );
}

/** Whether a shape is the one that the file declares, except for the number of images: users open that by hand in the input alone. */
function isDeclared([, ...found]: Shape, [, ...declared]: readonly OnnxDimension[]): boolean {
  return (
    found.length === declared.length &&
    declared.every((size, axis) => typeof size !== "number" || size === found[axis])
  );
}

function misdeclared({ layer, name }: ModelOutput, found: Shape, declared: readonly OnnxDimension[]): Fault {
  const text = `the output ${JSON.stringify(name)} has shape ${formatShape(found)}, but the file declares [${declared.map((size) => size ?? "?").join(", ")}], by which programs allocate memory`;
  return layerFault({ name: layer }, "structure", null, text);
}

/** The distance between a quantised model's embedding and that of the float weights. */
function quantizationLoss(
  original: RealTensor,
  embedding: RealTensor,
): Pick<QuantizationResult, "maxAbs" | "relMax" | "cosine" | "normalizedMaxAbs"> {
  const { maxAbs, relMax, cosine } = measure(original, embedding);
  return {
    maxAbs,
    relMax: finite(relMax),
    cosine,
    normalizedMaxAbs: measure(normalizeRows(original), normalizeRows(embedding)).maxAbs,
  };
}
