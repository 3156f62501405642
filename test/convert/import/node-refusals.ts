import type { NodeCase } from "./node-cases.js";

/** Uses of an operator that no layer of an OSNet has: they must not be taken for one. */

export interface Refusal {
  readonly cases: RegExp;
  /** What they are read as instead of a layer. */
  readonly found: string;
  readonly because: string;
}

const UNKNOWN = "numbers that are not known";

export const REFUSALS: readonly Refusal[] = [
  { cases: /^test_averagepool_1d_/, found: "AveragePool", because: "images have a plane" },
  { cases: /^test_maxpool_1d_/, found: "MaxPool", because: "images have a plane" },
  {
    cases: /^test_(average|max)pool_2d_ceil(?!_last)/,
    found: "rounding of the size up",
    because: "torchreid's pools round down",
  },
  {
    cases: /^test_averagepool_2d_ceil_last/,
    found: "padding [1, 1, 1, 1], rounding of the size up",
    because: "torchreid's average pools are not padded",
  },
  {
    cases: /^test_averagepool_2d_precomputed_same/,
    found: "padding [1, 1, 1, 1]",
    because: "torchreid's average pools are not padded",
  },
  {
    cases: /^test_averagepool_2d_precomputed_pads/,
    found: "padding [2, 2, 2, 2]",
    because: "torchreid's average pools are not padded",
  },
  {
    cases: /^test_averagepool_2d_dilations/,
    found: "dilation [2, 2]",
    because: "torchreid's have none",
  },
  {
    cases: /^test_maxpool_2d_dilations/,
    found: "dilation [2, 2]",
    because: "torchreid's have none",
  },
  {
    cases: /^test_batchnorm_.*training_mode$/,
    found: "a batch norm in training mode",
    because: "it normalises by the batch",
  },
  {
    cases: /^test_training_dropout(?!_zero_ratio)/,
    found: "a dropout in training mode",
    because: "it drops activations",
  },
  {
    cases: /^test_clip(?!_default_min)/,
    found: "Clip",
    because: "a ReLU has 0 as its lower bound and no other",
  },
  { cases: /^test_constant_pad$/, found: "padding", because: "only convolutions and max pools are padded" },
  { cases: /^test_constant_pad_.*axes$/, found: "Pad", because: "exporters pad all axes" },
  { cases: /^test_add_bcast$/, found: "Add", because: "parameters are spread over channels, not columns" },
  { cases: /^test_mul_bcast$/, found: "Mul", because: "parameters are spread over channels, not columns" },
  { cases: /^test_sub(_bcast)?$/, found: "Sub", because: "not a difference from a parameter" },
  { cases: /^test_div(_bcast)?$/, found: "Div", because: "not a quotient by a parameter" },
  { cases: /^test_mul$/, found: "a product of two values", because: "neither of two maps is a gate" },
  { cases: /^test_flatten_/, found: "Flatten", because: "only pooled maps are flattened" },
  {
    cases: /^(test_gathernd_|GatherND of pairs)/,
    found: "GatherND",
    because: "not a reordering of all channels",
  },
  { cases: /^GatherND of rows/, found: "GatherND", because: "only channels are reordered" },
  { cases: /^test_gather_/, found: "Gather", because: "not a reordering of all channels" },
  {
    cases: /^test_gemm_(all_attributes|default_matrix_bias|transposeA)$/,
    found: "Gemm",
    because: "not a linear layer",
  },
  { cases: /^test_matmul_(?!2d)/, found: "MatMul", because: "not a linear layer" },
  {
    cases: /^test_layer_normalization_/,
    found: "LayerNormalization",
    because: "only gates have layer norms, of pooled maps",
  },
  {
    cases: /^test_(l1normalization_|l2normalization_axis_0|lpnormalization_default)/,
    found: "LpNormalization",
    because: "not a division of each embedding by its length",
  },
  { cases: /^test_reduce_max_/, found: "ReduceMax", because: "not over the plane" },
  { cases: /^test_reduce_mean_/, found: "ReduceMean", because: "not over the plane" },
  { cases: /^test_concat_[23]d_/, found: UNKNOWN, because: "shapes and paddings are lists" },
  {
    cases: /^test_constantofshape_(float_ones|int_zeros)/,
    found: UNKNOWN,
    because: "shapes and paddings are lists",
  },
  { cases: /^test_dequantizelinear_blocked/, found: UNKNOWN, because: "weights have scales by channel" },
  { cases: /^test_expand_/, found: UNKNOWN, because: "only single numbers are expanded, to biases" },
  { cases: /^test_reshape_allowzero_/, found: UNKNOWN, because: "weights are not empty" },
  { cases: /^test_(equal|not)[ _]/, found: UNKNOWN, because: "branches are chosen by single numbers" },
  { cases: /^test_tile/, found: UNKNOWN, because: "only lists are repeated" },
  { cases: /^Clip from 0 to a computed/, found: "Clip", because: "the bound is not known" },
  {
    cases: /^GroupNormalization of all/,
    found: "GroupNormalization with num_groups 1",
    because: "not by channel",
  },
  { cases: /^Slice by computed/, found: "Slice", because: "the steps are not known" },
  { cases: /^DequantizeLinear from/, found: "MatMul", because: "the weight is not known" },
  { cases: /^Cast to whole/, found: "Cast", because: "it rounds" },
  { cases: /^Reshape of rows to other/, found: "Reshape to [3, 2]", because: "it mixes images" },
  { cases: /^LayerNormalization of single/, found: "LayerNormalization", because: "not over the channels" },
  { cases: /^Gather of (rows|a channel)/, found: "Gather", because: "only all channels are reordered" },
  { cases: /^Slice of (all|every other)/, found: "Slice", because: "only all channels are turned round" },
  {
    cases: /^Conv with SAME_UPPER of an odd/,
    found: "padding [0, 1, 1, 1]",
    because: "torchreid pads evenly",
  },
  {
    cases: /^Conv with SAME_LOWER of an odd/,
    found: "padding [1, 1, 0, 1]",
    because: "torchreid pads evenly",
  },
  { cases: /^Conv in steps/, found: "padding SAME_UPPER", because: "the padding depends on the image" },
  { cases: /^Pad by reflection/, found: "Pad (reflect)", because: "torchreid pads with zeros" },
  { cases: /^Add over other axes/, found: "Add over other axes", because: "rows are no channels" },
  { cases: /^Transpose of rows/, found: "Transpose", because: "images are no features" },
  { cases: /^(ReduceL2 (over|times)|A length)/, found: "ReduceL2", because: "not each embedding's length" },
  { cases: /^Div by a/, found: "Pow", because: "not each embedding's own length" },
  { cases: /^A cube root/, found: "a product of two values", because: "not each embedding's length" },
  {
    cases: /^BatchNormalization in/,
    found: "a batch norm in training mode",
    because: "it normalises by the batch",
  },
  { cases: /^Max with (one|zero and)/, found: "Max", because: "a ReLU's lower bound is 0" },
  { cases: /^Clip from 0 to 6/, found: "Clip", because: "torchreid's ReLUs have no upper bound" },
  { cases: /^FusedConv with Clip from/, found: "Clip", because: "torchreid's ReLUs have no upper bound" },
  { cases: /^Reshape of rows to/, found: "Reshape to [0, 1, 3, 1]", because: "gates are single pixels" },
  {
    cases: /^Pad with zeros before MaxPool$/,
    found: "padding",
    because: "zeros are no minimum of any numbers",
  },
  { cases: /^Pad of the channels/, found: "Pad", because: "only planes are padded" },
  { cases: /^Pad with one/, found: "padding", because: "torchreid pads with zeros" },
  { cases: /^FusedConv with Tanh/, found: "Tanh", because: "torchreid has ReLUs and sigmoids" },
  { cases: /^A norm over/, found: "ReduceMean", because: "norms are over each image by itself" },
  { cases: /^ReduceMean of the/, found: "ReduceMax", because: "neither a mean nor a maximum" },
  {
    cases: /^A norm (from|by the mean square|that)/,
    found: "Sub",
    because: "not the deviation from the mean",
  },
];

export function refusalOf({ name }: NodeCase): Refusal | undefined {
  return REFUSALS.find(({ cases }) => cases.test(name));
}
