import { expect } from "vitest";
import type { Op, ParameterRole } from "../../../../src/arch/graph.js";
import type { RealTensor, Shape, Tensor } from "../../../../src/core/tensor.js";
import { evaluateLayer, Workspace } from "../../../../src/verify/reference/evaluate-layer.js";
import { expectSameSums } from "../same-sums.js";

/** Parameters by role, as flat numbers. */
export type Values = Readonly<Partial<Record<ParameterRole, readonly number[] | Float64Array>>>;

/** Computes one operation with both engines, which must agree. */
export function apply(
  op: Op,
  inputs: readonly RealTensor[],
  shape: Shape,
  parameters: Values = {},
): Tensor<"float64"> {
  const roles = Object.keys(parameters) as ParameterRole[];
  const node = {
    name: op.kind,
    op,
    inputs: inputs.map((_, index) => `input${index}`),
    parameters: Object.fromEntries(roles.map((role) => [role, role])),
  };
  const source = (role: string): Float64Array => Float64Array.from(parameters[role as ParameterRole] ?? []);
  const scalar = evaluateLayer(node, inputs, source, shape);
  const vector = evaluateLayer(node, inputs, source, shape, new Workspace());
  expect({ ...vector, data: [] }).toEqual({ ...scalar, data: [] });
  expectSameSums(vector.data, scalar.data);
  return scalar;
}

/** Expects two tensors to agree to rounding: 10⁻¹³ of the largest expected magnitude. */
export function expectClose(actual: Tensor<"float64">, expected: Tensor<"float64">): void {
  expect(actual.shape).toEqual(expected.shape);
  expect(actual.data.length).toBe(expected.data.length);
  const largest = expected.data.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  const worst = actual.data.reduce(
    (max, value, index) => Math.max(max, Math.abs(value - (expected.data[index] ?? Number.NaN))),
    0,
  );
  expect(worst).toBeLessThanOrEqual(1e-13 * largest);
}
