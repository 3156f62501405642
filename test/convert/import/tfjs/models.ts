import type {
  TfjsGraphModel,
  TfjsLayersModel,
  TfjsModel,
} from "../../../../src/convert/formats/tfjs/model.js";

/** TensorFlow.js models as others write them: the same network without a name that means anything. */

export function anonymous(model: TfjsModel): TfjsModel {
  return model.format === "graph-model" ? anonymousGraph(model) : anonymousLayers(model);
}

/** A name by number, the same for the same name. */
function numbered(prefix: string): (name: string) => string {
  const names = new Map<string, string>();
  return (name) => {
    const known = names.get(name) ?? `${prefix}${names.size}`;
    names.set(name, known);
    return known;
  };
}

function anonymousGraph({ nodes, weights, signature, format }: TfjsGraphModel): TfjsGraphModel {
  const rename = numbered("StatefulPartitionedCall/n");
  const info = <T extends { readonly name: string }>(value: T): T => ({
    ...value,
    name: `${rename(value.name.replace(/:0$/, ""))}:0`,
  });
  return {
    format,
    // Backwards, as the order of nodes says nothing.
    nodes: nodes
      .map((node) => ({ ...node, name: rename(node.name), inputs: node.inputs.map(rename) }))
      .toReversed(),
    weights: new Map([...weights].map(([name, weight]) => [rename(name), weight])),
    signature: {
      inputs: new Map([...signature.inputs.values()].map((value, index) => [`in_${index}`, info(value)])),
      outputs: new Map([...signature.outputs.values()].map((value, index) => [`out_${index}`, info(value)])),
    },
  };
}

function anonymousLayers({ format, topology, weights }: TfjsLayersModel): TfjsLayersModel {
  const rename = numbered("layer_");
  const layers = new Set([...weights.keys()].map((name) => name.split("/")[0] ?? ""));
  const renamed = JSON.parse(JSON.stringify(topology), (key, value) => {
    if (key === "name" && typeof value === "string") return rename(value);
    // A reference: ["conv1.conv", 0, 0], perhaps with arguments behind it.
    return Array.isArray(value) && typeof value[0] === "string" && typeof value[1] === "number"
      ? [rename(value[0]), ...value.slice(1)]
      : value;
  });
  return {
    format,
    topology: renamed,
    weights: new Map(
      [...weights].map(([name, weight]) => {
        const [layer = "", role = ""] = name.split("/");
        if (!layers.has(layer)) throw new Error(`no layer ${layer}`);
        return [`${rename(layer)}/${role}`, weight];
      }),
    ),
  };
}
