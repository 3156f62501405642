import type { ForeignNode, Value } from "../foreign.js";
import { reshaped, resolveShape, transposed, unsqueezedShape } from "./constants.js";
import {
  asNode,
  asTensor,
  attributeOrInput,
  frontAxes,
  int,
  ints,
  nodeValue,
  numbers,
  type OperatorReader,
} from "./site.js";
import { globalPool } from "./windows.js";

/** Operators that move elements without changing them, and reductions over a plane. */

export const readFlatten: OperatorReader = ({ node, inputs, output }) => {
  const input = asNode(inputs[0]);
  return input && int(node, "axis", 1) === 1 ? flattened(input, output) : undefined;
};

/**
 * The target is not always a constant: exporters compute it from the input's own shape, which can only mean [N, −1]
 * where a pooled map is its input.
 */
export const readReshape: OperatorReader = ({ node, inputs, output }) => {
  const target = ints(node, "shape") ?? numbers(inputs[1]);
  const [input, tensor] = [asNode(inputs[0]), asTensor(inputs[0])];
  if (tensor) return target && constant(reshaped(tensor, resolveShape(target, tensor.shape)));
  if (!input) return undefined;
  if (!target || target.length === 2) return flattened(input, output);
  const [, , height, width] = target;
  return target.length === 4 && height === 1 && width === 1 ? unflattened(input, output) : undefined;
};

export const readSqueeze: OperatorReader = (site) => {
  const axes = attributeOrInput(site, "axes", 1);
  const [input, tensor] = [asNode(site.inputs[0]), asTensor(site.inputs[0])];
  if (tensor) {
    const at = new Set(axes?.map((axis) => (axis < 0 ? axis + tensor.shape.length : axis)));
    return constant(
      reshaped(
        tensor,
        tensor.shape.filter((size, axis) => (axes ? !at.has(axis) : size !== 1)),
      ),
    );
  }
  // Two squeezes of one axis each are one flattening; the value between them is [N, C, 1], and nobody's.
  return input && flattened(input, site.output);
};

export const readUnsqueeze: OperatorReader = (site) => {
  const axes = attributeOrInput(site, "axes", 1);
  const [input, tensor] = [asNode(site.inputs[0]), asTensor(site.inputs[0])];
  if (tensor) return axes && constant(reshaped(tensor, unsqueezedShape(tensor.shape, axes)));
  return input && unflattened(input, site.output);
};

export const readTranspose: OperatorReader = ({ node, inputs, output }) => {
  const order = ints(node, "perm");
  const [input, tensor] = [asNode(inputs[0]), asTensor(inputs[0])];
  if (tensor) return constant(transposed(tensor, order));
  if (!input || !order) return undefined;
  // Two that undo each other are none, as between the parts of a graph that works in NHWC.
  const before = input.op.kind === "other" && input.op.opType === "Transpose" ? input.op.axes : undefined;
  const [source] = input.inputs;
  if (before && source && order.every((axis, at) => before[axis] === at))
    return { kind: "node", node: source };
  const operands: readonly Value[] = [{ kind: "node", node: input }];
  return nodeValue(
    { kind: "other", opType: "Transpose", operands, axes: order },
    [input],
    input.form,
    output,
  );
};

function readReduction(pool: "globalAvgPool" | "globalMaxPool"): OperatorReader {
  return (site) => {
    const input = asNode(site.inputs[0]);
    const axes = attributeOrInput(site, "axes", 1);
    if (!input || !axes || input.form.rank !== "map" || String(frontAxes(axes, input.form)) !== "2,3")
      return undefined;
    if (int(site.node, "keepdims", 1) === 1) return globalPool(pool, input, site.output);
    // [N, C] at once: the pooled map is no value of the file.
    const pooled = asNode(globalPool(pool, input, undefined));
    return pooled && flattened(pooled, site.output);
  };
}

export const readReduceMean: OperatorReader = readReduction("globalAvgPool");
export const readReduceMax: OperatorReader = readReduction("globalMaxPool");

function flattened(input: ForeignNode, output: string): Value | undefined {
  const { rank, channels } = input.form;
  if (rank === "flat")
    return { kind: "node", node: input.op.kind === "flatten" ? { ...input, value: output } : input };
  return rank === "pooled"
    ? nodeValue({ kind: "flatten" }, [input], { rank: "flat", channels }, output)
    : undefined;
}

/** [N, C] as [N, C, 1, 1] again: the pooled map that was flattened, now with a value in the file. */
function unflattened(input: ForeignNode, output: string): Value | undefined {
  if (input.form.rank === "pooled") return { kind: "node", node: input };
  const [pooled] = input.inputs;
  if (input.op.kind !== "flatten" || !pooled) return undefined;
  return { kind: "node", node: pooled.value === undefined ? { ...pooled, value: output } : pooled };
}

function constant(tensor: ReturnType<typeof reshaped>): Value | undefined {
  return tensor && { kind: "constant", tensor };
}
