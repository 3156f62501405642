import { lowerToTfjs } from "../../../src/convert/export/tfjs-graph-model.js";
import { lowerToTfjsLayers } from "../../../src/convert/export/tfjs-layers-model.js";
import { decodeTfjs, encodeTfjs } from "../../../src/convert/formats/tfjs/codec.js";
import type { Json, JsonObject } from "../../../src/convert/formats/tfjs/json.js";
import type { TfjsFiles, TfjsModel } from "../../../src/convert/formats/tfjs/model.js";
import { readTopology } from "../../../src/convert/formats/tfjs/topology.js";
import type { Checkpoint } from "../../../src/convert/open/checkpoint.js";
import { InputError } from "../../../src/core/errors.js";
import { mulberry32, once } from "../../../src/core/functions.js";
import type { RealTensor } from "../../../src/core/tensor.js";
import { tfjsBackend } from "../../../src/verify/backends/tfjs.js";
import { type Finding, proveDocument } from "../../../src/verify/proof/index.js";
import type { Outcome } from "./campaign.js";
import { type Random, randomOf } from "./edits.js";
import { type Networks, REFERENCE } from "./seeds.js";
import { differs, inputs } from "./settle.js";

/** A random change of what a model.json says, or of a weight: of the JSON itself, so that nothing is left out. */

interface TfjsSeed {
  readonly name: string;
  readonly open: () => {
    readonly checkpoint: Checkpoint;
    readonly files: TfjsFiles;
    /** What the files give. */
    readonly expected: () => Promise<readonly RealTensor[] | undefined>;
  };
}

const size = { height: 64, width: 32 };

/** Every form of both formats. */
const FORMS: Readonly<Record<string, (checkpoint: Checkpoint) => TfjsModel>> = {
  graph: ({ graph, stateDict }) => lowerToTfjs(graph, stateDict, { size }),
  "graph unfused": ({ graph, stateDict }) =>
    lowerToTfjs(graph, stateDict, { fuse: false, fold: false, size }),
  "graph of any size": ({ graph, stateDict }) =>
    lowerToTfjs(graph, stateDict, { size: "dynamic", preprocess: "bgr" }),
  layers: ({ graph, stateDict }) => lowerToTfjsLayers(graph, stateDict, { size }),
  "layers unfolded": ({ graph, stateDict }) =>
    lowerToTfjsLayers(graph, stateDict, { size, fold: false, preprocess: "rgb" }),
};

/** Each is made, and run, when it is first drawn. */
export function tfjsSeeds(networks: Networks = REFERENCE): readonly TfjsSeed[] {
  return networks.flatMap(([family, network]) =>
    Object.entries(FORMS).map(([form, lower]) => ({
      name: `${family} ${form}`,
      open: once(() => {
        const checkpoint = network();
        const model = lower(checkpoint);
        const files = encodeTfjs(model);
        return { checkpoint, files, expected: once(() => run(files, model)) };
      }),
    })),
  );
}

/** A place in a document: an object or list, and a key of it. */
interface Place {
  readonly owner: Record<string, Json>;
  readonly key: string;
}

function placesIn(value: Json, found: Place[] = []): readonly Place[] {
  if (typeof value !== "object" || value === null) return found;
  const owner = value as Record<string, Json>;
  for (const key of Object.keys(owner)) {
    found.push({ owner, key });
    placesIn(owner[key] as Json, found);
  }
  return found;
}

const EXTRA: readonly (readonly [string, Json])[] = [
  ["activation", "relu"],
  ["training", true],
  ["axis", 1],
  ["data_format", "channels_first"],
  ["is_training", { b: true }],
  ["transpose_a", { b: true }],
  ["keep_dims", { b: false }],
  ["activation", "linear"],
  ["dtype", "float16"],
  ["padding", "same"],
  ["dilation_rate", [2, 2]],
  ["use_bias", false],
  ["depth_multiplier", 2],
  ["input", ["images"]],
];

