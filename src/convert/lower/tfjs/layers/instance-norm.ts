import type { Op } from "../../../../arch/ops.js";
import { depthwiseConvolution, INPUT, type KerasSite, type KerasStep, wholeMap } from "./step.js";

/**
 * Keras normalises over height and width with a weight per pixel or none: with none, then per channel by a depthwise
 * convolution of one pixel, which holds γ and β.
 *
 * `LayerNormalization` alone would do, but tfjs's WebAssembly adds up all pixels one after the other for it, which at
 * 128×64 pixels puts the variance 2e-6 from what it is, and gates behind it up to six times farther from the truth than PyTorch.
 * So its mean is taken off before, and its scale corrected after, by means over the columns and then over the row of their means:
 * of centred values c with variance v and normalised ones y = c·s, s² ≈ 1 / (v + ε), mean(y²) should be v / (v + ε), which is
 * softsign(v / ε). It is off by a millionth, and y + y · (v / (v + ε) − mean(y²)) / 2 by the square of that.
 */
export function lowerInstanceNorm(
  { epsilon }: Op<"instanceNorm">,
  { input }: KerasSite,
): readonly KerasStep[] {
  const mean = (suffix: string): readonly KerasStep[] => wholeMap("AveragePooling2D", input, suffix);
  return [
    ...mean("-mean"),
    rescaling("-opposite", -1),
    step("-centered", "Add", {}, INPUT, "-opposite"),
    step("-normalized", "LayerNormalization", { axis: [1, 2], epsilon, center: false, scale: false }),
    // A tensor that a layer reads twice is given back too early by tfjs: squares are products with the opposite.
    rescaling("-mirrored", -1, 0, "-centered"),
    step("-squares", "Multiply", {}, "-centered", "-mirrored"),
    ...mean("-variance"),
    rescaling("-ratio", -1 / epsilon),
    step("-expected", "Activation", { activation: "softsign" }),
    rescaling("-inverted", -1, 0, "-normalized"),
    step("-energies", "Multiply", {}, "-normalized", "-inverted"),
    ...mean("-energy"),
    step("-excess", "Add", {}, "-expected", "-energy"),
    rescaling("-half", 0.5),
    step("-correction", "Multiply", {}, "-normalized", "-half"),
    step("-corrected", "Add", {}, "-normalized", "-correction"),
    depthwiseConvolution({ kernel: [1, 1], stride: [1, 1], padding: "valid" }, true),
  ];
}

/** A step without weights, of the step before it or of those that it names. */
function step(
  suffix: string,
  className: string,
  config: KerasStep["config"],
  ...reads: readonly string[]
): KerasStep {
  return { className, config, suffix, ...(reads.length > 0 ? { reads } : {}) };
}

/** x · scale + offset. */
function rescaling(suffix: string, scale: number, offset = 0, ...reads: readonly string[]): KerasStep {
  return step(suffix, "Rescaling", { scale, offset }, ...reads);
}
