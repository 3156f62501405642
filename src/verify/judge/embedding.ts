import type { RealTensor } from "../../core/tensor.js";
import type { OutputResult, QuantizationResult, Tolerance } from "../report.js";
import type { Verification } from "../verification.js";
import { quantizationLoss } from "../weights/quantization.js";
import { rerun } from "./reruns.js";
import { judgeOutput, rerunTolerance } from "./verdicts.js";

/** The embedding of the run that also gave the inner values, and the reference's: [N, D] of the layer of this name. */
export interface Embedding {
  readonly name: string;
  readonly expected: RealTensor;
  readonly actual: RealTensor;
}

/** The verdict on the embedding, and what storing weights in fewer bits costs it. */
export interface EmbeddingResult {
  readonly output: OutputResult;
  readonly quantization: QuantizationResult | undefined;
}

/**
 * Judges the embedding as the model's user gets it: of the model run as it is where the backend can tell that apart,
 * and of the runs that must not matter.
 */
export async function judgeEmbedding(
  { candidate, images, batch, quantized }: Verification,
  tolerance: Tolerance,
  { name, expected, actual }: Embedding,
): Promise<EmbeddingResult> {
  const model = candidate.plain?.load();
  try {
    const result = await model?.run(images);
    const plain = candidate.plain?.name === name ? result : undefined;
    const output = judgeOutput(name, expected, actual, plain, tolerance, candidate.precision);
    const allowed = rerunTolerance(output, candidate.precision);
    const reruns =
      model && plain && (await rerun(candidate, model, { images, tensor: plain, tolerance: allowed, batch }));
    // A model that gives another layer's values as its result still shows what storing costs.
    const loss = quantized && (await quantizationLoss(quantized.original, images, name, result ?? actual));
    return {
      output: reruns ? { ...output, reruns } : output,
      quantization: quantized && loss ? { ...quantized.summary, ...loss } : undefined,
    };
  } finally {
    await model?.release();
  }
}
