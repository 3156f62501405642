import type { OutputOperation } from "../../convert/import/match.js";
import { copyOf, type RealTensor, rowsOf, type Shape, type Tensor } from "../../core/tensor.js";
import { isHalf } from "../../core/tensor-cast.js";
import type { Verification } from "../candidate/candidate.js";
import type { ModelOutput } from "../candidate/outputs.js";
import { measure, type TensorMetrics } from "../outcome/metrics.js";
import { type Fault, layerFault } from "../outcome/report.js";
import { TAPPING_TOLERANCE } from "./verdicts.js";

/** Operations that files apply to a layer before the output, computed in float64 from the layer's value. */

/** @param tensor [N, C], or [N, C, H, W] if only a flatten follows */
export function applyOperations(tensor: RealTensor, operations: readonly OutputOperation[]): RealTensor {
  return operations.reduce(apply, tensor);
}

function apply(tensor: RealTensor, operation: OutputOperation): RealTensor {
  const [count = 1] = tensor.shape;
  const size = tensor.data.length / count;
  if (operation.kind === "flatten") return { ...tensor, shape: [count, size] };
  const data = new Float64Array(tensor.data.length);
  for (let start = 0; start < data.length; start += size)
    data.set(
      ROWS[operation.kind](Float64Array.from(tensor.data.subarray(start, start + size)), operation),
      start,
    );
  return { dtype: "float64", shape: tensor.shape, data };
}

type Row = (row: Float64Array, operation: OutputOperation) => Float64Array;

const ROWS: Readonly<Record<Exclude<OutputOperation["kind"], "flatten">, Row>> = {
  l2Normalize: (row, operation) => {
    const floors = operation.kind === "l2Normalize" ? operation.floors : [];
    const above = (value: number, of: "square" | "length"): number =>
      floors
        .filter((floor) => floor.of === of)
        .reduce((all, { how, epsilon }) => (how === "sum" ? all + epsilon : Math.max(all, epsilon)), value);
    const square = row.reduce((sum, value) => sum + value * value, 0);
    const length = above(Math.sqrt(above(square, "square")), "length");
    // Without a floor, LpNormalization maps zeros to zeros.
    return row.map((value) => (length === 0 ? 0 : value / length));
  },
  softmax: (row) => {
    const most = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const powers = row.map((value) => Math.exp(value - most));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((value) => value / sum);
  },
  sigmoid: (row) => row.map((value) => 1 / (1 + Math.exp(-value))),
};

const WORDS: Readonly<Record<OutputOperation["kind"], string>> = {
  l2Normalize: "L2-normalised",
  softmax: "softmax",
  sigmoid: "sigmoid",
  flatten: "flattened",
};

/** A larger ε affects embeddings of usual length, and is reported. */
const TELLING_EPSILON = 1e-6;

/** Describes operations: `L2-normalised`. */
export function describeOperations(operations: readonly OutputOperation[]): string {
  return operations
    .map((operation) => {
      const epsilon =
        operation.kind === "l2Normalize" ? Math.max(0, ...operation.floors.map((floor) => floor.epsilon)) : 0;
      return `${WORDS[operation.kind]}${epsilon > TELLING_EPSILON ? ` (ε ${epsilon.toPrecision(2)})` : ""}`;
    })
    .join(", ");
}

/** Comparisons of a candidate's outputs with those of other models, as programs receive them. */

const UNOPTIMISED = { optimised: false, alone: true } as const;

/** Maximum difference between kernels of the same graph, relative to the largest value. */
const SAME_GRAPH = 1e-5;

/**
 * Compares the file's outputs with those of the copy that intermediate values are read from, both without
 * optimisations.
 */
export async function againstCopy({
  candidate: { program },
  images,
}: Verification): Promise<readonly Fault[]> {
  if (!program?.isCopied) return [];
  const [file, copy] = [program.load(UNOPTIMISED), program.load({ ...UNOPTIMISED, copy: true })];
  try {
    const [found, copied] = [await file.run(images), await copy.run(images)];
    return program.outputs.flatMap(({ layer, name }, index) => {
      const [own, other] = [found[index], copied[index]];
      return distance(own, other).relMax <= SAME_GRAPH
        ? []
        : [
            layerFault(
              { name: layer },
              "structure",
              null,
              `the output ${JSON.stringify(name)} of the file differs from what its graph computes as it was read (functions, branches, weights beside it)`,
            ),
          ];
    });
  } finally {
    await file.release();
    await copy.release();
  }
}

/**
 * Maximum drift in half precision over a whole network, as a share of the largest value. Layers are judged by their
 * own bounds.
 */
const HALF_DRIFT = 2 ** -4;

