import { ints } from "../../../formats/onnx/index.js";
import { arrayOf } from "../../../formats/tfjs/index.js";
import { wholeNumbers } from "../../whole-numbers.js";
import { add, addConstant } from "../draft.js";
import { isChannelsFirst, type LayerTranslation, list, pair } from "./site.js";

/** What moves elements about, and computes none. */

export const zeroPadding: LayerTranslation = ({ draft, config, inputs: [x = ""], output }) => {
  const { padding } = config;
  const [rows = 0, columns = 0] = typeof padding === "number" ? [padding, padding] : arrayOf(padding);
  const [[top = 0, bottom = 0], [left = 0, right = 0]] = [pair(rows), pair(columns)];
  const [before, after] = isChannelsFirst(config)
    ? [
        [0, 0, top, left],
        [0, 0, bottom, right],
      ]
    : [
        [0, top, left, 0],
        [0, bottom, right, 0],
      ];
  return add(draft, "Pad", [x], output, { pads: ints(...before, ...after) });
};

export const reshape: LayerTranslation = ({ draft, config, inputs: [x = ""], output }) => {
  const target = list(config.target_shape);
  if (!target.every(Number.isSafeInteger)) return undefined;
  return add(
    draft,
    "Reshape",
    [x, addConstant(draft, `${output}#shape`, wholeNumbers([-1, ...target]))],
    output,
  );
};

export const permute: LayerTranslation = ({ draft, config, inputs: [x = ""], output }) =>
  add(draft, "Transpose", [x], output, { perm: ints(0, ...list(config.dims)) });
