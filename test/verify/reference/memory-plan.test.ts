import { describe, expect, test } from "vitest";
import { expand } from "../../../src/arch/expand.js";
import type { LayerNode } from "../../../src/arch/graph.js";
import { outputShapes } from "../../../src/arch/shapes.js";
import { variant } from "../../../src/arch/variants.js";
import { elementCount } from "../../../src/core/tensor.js";
import { planMemory } from "../../../src/verify/reference/evaluate.js";

describe("planMemory", () => {
  const graph = expand(variant("osnet_x1_0"));
  const shapes = outputShapes(graph, [2, 3, 256, 128]);
  const size = (name: string): number => elementCount(shapes.get(name) ?? []);
  const plan = planMemory(graph, shapes, 1000);
  const offset = (name: string): number => plan.offsets.get(name) ?? Number.NaN;

  /** Whether a layer may write where one input is: each element is read no more when it is written. */
  const isInPlace = ({ name, op, inputs }: LayerNode, input: string): boolean =>
    ["batchNorm", "relu", "sigmoid", "scale", "add"].includes(op.kind) &&
    inputs.indexOf(input) === 0 &&
    inputs.lastIndexOf(input) === 0 &&
    offset(name) === offset(input) &&
    size(name) === size(input);

  test("no output overwrites one that is still to be read", () => {
    const consumers = new Map<string, number>();
    graph.nodes.forEach((node, index) => {
      for (const name of [node.name, ...node.inputs]) consumers.set(name, index);
    });
    const overwritten = graph.nodes.flatMap((node, index) =>
      graph.nodes
        .slice(0, index)
        .filter(({ name }) => (consumers.get(name) ?? 0) >= index)
        .filter(({ name }) => !(consumers.get(name) === index && isInPlace(node, name)))
        .filter(({ name }) => offset(name) < offset(node.name) + size(node.name))
        .filter(({ name }) => offset(node.name) < offset(name) + size(name))
        .map(({ name }) => `${node.name} over ${name}`),
    );
    expect(overwritten).toEqual([]);
  });

  test("stays between its start and its total", () => {
    expect(Math.min(...plan.offsets.values())).toBe(1000);
    expect(Math.max(...graph.nodes.map(({ name }) => offset(name) + size(name)))).toBe(plan.total);
  });

  test("takes a small part of what all activations take", () => {
    const all = graph.nodes.reduce((sum, { name }) => sum + size(name), 0);
    expect(plan.total).toBeLessThan(all / 20);
  });
});
