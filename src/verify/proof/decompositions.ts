import type { LayerNode, Op, OpKind } from "../../arch/index.js";
import { IMAGENET, type PixelOrder } from "../../convert/export/options.js";
import { type Shape, sameShape, type Tensor } from "../../core/tensor.js";
import type { Operations } from "./operations.js";

type Of<K extends OpKind> = LayerNode & { readonly op: Op<K> };

/**
 * Layers that documents write as several operations. Each function returns the input of the layer that a value is, or
 * undefined if it is not that layer.
 */
interface Decompositions {
  /**
   * The mean or maximum over height and width, which remain as axes of size 1. `shape` is that of the map, if it is
   * fixed.
   */
  readonly pooled: (value: string, shape: Shape | undefined, type: "mean" | "max") => string | undefined;
  readonly batchNorm: (value: string, layer: Of<"batchNorm">) => string | undefined;
  readonly instanceNorm: (
    value: string,
    layer: Of<"instanceNorm">,
    shape: Shape | undefined,
  ) => string | undefined;
  readonly layerNorm: (value: string, layer: Of<"layerNorm">) => string | undefined;
  /** The order of channels of the pixels that a value normalises as torchreid does. */
  readonly pixels: (value: string, input: string) => PixelOrder | undefined;
}

export function decompositionsOf({
  origin,
  at,
  call,
  orders,
  same,
  isNumber,
  channels,
  isParameter,
  isChannels,
}: Operations): Decompositions {
  const pooled: Decompositions["pooled"] = (value, shape, type) =>
    reduced(value, shape, type) ?? (type === "mean" ? meanOfRest(value, shape) : undefined);
  const meanOf = (value: string, shape: Shape | undefined): string | undefined =>
    pooled(value, shape, "mean");
  /** A mean, plus the mean of the values minus that mean, which is zero except for rounding. */
  const meanOfRest = (value: string, shape: Shape | undefined): string | undefined => {
    for (const [rough, off] of orders(value, "add")) {
      const x = reduced(rough, shape, "mean");
      const rest = call(reduced(off, shape, "mean"), "subtract");
      if (x !== undefined && rest && same(rest[0], x) && same(rest[1], rough)) return x;
    }
    return undefined;
  };
  const reduced = (value: string, shape: Shape | undefined, type: "mean" | "max"): string | undefined => {
    const [, , height = 0, width = 0] = shape ?? [];
    // One axis after the other, or both at once; an axis of size 1 needs no step.
    let [left, x] = [new Set([2, 3]), origin(value)];
    for (let steps = 0; steps < 2 && left.size > 0; steps++) {
      const reduce = at(x, "reduce");
      const pool = at(x, "pool");
      if (reduce?.keeps && reduce.type === type && reduce.axes.every((axis) => left.has(axis))) {
        left = new Set([...left].filter((axis) => !reduce.axes.includes(axis)));
        x = origin(reduce.x);
      } else if (pool && shape && pool.type === type && sameShape(pool.padding, [0, 0])) {
        const [rows, columns] = pool.window;
        const isWhole = (rows === height || rows === 1) && (columns === width || columns === 1);
        if (!isWhole || !sameShape(pool.window, pool.stride)) break;
        left = new Set([...left].filter((axis) => (axis === 2 ? rows !== height : columns !== width)));
        x = origin(pool.x);
      } else break;
    }
    return [...left].every((axis) => shape?.[axis] === 1) ? x : undefined;
  };

  /** A value times γ / √(variance + ε), in any form. */
  const scalings = (
    value: string | undefined,
    layer: Of<"batchNorm" | "instanceNorm" | "layerNorm">,
  ): readonly { readonly x: string; readonly variance: string; readonly scale: string }[] => {
    const stabilised = (root: string | undefined): string | undefined =>
      orders(root, "add").find(([, added]) => isNumber(added, layer.op.epsilon))?.[0];
    return orders(value, "multiply").flatMap(([x, scale]) => {
      const quotient = call(x, "divide");
      const variance = stabilised(call(quotient?.[1], "sqrt")?.[0]);
      if (quotient && variance !== undefined && isChannels(layer, "weight", scale))
        return [{ x: quotient[0], variance, scale }];
      return orders(scale, "multiply").flatMap(([root, gamma]) => {
        const inside = stabilised(call(root, "rsqrt")?.[0]);
        return inside !== undefined && isChannels(layer, "weight", gamma)
          ? [{ x, variance: inside, scale }]
          : [];
      });
    });
  };

  /** (x − mean) · s + β, s = γ / √(variance + ε). */
  const batchNorm: Decompositions["batchNorm"] = (value, layer) => {
    for (const [scaled, beta] of orders(value, "add"))
      for (const { x: centred, variance } of scalings(scaled, layer)) {
        const [x, mean = ""] = call(centred, "subtract") ?? [];
        const isNorm =
          isChannels(layer, "runningVar", variance) &&
          isChannels(layer, "runningMean", mean) &&
          isChannels(layer, "bias", beta);
        if (x !== undefined && isNorm) return x;
      }
    return undefined;
  };

  /** x · s + (β − mean · s), s = γ / √(variance + ε). */
  const instanceNorm: Decompositions["instanceNorm"] = (value, layer, shape) => {
    for (const [scaled, shift] of orders(value, "add"))
      for (const { x, variance, scale } of scalings(scaled, layer)) {
        const [beta = "", moved] = call(shift, "subtract") ?? [];
        if (!isChannels(layer, "bias", beta)) continue;
        for (const [mean, again] of orders(moved, "multiply")) {
          const squares = call(meanOf(variance, shape), "squaredDifference");
          const isNorm =
            same(again, scale) &&
            same(meanOf(mean, shape), x) &&
            squares &&
            same(squares[0], x) &&
            same(squares[1], mean);
          if (isNorm) return x;
        }
      }
    return convolvedInstanceNorm(value, layer, shape);
  };

  /** −x. */
  const opposite = (value: string | undefined): string | undefined => {
    const found = at(value, "rescale");
    return found?.factor === -1 && found.offset === 0 ? found.x : undefined;
  };
  /** −c², as a product of c with its opposite. */
  const minusSquare = (value: string | undefined): string | undefined =>
    orders(value, "multiply").find(([x, mirrored]) => same(opposite(mirrored), x))?.[0];

  /**
   * γ, β by a depthwise convolution of y + y · e / 2, with y = c / √(v + ε) of c = x − mean and e = v / (v + ε) − mean(y²), which is zero.
   */
  const convolvedInstanceNorm: Decompositions["instanceNorm"] = (value, layer, shape) => {
    const { epsilon, channels: count } = layer.op;
    const scaled = at(value, "conv");
    for (const [y, correction] of orders(scaled?.x, "add"))
      for (const [factor, half] of orders(correction, "multiply")) {
        const norm = at(y, "normalise");
        const halved = at(half, "rescale");
        if (!scaled || !norm || !same(factor, y) || halved?.factor !== 0.5 || halved.offset !== 0) continue;
        for (const [expected, energy] of orders(halved.x, "add")) {
          const ratio = at(call(expected, "softsign")?.[0], "rescale");
          const isRatio = ratio?.offset === 0 && ratio.factor === -1 / epsilon;
          const centred = norm.x;
          const isVariance = isRatio && same(minusSquare(meanOf(ratio.x, shape)), centred);
          const isEnergy = same(minusSquare(meanOf(energy, shape)), y);
          const [x] = orders(centred, "add").flatMap(([left, mean]) =>
            same(meanOf(opposite(mean) ?? "", shape), left) ? [left] : [],
          );
          const isNorm =
            norm.epsilon === epsilon && sameShape(norm.axes, [2, 3]) && !norm.gamma && !norm.beta;
          const isScale =
            scaled.groups === count &&
            sameShape(scaled.stride, [1, 1]) &&
            sameShape(scaled.padding, [0, 0]) &&
            sameShape(scaled.weight.shape, [count, 1, 1, 1]) &&
            isParameter(layer, "weight", { ...scaled.weight, shape: [count] }) &&
            isParameter(layer, "bias", scaled.bias);
          if (isVariance && isEnergy && isNorm && isScale) return x;
        }
      }
    return undefined;
  };

  /** (x − mean) · γ / √(variance + ε) + β of one pixel, over all its channels. */
  const layerNorm: Decompositions["layerNorm"] = (value, layer) => {
    const overAll = (name: string | undefined): string | undefined => {
      const reduce = at(name, "reduce");
      return reduce?.keeps && reduce.type === "mean" && sameShape(reduce.axes, [1, 2, 3])
        ? reduce.x
        : undefined;
    };
    const squareOf = (name: string | undefined): string | undefined => {
      const [a, b] = call(name, "multiply") ?? [];
      return call(name, "square")?.[0] ?? (same(a, b) ? a : undefined);
    };
    for (const [scaled, beta] of orders(value, "add"))
      for (const { x: centred, variance } of scalings(scaled, layer)) {
        const [x, mean] = call(centred, "subtract") ?? [];
        const isNorm =
          same(overAll(mean), x) &&
          same(squareOf(overAll(variance)), centred) &&
          isChannels(layer, "bias", beta);
        if (isNorm) return x;
      }
    return undefined;
  };

  /** (x / 255 − mean) / deviation by channel, of pixels in either order. */
  const pixels: Decompositions["pixels"] = (value, input) => {
    const [centred, deviation = ""] = call(value, "divide") ?? [];
    const [scaled, mean = ""] = call(centred, "subtract") ?? [];
    const [pixel = "", white = ""] = call(scaled, "divide") ?? [];
    const swap = at(pixel, "reverse");
    const isPixels =
      isVector(channels(deviation, 4), IMAGENET.deviation) &&
      isVector(channels(mean, 4), IMAGENET.mean) &&
      isNumber(white, IMAGENET.white);
    if (isPixels && origin(swap?.x ?? pixel) === input) return swap ? "bgr" : "rgb";
    return convolvedPixels(value, input);
  };
  /** The same as a 1×1 convolution without padding. */
  const convolvedPixels: Decompositions["pixels"] = (value, input) => {
    const conv = at(value, "conv");
    const { white, mean, deviation } = IMAGENET;
    const isOnePixel =
      conv?.groups === 1 &&
      sameShape(conv.weight.shape, [3, 3, 1, 1]) &&
      sameShape(conv.stride, [1, 1]) &&
      sameShape(conv.padding, [0, 0]) &&
      origin(conv.x) === input;
    const shift = deviation.map((spread, channel) => -(mean[channel] ?? 0) / spread);
    if (!isOnePixel || !isVector(conv.bias, shift)) return undefined;
    return (["rgb", "bgr"] as const).find((order) =>
      [...conv.weight.data].every((number, index) => {
        const [channel, from] = [Math.floor(index / 3), index % 3];
        const taken = order === "bgr" ? 2 - channel : channel;
        return number === (from === taken ? Math.fround(1 / (white * (deviation[channel] ?? 1))) : 0);
      }),
    );
  };

  return { pooled, batchNorm, instanceNorm, layerNorm, pixels };
}

function isVector(tensor: Tensor | undefined, wanted: readonly number[]): boolean {
  return (
    tensor?.dtype === "float32" &&
    sameShape(tensor.shape, [wanted.length]) &&
    wanted.every((value, index) => tensor.data[index] === Math.fround(value))
  );
}
