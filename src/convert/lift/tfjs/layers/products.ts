import { add, addBias, domainOf } from "../draft.js";
import { addConvolution } from "../windows.js";
import { type LayerSite, type LayerTranslation, windowOf } from "./site.js";

/** Convolutions and matrix products, with their bias. */

export function convolution(kind: "full" | "depthwise"): LayerTranslation {
  return (site) => {
    const { draft, layer, config, inputs } = site;
    const [x = ""] = inputs;
    const names = kind === "full" ? ["kernel"] : ["depthwise_kernel", "kernel"];
    const weight = names.map((name) => `${layer}/${name}`).find((name) => draft.constants.has(name));
    if (weight === undefined) return undefined;
    const window = windowOf(config);
    return biased(site, window.channelsFirst, (output) =>
      addConvolution(draft, kind, [x, weight], output, window),
    );
  };
}

export const dense: LayerTranslation = (site) => {
  const { draft, layer, inputs } = site;
  const [x = ""] = inputs;
  const kernel = `${layer}/kernel`;
  if (!draft.constants.has(kernel)) return undefined;
  return biased(site, false, (output) => add(draft, "MatMul", [x, kernel], output, {}, domainOf(false)));
};

/** A product with its bias, if the layer has one. */
function biased(
  { draft, layer, config, output }: LayerSite,
  channelsFirst: boolean,
  product: (output: string) => string,
): string {
  if (config.use_bias === false) return product(output);
  return addBias(draft, product(`${output}#product`), `${layer}/bias`, output, channelsFirst);
}
