import type { JsonObject, LayerCall, StoredTensor, TfjsLayersModel } from "../../formats/tfjs/index.js";

/** The weights of a layers model by layer and role: `conv1/kernel`. */
export function layerWeights(
  { weights }: TfjsLayersModel,
  calls: readonly LayerCall[],
): ReadonlyMap<string, StoredTensor> {
  const places = placesOfKeras3(calls);
  const named = new Map<string, StoredTensor>();
  for (const [name, { tensor, stored }] of weights)
    named.set(places.get(name) ?? name, stored ? { ...tensor, stored } : tensor);
  // tfjs looks a weight up without the scope before its own name too: `conv1/conv1/kernel` is `conv1/kernel`.
  for (const [name, tensor] of [...named]) {
    const short = name.replace(/\/[^/]+(?=\/[^/]+$)/, "");
    if (!named.has(short)) named.set(short, tensor);
  }
  return named;
}

/** The weights of Keras's layers in the order in which it keeps them; it leaves out those that a layer goes without. */
const ROLES: Readonly<Record<string, (config: JsonObject) => readonly string[]>> = {
  BatchNormalization: (config) => [...affine(config), "moving_mean", "moving_variance"],
  Conv2D: () => ["kernel", "bias"],
  Dense: () => ["kernel", "bias"],
  DepthwiseConv2D: () => ["kernel", "bias"],
  LayerNormalization: affine,
};

function affine({ scale, center }: JsonObject): readonly string[] {
  return [...(scale === false ? [] : ["gamma"]), ...(center === false ? [] : ["beta"])];
}

/**
 * What tensorflowjs calls the weights of a .keras file: `layers/conv2d_1/vars/0` is the first weight of the model's second
 * `Conv2D`, whatever that is called (Keras's `saving_lib.py`).
 */
function placesOfKeras3(calls: readonly LayerCall[]): ReadonlyMap<string, string> {
  const layers = new Map(calls.map((call) => [call.layer, call]));
  const counts = new Map<string, number>();
  const places = new Map<string, string>();
  for (const { layer, className, config } of layers.values()) {
    const kind = snakeCase(className);
    const count = counts.get(kind) ?? 0;
    counts.set(kind, count + 1);
    const roles = Object.hasOwn(ROLES, className) ? (ROLES[className]?.(config) ?? []) : [];
    for (const [at, role] of roles.entries())
      places.set(`layers/${kind}${count === 0 ? "" : `_${count}`}/vars/${at}`, `${layer}/${role}`);
  }
  return places;
}

/** Keras's `to_snake_case`: `DepthwiseConv2D` is `depthwise_conv2d`. */
function snakeCase(name: string): string {
  return name
    .replaceAll(/\W+/g, "")
    .replaceAll(/(.)([A-Z][a-z]+)/g, "$1_$2")
    .replaceAll(/([a-z])([A-Z])/g, "$1_$2")
    .toLowerCase();
}