/**
 * Compares the output that counts with that of a reference model, both as programs receive them.
 *
 * @param found the candidate's; of quantised weights, what the network of the original ones has
 */
export async function againstReference(
  { candidate, referenceProgram, referenceBatch, referencePrecision, images }: Verification,
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
    const expected = (await inBatches(images, referenceBatch, (part) => model.run(part)))[place];
    const { relMax, maxAbs, mismatchedNonFinite } = distance(expected, found);
    const tolerance = [candidate.precision, referencePrecision].some(isHalf)
      ? HALF_DRIFT
      : TAPPING_TOLERANCE.value;
    if (mismatchedNonFinite === 0 && relMax <= tolerance) return [];
    return [
      layerFault(
        { name: output.layer },
        "numeric",
        null,
        `the output ${JSON.stringify(output.name)} differs from the reference's own by ${maxAbs.toPrecision(3)}, although layers and weights are right`,
      ),
    ];
  } finally {
    await model.release();
  }
}

/** An output of the candidate, with its value and the tolerance as a share of its largest value. */
interface GivenOutput {
  readonly output: ModelOutput;
  readonly tensor: RealTensor;
  readonly tolerance: number;
}

/**
 * Compares every output with the one of the same meaning in the model that the candidate was converted from, on the
 * same images. Outputs that the user has changed have no counterpart.
 */
export async function againstSource(
  { source, images, quantized }: Verification,
  given: readonly GivenOutput[],
): Promise<readonly Fault[]> {
  // Quantised weights are another network, whose distance from the source's is reported instead.
  if (!source || quantized) return [];
  const meaning = ({ layer, operations }: ModelOutput): string =>
    operations ? `${layer} ${describeOperations(operations)}` : "";
  const model = source.program.load({ alone: true });
  try {
    const values = await inBatches(images, source.batch, (part) => model.run(part));
    return given.flatMap(({ output, tensor, tolerance }) => {
      const place = source.program.outputs.findIndex(
        (other) => meaning(other) !== "" && meaning(other) === meaning(output),
      );
      const [own, other] = [source.program.outputs[place], values[place]];
      if (!own || !other) return [];
      const { relMax, maxAbs, mismatchedNonFinite } = distance(other, tensor);
      if (mismatchedNonFinite === 0 && relMax <= Math.max(tolerance, source.isHalf ? HALF_DRIFT : 0))
        return [];
      const explanation = `the output ${JSON.stringify(output.name)} differs by ${maxAbs.toPrecision(3)} from ${JSON.stringify(own.name)} of the model that it was made from`;
      return [layerFault({ name: output.layer }, "numeric", null, explanation)];
    });
  } finally {
    await model.release();
  }
}

/** Runs a model with a fixed batch size on any number of images, repeating the last one. */
export async function inBatches(
  images: Tensor<"float32">,
  batch: number | undefined,
  run: (images: Tensor<"float32">) => Promise<readonly RealTensor[]>,
): Promise<readonly RealTensor[]> {
  const [total = 1] = images.shape;
  if (batch === undefined || batch === total) return run(images);
  const parts: (readonly RealTensor[])[] = [];
  for (let first = 0; first < total; first += batch)
    parts.push((await run(rowsOf(images, first, batch))).map(copyOf));
  return (parts[0] ?? []).map((value, index): RealTensor => {
    const [, ...dimensions] = value.shape;
    const size = dimensions.reduce((product, dimension) => product * dimension, 1);
    const data = parts.flatMap((values) => [...(values[index]?.data ?? [])]).slice(0, total * size);
    return { dtype: "float64", shape: [total, ...dimensions], data: Float64Array.from(data) };
  });
}

/** Copies of layers' values from a run, which ends with the last of them. */
export async function layersOf(
  run: AsyncIterable<{ readonly name: string; readonly tensor: RealTensor }>,
  names: ReadonlySet<string>,
): Promise<ReadonlyMap<string, RealTensor>> {
  const found = new Map<string, RealTensor>();
  for await (const { name, tensor } of run) {
    if (names.has(name)) found.set(name, copyOf(tensor));
    if (found.size === names.size) break;
  }
  return found;
}

/** The distance between two outputs; infinite if one of them is absent or has another shape. */
function distance(
  expected: RealTensor | undefined,
  found: RealTensor | undefined,
): Pick<TensorMetrics, "relMax" | "maxAbs" | "mismatchedNonFinite"> {
  return expected && found && isSameShape(expected.shape, found.shape)
    ? measure(expected, found)
    : { relMax: Infinity, maxAbs: Infinity, mismatchedNonFinite: 0 };
}

/** Whether shapes are equal except for trailing axes of 1. */
export function isSameShape(a: Shape, b: Shape): boolean {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => (a[axis] ?? 1) === (b[axis] ?? 1)).every(Boolean);
}
