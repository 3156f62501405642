import { describe, expect, it } from "vitest";
import { expand, type LayerGraph, type ParameterRole } from "../../../../src/arch/index.js";
import { lowerToTfjs } from "../../../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../../../src/convert/export/tfjs-layers-model.js";
import { VALUE_NAMES } from "../../../../src/convert/export/tfjs-names.js";
import { compareBits } from "../../../../src/convert/export/write.js";
import type { TfjsModel } from "../../../../src/convert/formats/tfjs/model.js";
import { matchTfjs, type TfjsMatch, translateTfjs } from "../../../../src/convert/import/tfjs/translate.js";
import type { Checkpoint } from "../../../../src/convert/open/checkpoint.js";
import { liftStateDict } from "../../../../src/convert/open/lift.js";
import { tfjsNames } from "../../../../src/verify/weights/located.js";
import { ALL, FAMILIES, missing } from "../../../fixtures.js";
import { ONE_BLOCK, type TinyNetwork, tinyCheckpoint } from "../../../mutation/families.js";
import { openFixture, SMALL } from "../../../support/osnet.js";
import { anonymous } from "./models.js";

const subject = "theirs";

const match = (model: TfjsModel, graph: LayerGraph): TfjsMatch =>
  matchTfjs(translateTfjs(model, subject), { subject, graph });

/** The network without its classifier, of which a model of embeddings has none. */
const embedding = ({ spec }: LayerGraph): LayerGraph =>
  expand(spec.head?.loss === "sigmoid" ? spec : { ...spec, head: null });

const FORMS = [
  ["graph, unfolded", lowerToTfjs, { fold: false }],
  ["graph, folded", lowerToTfjs, {}],
  ["layers, folded", lowerToTfjsLayers, {}],
  ["graph, unfolded, TensorFlow's own operators", lowerToTfjs, { fold: false, fuse: false }],
  ["graph, any size", lowerToTfjs, { size: "dynamic" }],
  ["graph of BGR pixels", lowerToTfjs, { preprocess: "bgr" }],
  ["layers, unfolded", lowerToTfjsLayers, { fold: false }],
  ["layers of BGR pixels", lowerToTfjsLayers, { preprocess: "bgr" }],
] as const;

type Form = (typeof FORMS)[number];
type Case = readonly [name: string, absent: string | false, open: () => Checkpoint, forms: readonly Form[]];

const SMALL_NETWORKS: readonly TinyNetwork[] = ["osnet", ...Object.values(ONE_BLOCK).slice(1)];

/** Small networks of every kind in all forms, and those of real size in a form each, in turn. */
const NETWORKS: readonly Case[] = [
  ...FAMILIES.map(
    (family, turn): Case => [
      family,
      missing(`${family}.pth`),
      () => openFixture(family),
      FORMS.filter((_, index) => ALL || index === turn % FORMS.length),
    ],
  ),
  ...SMALL_NETWORKS.map((name): Case => [`small ${name}`, false, () => tinyCheckpoint(name), FORMS]),
];

describe.each(NETWORKS)("matchTfjs on %s as we write it, names taken away", (_, absent, open, forms) => {
  it.for(forms)("%s", ([, lower, options], context) => {
    if (absent) return context.skip(absent);
    const { graph: whole, stateDict } = open();
    const graph = embedding(whole);
    const model = lower(whole, stateDict, { size: SMALL, ...options });
    const named = match(model, graph);
    expect(named.differences).toEqual([]);
    // Here names are the truth that matching does without: of values, and of constants.
    const names = VALUE_NAMES[model.format];
    for (const [layer, value] of named.values) if (layer !== "images") expect(value).toBe(names.of(layer));
    const { constants } = tfjsNames(model, graph, subject);
    for (const node of graph.nodes) {
      if (named.absorbed.has(node.name) || node.op.kind === "input") continue;
      const isAbsorbing = node.op.kind === "batchNorm" && named.absorbed.has(node.inputs[0] ?? "");
      const roles = Object.keys(node.parameters) as ParameterRole[];
      const own = constants(node, isAbsorbing ? ["weight", "bias"] : roles);
      const found = new Map(
        Object.entries(named.constants.get(node.name) ?? {}).map(([role, tensor]) => [
          role,
          // Found by its values alone, without the axes of height and width.
          node.op.kind === "layerNorm"
            ? { ...tensor, shape: own.get(role as ParameterRole)?.shape ?? tensor.shape }
            : tensor,
        ]),
      );
      expect(compareBits(own, found), node.name).toEqual([]);
    }
    const unnamed = match(anonymous(model), graph);
    expect([unnamed.differences, [...unnamed.values.keys()], unnamed.folded]).toEqual([
      [],
      [...named.values.keys()],
      named.folded,
    ]);
    const lifted = liftStateDict(unnamed, { subject });
    expect(compareBits(liftStateDict(named, { subject }).stateDict, lifted.stateDict)).toEqual([]);
    const trained = new Map([...stateDict].filter(([path]) => lifted.stateDict.has(path)));
    const counters = [...trained.keys()].filter((path) => path.endsWith("num_batches_tracked"));
    const kept = new Set([...counters, ...lifted.reparameterised]);
    const rest = <T>(from: ReadonlyMap<string, T>) => new Map([...from].filter(([path]) => !kept.has(path)));
    expect(compareBits(rest(trained), rest(lifted.stateDict))).toEqual([]);
    expect(lifted.reparameterised.length === 0).toBe("fold" in options);
    const pixels = { layout: [0, 2, 3, 1], order: [2, 1, 0], unknown: [] };
    if ("preprocess" in options) expect(unnamed.preprocess).toMatchObject(pixels);
    else expect([unnamed.preprocess, unnamed.layout]).toEqual([undefined, pixels.layout]);
  });
});
