import type { RealTensor } from "../../src/core/tensor.js";
import type { Original } from "./original.js";

/** |actual − expected| ≤ absolute + relative · |expected| for every element. */
export interface Rule {
  readonly name: string;
  readonly relative: number;
  readonly absolute: number;
}

/**
 * What other tools pass by default: `torch.testing.assert_close` in float32 (torch/testing/_comparison.py);
 * optimum's `validate_model_outputs` (`ATOL_FOR_VALIDATION`, and the relative default of `numpy.allclose`), which is
 * Polygraphy's `CompareFunc.simple` too (`elemwise`); onnx2tf's `-cotor` and `-cotoa`; `torch.onnx.verification`'s
 * `VerificationOptions`; `expectArraysClose` of tfjs (`TEST_EPSILON_FLOAT32`).
 */
export const RULES: readonly Rule[] = [
  { name: "assert_close", relative: 1.3e-6, absolute: 1e-5 },
  { name: "optimum, Polygraphy", relative: 1e-5, absolute: 1e-5 },
  { name: "onnx2tf", relative: 0, absolute: 1e-4 },
  { name: "torch.onnx", relative: 1e-3, absolute: 1e-7 },
  { name: "tfjs", relative: 0, absolute: 1e-3 },
];

/** What a rule says of a run: by all layers that the candidate shows, and by the embedding alone. */
export interface RuleVerdict {
  readonly byLayers: boolean;
  readonly byOutput: boolean;
}

/** Whether each rule passes a candidate's values, held against the reference network's as those tools do. */
export async function verdictsOf(
  { checkpoint: { graph }, ...original }: Original,
  values: ReadonlyMap<string, RealTensor>,
): Promise<readonly RuleVerdict[]> {
  const expected = await original.expected();
  const output = graph.outputs[graph.outputs.evaluation] ?? graph.outputs.features;
  return RULES.map((rule) => {
    const passes = [...values].map(
      ([name, tensor]) => [name, isWithin(rule, expected.get(name), tensor)] as const,
    );
    return {
      byLayers: passes.every(([, passed]) => passed),
      byOutput: passes.every(([name, passed]) => passed || name !== output),
    };
  });
}

function isWithin(
  { relative, absolute }: Rule,
  expected: RealTensor | undefined,
  actual: RealTensor,
): boolean {
  if (!expected || expected.data.length !== actual.data.length) return false;
  for (let i = 0; i < expected.data.length; i++) {
    const wanted = expected.data[i] as number;
    // Written so that NaN fails.
    if (!(Math.abs((actual.data[i] as number) - wanted) <= absolute + relative * Math.abs(wanted)))
      return false;
  }
  return true;
}
