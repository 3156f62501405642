import type { StoredTensor } from "../../convert/formats/tfjs/model.js";
import type { StateDict, Tensor } from "../../core/tensor.js";
import { castFloat, toFloat32 } from "../../core/tensor-cast.js";
import type { Located } from "./located.js";

/** A way in which all weights of a file may have been rounded: if it is right, these constants have these weights. */
interface Rounding {
  /** The finding, if it is right. */
  readonly says: string;
  readonly constants: Located["constants"];
  /** The checkpoint's weights; rounded if that came before folding. */
  readonly weights: () => StateDict;
}

type Narrow = "float16" | "bfloat16";

/**
 * To a narrower type and back, as the weights are in the file, or before batch norms were folded into them.
 *
 * @param isFolded whether any batch norm is folded
 */
export function roundings(
  { constants }: Located,
  stateDict: StateDict,
  isFolded: boolean,
): readonly Rounding[] {
  return (["float16", "bfloat16"] as const).flatMap((dtype) => [
    {
      says: `the weights are rounded to ${dtype}`,
      constants: narrowed(constants, dtype),
      weights: () => stateDict,
    },
    ...(isFolded ? ROUNDED_BEFORE : []).map((isRounded) => ({
      says: `the weights are rounded to ${dtype}, before batch norms were folded into them`,
      constants,
      weights: () => withRounded(stateDict, dtype, isRounded),
    })),
  ]);
}

/** What was rounded before folding: everything, what is trained and not statistics, or weights alone. */
const ROUNDED_BEFORE: readonly ((path: string, tensor: Tensor) => boolean)[] = [
  () => true,
  (path) => !/\.running_(?:mean|var)$/.test(path),
  (_, { shape }) => shape.length > 1,
];

function withRounded(
  stateDict: StateDict,
  dtype: Narrow,
  isRounded: (path: string, tensor: Tensor) => boolean,
): StateDict {
  return new Map(
    [...stateDict].map(([path, tensor]) => [
      path,
      tensor.dtype.startsWith("float") && isRounded(path, tensor)
        ? toFloat32(castFloat(tensor, dtype, path), path)
        : tensor,
    ]),
  );
}

/** Constants in the narrower type, where that has all of their values. */
function narrowed(constants: Located["constants"], dtype: Narrow): Located["constants"] {
  const inType = (tensor: StoredTensor, layer: string): StoredTensor => {
    if (tensor.dtype !== "float32" || tensor.stored) return tensor;
    const narrow = castFloat(tensor, dtype, layer);
    const { data } = toFloat32(narrow, layer);
    return data.every((value, index) => value === tensor.data[index]) ? narrow : tensor;
  };
  return (node, roles) =>
    new Map([...constants(node, roles)].map(([role, tensor]) => [role, inType(tensor, node.name)]));
}
