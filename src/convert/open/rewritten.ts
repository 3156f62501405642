import { printable, quote } from "../formats/refusals.js";

/** What a tool has made of a model before it was saved: its weights are no longer those that the network was trained with. */
interface Rewriting {
  /** What the file is, with a key that shows it. */
  readonly found: string;
  readonly remedy: string;
}

interface Row {
  readonly shownBy: RegExp;
  /** What a model may have beside that if it was not rewritten in this way. */
  readonly unless?: string;
  readonly what: string;
  readonly remedy: string;
}

/** In the order of preference: a quantised model is often fused too. */
const KEYS: readonly Row[] = [
  {
    shownBy: /(?:^|\.)(?:activation_post_process|weight_fake_quant|fake_quant\w*|observer)\./,
    what: "a model prepared for quantisation",
    remedy: "save the state dict of the model before torch.ao.quantization.prepare",
  },
  {
    shownBy: /\._packed_params(?:\.|$)/,
    what: "a quantised model",
    remedy: "use the float model that it was quantised from",
  },
  {
    shownBy: /\.parametrizations\.|\.weight_(?:orig|mask|g|v|u)$/,
    what: "a model whose weights are computed from other tensors (a weight norm, a spectral norm or pruning)",
    remedy:
      "make them permanent with torch.nn.utils.parametrize.remove_parametrizations, remove_weight_norm, remove_spectral_norm or prune.remove, and save the state dict again",
  },
  {
    shownBy: /^conv1\.conv\.(?:0\.)?bias$/,
    unless: "conv1.bn.weight",
    what: "a model whose batch norms are fused into its convolutions",
    remedy: "save the state dict before fusing, or export the fused model to ONNX",
  },
];

/** Classes of modules that a whole model may have. */
const CLASSES: readonly Row[] = [
  {
    shownBy: /^torch(?:\.ao)?\.nn\.(?:intrinsic\.)?(?:quantized|qat)\b/,
    what: "a quantised model",
    remedy: "use the float model that it was quantised from",
  },
];

/**
 * What a tool has made of a model that is not a complete OSNet; undefined if nothing shows that.
 *
 * @param keys of its state dict
 * @param classes of its modules, if it was pickled whole
 */
export function rewriting(keys: Iterable<string>, classes: Iterable<string>): Rewriting | undefined {
  const [names, types] = [[...keys], [...classes]];
  for (const [rows, shown] of [
    [CLASSES, types],
    [KEYS, names],
  ] as const)
    for (const { shownBy, unless, what, remedy } of rows) {
      const example = shown.find((name) => shownBy.test(name));
      if (example !== undefined && !(unless !== undefined && shown.includes(unless)))
        return { found: `${what}, which has ${rows === KEYS ? quote(example) : printable(example)}`, remedy };
    }
  return undefined;
}
