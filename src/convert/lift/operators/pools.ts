import type { Size2d } from "../../../arch/index.js";
import { type ForeignNode, isKind, type Value } from "../foreign.js";
import { asNode, int, ints, nodeValue, numbers, type OperatorReader, text } from "./site.js";
import { NO_PADDING, padded, pair, slide, throughPad, windowOf } from "./windows.js";

/** Pools, of windows and of the whole map, and the padding before a window. */

/** Lowest float32, or below: how padding that a maximum never takes is written. */
const LOWEST = -3.4e38;

function readPool(kind: "maxPool" | "avgPool"): OperatorReader {
  return ({ node, inputs, output }) => {
    const input = asNode(inputs[0]);
    const kernel = pair(ints(node, "kernel_shape"), [0, 0]);
    if (!input || !kernel) return undefined;
    const { source, more } =
      kind === "maxPool"
        ? throughPad(input, (value, map) => value <= LOWEST || (value === 0 && map.op.kind === "relu"))
        : { source: input, more: NO_PADDING };
    const window = windowOf(node, kernel, input.form.size);
    if (!window) return undefined;
    const { size } = input.form;
    const whole = afterFirstPass(input, kernel, kind);
    if (whole && [...window.padding, ...more].every((n) => n === 0))
      return globalPool(kind === "maxPool" ? "globalMaxPool" : "globalAvgPool", whole, output);
    // Exporters of adaptive pools write a window over the whole map.
    if (
      size &&
      kernel[0] === size[0] &&
      kernel[1] === size[1] &&
      [...window.padding, ...more].every((n) => n === 0)
    )
      return globalPool(kind === "maxPool" ? "globalMaxPool" : "globalAvgPool", input, output);
    const op = { kind, ...padded(window, more), ceil: int(node, "ceil_mode", 0) !== 0 };
    return nodeValue(
      op,
      [source],
      { ...input.form, size: op.ceil ? undefined : slide(window, size) },
      output,
    );
  };
}

/** What two pools in a row, of all rows and then of all columns or the other way round, are a pool of. */
function afterFirstPass(
  input: ForeignNode,
  kernel: Size2d,
  kind: "maxPool" | "avgPool",
): ForeignNode | undefined {
  const [source] = input.inputs;
  const size = source?.form.size;
  if (!isKind(input, kind) || !source || !size || input.op.padding.some((n) => n !== 0)) return undefined;
  const { kernel: first, stride } = input.op;
  const isPass = (axis: 0 | 1): boolean => {
    const other = axis === 0 ? 1 : 0;
    return (
      first[axis] === size[axis] &&
      first[other] === 1 &&
      stride[other] === 1 &&
      kernel[axis] === 1 &&
      kernel[other] === size[other]
    );
  };
  return isPass(0) || isPass(1) ? source : undefined;
}

export const readMaxPool: OperatorReader = readPool("maxPool");
export const readAveragePool: OperatorReader = readPool("avgPool");

export function globalPool(
  kind: "globalAvgPool" | "globalMaxPool",
  input: ForeignNode,
  output: string | undefined,
): Value {
  return nodeValue({ kind }, [input], { rank: "pooled", channels: input.form.channels }, output);
}

export const readPad: OperatorReader = ({ node, inputs, output }) => {
  const input = asNode(inputs[0]);
  const pads = ints(node, "pads") ?? numbers(inputs[1]);
  if (!input || !pads || text(node, "mode", "constant") !== "constant") return undefined;
  if (pads.every((size) => size === 0)) return { kind: "node", node: input };
  const [, , top = 0, left = 0, , , bottom = 0, right = 0] = pads;
  const elsewhere = [0, 1, 4, 5].some((index) => pads[index] !== 0);
  if (pads.length !== 8 || elsewhere) return undefined;
  const attribute = node.attributes.get("value");
  const value = attribute?.type === "float" ? attribute.value : inputs[2] ? numbers(inputs[2])?.[0] : 0;
  if (value === undefined) return undefined;
  const { size } = input.form;
  const grown: Size2d | undefined = size && [size[0] + top + bottom, size[1] + left + right];
  return nodeValue(
    { kind: "pad", padding: [top, left, bottom, right], value },
    [input],
    { ...input.form, size: grown },
    output,
  );
};
