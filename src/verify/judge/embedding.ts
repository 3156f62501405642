import type { LayerGraph } from "../../arch/index.js";
import { RESULT_KINDS } from "../../convert/export/results.js";
import { formatShape, type RealTensor, type Shape } from "../../core/tensor.js";
import type { LoadedModel } from "../backends/backend.js";
import type { ModelOutput } from "../candidate/outputs.js";
import { layerFault } from "../faults.js";
import { measure } from "../metrics.js";
import type { Fault, OutputResult, QuantizationResult, Tolerance } from "../report.js";
import type { Verification } from "../verification.js";
import { quantizationLoss } from "../weights/quantization.js";
import { applyOperations, describeOperations } from "./operations.js";
import { rerun } from "./reruns.js";
import { judgeOutput, rerunTolerance, TAPPING_TOLERANCE } from "./verdicts.js";

/** A layer of the run that also gave the inner values, and the reference's. */
export interface LayerValues {
  readonly name: string;
  readonly expected: RealTensor;
  readonly actual: RealTensor;
}

/** The verdict on a model's outputs, and what storing weights in fewer bits costs the first. */
export interface OutputVerdicts {
  /** The output that counts; null if there was none to compare. */
  readonly output: OutputResult | null;
  /** The others that are judged, in their order. */
  readonly further: readonly OutputResult[];
  readonly quantization: QuantizationResult | undefined;
  /** Names of outputs that were not judged. */
  readonly notJudged: readonly string[];
  /** Outputs of another shape than their layers, and those whose layers neither side showed. */
  readonly faults: readonly Fault[];
}

/** Judges outputs as their layers come. */
export interface OutputJudge {
  judge(values: LayerValues): Promise<void>;
  /** Runs the model again in ways that must not matter, and gives its memory back. */
  finish(): Promise<OutputVerdicts>;
  /** Gives the model's memory back, whatever came of it. */
  release(): Promise<void>;
}

/**
 * Judges outputs as the model's user gets them: of the model run as it is where there is one to run, before any value of it
 * is looked at; of a recording or a checkpoint the layer itself, which is its embedding.
 *
 * @param fallback the layer that is the embedding where the candidate is no model
 * @throws InputError (`tensor`) if the model cannot run on the images
 */
export async function outputJudge(
  verification: Verification,
  tolerance: Tolerance,
  fallback: string | undefined,
): Promise<OutputJudge> {
  const { candidate, images, batch, quantized, graph } = verification;
  const { program } = candidate;
  const model: LoadedModel | undefined = program?.load({ alone: true });
  const values = await model?.run(images);
  const outputs = program?.outputs ?? [];
  const found = new Map<ModelOutput, OutputResult>();
  const faults: Fault[] = [];
  let embedding: OutputResult | null = null;
  let loss: Awaited<ReturnType<typeof quantizationLoss>>;

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

  return {
    async judge(layer) {
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
      loss = await quantizationLoss(quantized.original, images, layer.name, result);
    },
    async finish() {
      // A recording may hold fewer layers than a model gives.
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
              `the output ${JSON.stringify(output.name)} could not be compared: one side holds no value of its layer`,
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
        model && judged.length > 0
          ? await rerun(candidate, model, { images, outputs: judged, batch })
          : undefined;
      const summary = quantized?.summary;
      const reference = await againstReference(verification, outputs[0], values?.[0]);
      return {
        output: main ? { ...main, ...(reruns ? { reruns } : {}) } : embedding,
        further: results.slice(1).flatMap((result) => result ?? []),
        quantization: summary && loss ? { ...summary, ...loss } : undefined,
        notJudged: [...beyond.map(({ name }) => name), ...(program?.notJudged ?? [])],
        faults: [...faults, ...reference, ...(await againstCopy(verification))],
      };
    },
    async release() {
      await model?.release();
    },
  };
}

const UNOPTIMISED = { optimised: false, alone: true } as const;

/** How far kernels of one graph may round apart, as a share of the largest value. */
const SAME_GRAPH = 1e-5;

/** The file's outputs against those of the copy that inner values are read from, both without optimisations. */
async function againstCopy({ candidate: { program }, images }: Verification): Promise<readonly Fault[]> {
  if (!program?.isCopied) return [];
  const [file, copy] = [program.load(UNOPTIMISED), program.load({ ...UNOPTIMISED, copy: true })];
  try {
    const [found, copied] = [await file.run(images), await copy.run(images)];
    return program.outputs.flatMap(({ layer, name }, index) => {
      const [own, other] = [found[index], copied[index]];
      const isSame =
        own && other && isSameShape(own.shape, other.shape) && measure(own, other).relMax <= SAME_GRAPH;
      return isSame
        ? []
        : [
            layerFault(
              { name: layer },
              "structure",
              null,
              `the output ${JSON.stringify(name)} of the file is another than that of its graph as it was read (functions, branches, weights beside it)`,
            ),
          ];
    });
  } finally {
    await file.release();
    await copy.release();
  }
}

/** The output that counts against the same of a model that is the reference, both as programs receive them. */
async function againstReference(
  { candidate, referenceProgram, images }: Verification,
  output: ModelOutput | undefined,
  found: RealTensor | undefined,
): Promise<readonly Fault[]> {
  if (!referenceProgram || !output?.operations || !found) return [];
  const isSame = ({ layer, operations }: ModelOutput): boolean =>
    layer === output.layer &&
    describeOperations(operations ?? []) === describeOperations(output.operations ?? []);
  const isChosen = (candidate.program?.notJudged.length ?? 0) > 0;
  const counted = isChosen ? referenceProgram.outputs : referenceProgram.outputs.slice(0, 1);
  const place = counted.findIndex(isSame);
  const [first] = referenceProgram.outputs;
  if (place < 0)
    return [
      layerFault(
        { name: output.layer },
        "structure",
        null,
        `found ${[output.layer, describeOperations(output.operations)].filter(Boolean).join(", ")} as the output ${JSON.stringify(output.name)}, expected the reference's ${[first?.layer, describeOperations(first?.operations ?? [])].filter(Boolean).join(", ")}`,
      ),
    ];
  const model = referenceProgram.load({ alone: true });
  try {
    const expected = (await model.run(images))[place];
    const { relMax, maxAbs, mismatchedNonFinite } =
      expected && isSameShape(expected.shape, found.shape)
        ? measure(expected, found)
        : { relMax: Infinity, maxAbs: Infinity, mismatchedNonFinite: 0 };
    if (mismatchedNonFinite === 0 && relMax <= TAPPING_TOLERANCE.value) return [];
    return [
      layerFault(
        { name: output.layer },
        "numeric",
        null,
        `the output ${JSON.stringify(output.name)} differs from the reference's own by ${maxAbs.toPrecision(3)}, though the weights are compared`,
      ),
    ];
  } finally {
    await model.release();
  }
}

function resultOf({ outputs }: LayerGraph, layer: string): string {
  return RESULT_KINDS.find((kind) => outputs[kind] === layer) ?? layer;
}

/** Whether shapes are one but for axes of 1 at the end. */
function isSameShape(a: Shape, b: Shape): boolean {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => (a[axis] ?? 1) === (b[axis] ?? 1)).every(Boolean);
}

function misshapen({ layer, name }: ModelOutput, found: Shape, expected: Shape): Fault {
  return layerFault(
    { name: layer },
    "structure",
    null,
    `the output ${JSON.stringify(name)} is ${formatShape(found)}, expected ${formatShape(expected)}`,
  );
}
