import { type JsonObject, refusal } from "./json.js";
import type { StoredTensor, TfjsLayersModel } from "./model.js";
import type { LayerCall } from "./topology.js";

/**
 * The weights of a layers model by layer and role, `conv1/kernel`, as tfjs finds them (`Container.loadWeights`): it also
 * drops the last but one part of a name, `conv1/conv1/kernel`, unless there is a layer of the whole name.
 *
 * @throws InputError (`format`) if a layer has two weights for one role
 */
export function layerWeights(
  { weights }: TfjsLayersModel,
  calls: readonly LayerCall[],
  subject: string,
): ReadonlyMap<string, StoredTensor> {
  const places = placesOfKeras3(calls);
  const layers = new Set(calls.map(({ layer }) => layer));
  const placeOf = (name: string): string => {
    const layer = outerOf(name);
    const outer = outerOf(layer);
    return !layers.has(layer) && layers.has(outer) ? `${outer}${name.slice(layer.length)}` : name;
  };
  const named = new Map<string, StoredTensor>();
  for (const [name, { tensor, stored }] of weights) {
    const place = places.get(name) ?? placeOf(name);
    if (named.has(place))
      throw refusal(
        subject,
        `a second weight ${JSON.stringify(name.slice(0, 80))} for ${JSON.stringify(place.slice(0, 80))}`,
        "one",
      );
    named.set(place, stored ? { ...tensor, stored } : tensor);
  }
  return named;
}

/** A name without its last part. */
function outerOf(name: string): string {
  return name.replace(/\/?[^/]*$/, "");
}

/**
 * The weights of each Keras layer, in Keras's order, which skips those that a layer is configured without.
 */
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
 * tensorflowjs's names for the weights of a .keras file: `layers/conv2d_1/vars/0` is the first weight of the model's
 * second `Conv2D`, whatever its name (Keras's `saving_lib.py`).
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