/** The parts of a document that say what it computes, and the files beside it. */
function edited(
  { json, shards }: TfjsFiles,
  random: Random,
): { readonly what: string; readonly files: TfjsFiles } {
  const { pick, below } = random;
  const document = JSON.parse(new TextDecoder().decode(json)) as Record<string, Json>;
  const topology = document.modelTopology as JsonObject;
  const config = ((topology.model_config as JsonObject | undefined)?.config ?? {}) as JsonObject;
  const nodes = (topology.node ?? config.layers ?? []) as JsonObject[];
  const finish = (what: string): ReturnType<typeof edited> => ({
    what,
    files: { json: new TextEncoder().encode(JSON.stringify(document)), shards },
  });
  const choice = below(10);
  if (choice === 0) {
    const [[path, bytes] = ["", new Uint8Array()]] = shards;
    const data = bytes.slice();
    const view = new DataView(data.buffer);
    const at = 4 * below(Math.floor(data.length / 4));
    const old = view.getFloat32(at, true);
    view.setFloat32(at, pick([old * 2, -old, old + 1e-3, Number.NaN, 0, old * (1 + 2 ** -23)]), true);
    return {
      what: `weight at ${at}: ${view.getFloat32(at, true)} for ${old}`,
      files: { json, shards: new Map([[path, data]]) },
    };
  }
  if (choice === 1) {
    // Two weights of one shape exchange their names.
    const [group] = document.weightsManifest as unknown as { weights: { name: string; shape: number[] }[] }[];
    const first = pick(group?.weights ?? []);
    const second = pick((group?.weights ?? []).filter(({ shape }) => String(shape) === String(first.shape)));
    [first.name, second.name] = [second.name, first.name];
    return finish(`weights ${first.name} and ${second.name} exchanged`);
  }
  if (choice === 2 && nodes.length > 0) {
    const [node, other] = [pick(nodes), pick(nodes)];
    nodes.splice(
      nodes.indexOf(node),
      1,
      ...pick([
        [],
        [node, node],
        [other],
        [{ ...node, op: other.op ?? "", class_name: other.class_name ?? "" }],
      ]),
    );
    return finish(`node ${node.name} taken out, twice, or for ${other.name}`);
  }
  // Half of the time a node of a kind of which there are few.
  const kindOf = ({ op, class_name: name }: JsonObject): string => String(op ?? name);
  const kind = pick([...new Set(nodes.map(kindOf))]);
  const scope =
    below(8) === 0
      ? ({
          signature: document.signature ?? {},
          config: { ...config, layers: [] },
          meta: document.userDefinedMetadata ?? {},
        } as Json)
      : pick(below(2) === 0 ? nodes : nodes.filter((node) => kindOf(node) === kind));
  const { owner, key } = pick(placesIn(scope));
  const old = owner[key];
  const pool = placesIn(nodes).filter((place) => place.key === key);
  const another = pick(pool.length > 0 ? pool : [{ owner, key }]);
  const values: Json[] = [another.owner[another.key] ?? null, another.owner[another.key] ?? null];
  if (typeof old === "number") values.push(old + 1, old - 1, -old, old * 1.5, 0);
  if (typeof old === "boolean") values.push(!old, !old);
  if (typeof old === "string") {
    const number = Number(old);
    if (Number.isInteger(number)) values.push(String(number + 1), String(number - 1), "0");
    values.push(
      ...["VALID", "SAME", "NHWC", "NCHW", "Relu", "linear", "relu", "same", "valid", "channels_first"].map(
        (word) => (below(2) ? word : btoa(word)),
      ),
    );
    values.push(pick(nodes.map(({ name }) => String(name))), `${old}:1`, `^${old}`);
  }
  if (Array.isArray(old)) values.push(old.toReversed(), old.slice(1), [...old, ...old.slice(0, 1)]);
  if (below(6) === 0) {
    if (Array.isArray(owner)) owner.splice(Number(key), 1);
    else delete owner[key];
    return finish(`${key} left out of ${JSON.stringify(scope).slice(0, 60)}`);
  }
  if (below(6) === 0 && !Array.isArray(owner)) {
    const [name, value] = pick(EXTRA);
    owner[name] = structuredClone(value);
    return finish(`${name} ${JSON.stringify(value)} in ${JSON.stringify(scope).slice(0, 60)}`);
  }
  const others = values.filter((value) => JSON.stringify(value) !== JSON.stringify(old));
  // A copy: what another place has may be what this one is in.
  owner[key] = structuredClone(others.length > 0 ? pick(others) : { other: true });
  return finish(
    `${key} = ${JSON.stringify(owner[key])?.slice(0, 80)} for ${JSON.stringify(old)?.slice(0, 80)} in ${JSON.stringify(scope).slice(0, 60)}`,
  );
}

interface Proved {
  readonly model: TfjsModel;
  readonly finding: Finding;
}

function proved(files: TfjsFiles, { graph, stateDict }: Checkpoint): Proved | undefined {
  try {
    const model = decodeTfjs(files, { subject: "edited" });
    const finding = proveDocument({ format: "tfjs", model }, graph, stateDict);
    return typeof finding === "string" ? undefined : { model, finding };
  } catch (error) {
    if (error instanceof InputError) return undefined;
    throw error;
  }
}

/** What a program receives first, for each of the images; undefined if the model does not run. */
async function run(files: TfjsFiles, model: TfjsModel): Promise<readonly RealTensor[] | undefined> {
  const outputs =
    model.format === "layers-model"
      ? readTopology(model, "edited").outputs.length
      : model.signature.outputs.size;
  const plain = tfjsBackend(
    "tfjs-wasm",
    { files, outputs, tapped: { files, input: "" }, nodes: new Map() },
    "edited",
  ).load([{ name: "first", index: 0 }]);
  const results: RealTensor[] = [];
  try {
    for (const images of inputs(2)) results.push(...(await plain.run(images)));
  } catch {
    return undefined;
  }
  return results;
}

export async function tfjsCampaign(
  seeds: readonly TfjsSeed[],
  edits: number,
  seed: number,
): Promise<Outcome> {
  const kept: string[] = [];
  const wrong: string[] = [];
  for (let index = 0; index < edits; index++) {
    const random = randomOf(mulberry32(seed * 1_000_003 + index));
    const { name, open } = random.pick(seeds);
    const { checkpoint, files, expected: original } = open();
    const { what, files: changed } = edited(files, random);
    const found = proved(changed, checkpoint);
    const { features, evaluation } = checkpoint.graph.outputs;
    if (found?.finding.outputs[0]?.layer !== (checkpoint.graph.outputs[evaluation] ?? features) || !found)
      continue;
    const label = `${name}, edit ${index}: ${what}`;
    const results = await run(changed, found.model);
    const expected = await original();
    const problem = results && expected ? differs(expected, results) : undefined;
    if (problem === undefined) kept.push(`${label}${results ? "" : " (does not run)"}`);
    else wrong.push(`${label}: ${problem}`);
  }
  return { edits, refused: edits - kept.length - wrong.length, same: kept.length, wrong, kept };
}
