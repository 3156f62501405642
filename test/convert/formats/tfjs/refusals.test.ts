import { describe, expect, it } from "vitest";
import { decodeTfjs, encodeTfjs, tfjsShardPaths } from "../../../../src/convert/formats/tfjs/codec.js";
import type { Json, JsonObject } from "../../../../src/convert/formats/tfjs/json.js";
import { readTopology } from "../../../../src/convert/formats/tfjs/topology.js";
import { InputError } from "../../../../src/core/errors.js";
import { type Document, edited, GRAPH_MODEL } from "./models.js";

const subject = "model.json";
const FILES = encodeTfjs(GRAPH_MODEL);

function sizes(...values: readonly number[]): readonly { size: string }[] {
  return values.map((size) => ({ size: String(size) }));
}

const EDITS: readonly (readonly [what: string, edit: (document: Document) => void, message: RegExp])[] = [
  ["another format", (d) => void Object.assign(d, { format: "saved-model" }), /found "saved-model"/],
  [
    "no manifest entry's name",
    (d) => void delete d.weightsManifest[0]?.weights[0]?.name,
    /found nothing, expected a string/,
  ],
  ["a shape that is too large", (d) => set(d, 0, { shape: [1e9, 1e9] }), /found shape/],
  ["a negative shape", (d) => set(d, 0, { shape: [-2, -2] }), /found shape \[-2, -2\]/],
  ["a fractional shape", (d) => set(d, 0, { shape: [2.5] }), /found 2.5, expected a whole number/],
  ["more weights than bytes", (d) => set(d, 0, { shape: [3, 2] }), /found 31 bytes in its file, expected 39/],
  [
    "string weights",
    (d) => set(d, 0, { dtype: "string" }),
    /found "string", expected float32, int32 or bool/,
  ],
  [
    "an unknown quantisation",
    (d) => set(d, 0, { quantization: { dtype: "int4" } }),
    /found "int4" for float32/,
  ],
  [
    "a quantisation without a scale",
    (d) => set(d, 0, { quantization: { dtype: "uint8", min: 0 } }),
    /scale: found nothing/,
  ],
  ["a weight of the optimizer", (d) => set(d, 0, { group: "optimizer" }), /\(w\): found group "optimizer"/],
  ["a weight with more to it", (d) => set(d, 0, { scale: 2 }), /\(w\): found scale 2/],
  [
    "a graph that is a Keras model too",
    (d) => void Object.assign(d.modelTopology, { model_config: {} }),
    /found "model_config" in a graph-model, expected one model/,
  ],
  [
    "a Keras model that is a graph too",
    (d) => void Object.assign(d, { format: "layers-model" }),
    /found "node" in a layers-model/,
  ],
  ["two weights of one name", (d) => set(d, 1, { name: "w" }), /a second weight "w"/],
  [
    "a node without a name",
    (d) => void delete d.modelTopology.node?.[0]?.name,
    /node\[0\]\.name: found nothing/,
  ],
  [
    "a node that reads nothing there is",
    (d) => void d.modelTopology.node?.[2]?.input?.push("z"),
    /input "z"/,
  ],
  ...["y:a", "y:", "y:0x0", "^y", "__proto__"].map(
    (name) =>
      [
        `a node's name that tfjs takes apart: ${name}`,
        (d: Document) => void d.modelTopology.node?.push({ name, op: "Relu", input: ["y"] }),
        /found the name/,
      ] as const,
  ),
  [
    "an input that tfjs takes apart",
    (d) => void d.modelTopology.node?.push({ name: "r", op: "Relu", input: ["y:a:0"] }),
    /found the name "y:a:0"/,
  ],
  [
    "an output that tfjs takes apart",
    (d) => void Object.assign(d, { signature: { outputs: { x: { name: "y:a" } } } }),
    /found the name "y:a"/,
  ],
  ...[
    ["Relu", "^images", "y"],
    ["AddN", "y", "y", "^images"],
  ].map(
    ([op = "", ...input]) =>
      [
        `control inputs that tfjs computes with: ${input}`,
        (d: Document) => void d.modelTopology.node?.push({ name: "r", op, input }),
        new RegExp(`found the control input "\\^images" of ${op}`),
      ] as const,
  ),
  [
    "an attribute of no type",
    (d) => void Object.assign(d.modelTopology.node?.[2] ?? {}, { attr: { x: 3 } }),
    /found 3/,
  ],
  [
    "functions",
    (d) => void Object.assign(d.modelTopology, { library: { function: [{}] } }),
    /local functions/,
  ],
  [
    "a pool over channels",
    (d) =>
      void d.modelTopology.node?.push({
        name: "pool",
        op: "AvgPool",
        input: ["y"],
        attr: { ksize: { list: { i: ["1", "2", "2", "2"] } } },
      }),
    /found ksize \[1, 2, 2, 2\] of AvgPool, expected 1 along images and channels/,
  ],
  ["a missing file", (d) => void d.weightsManifest[0]?.paths.push("b.bin"), /no file "b.bin"/],
  [
    "a graph that runs first",
    (d) => void Object.assign(d, { modelInitializer: { node: [{}] } }),
    /initializer graph/,
  ],
  [
    "an input that is no placeholder",
    (d) => void Object.assign(d, { signature: { inputs: { x: { name: "y:0" } } } }),
    /placeholder/,
  ],
  ...[
    ["any", {}],
    ["any", { shape: { shape: { unknownRank: true } } }],
    ["\\[-1, -1, -1, 3\\]", { shape: { shape: { dim: sizes(-1, -1, -1, 3) } } }],
    ["\\[-1, 4, 3, 3\\]", { shape: { shape: { dim: sizes(-1, 4, 3, 3) } } }],
  ].map(
    ([held, attr]) =>
      [
        `an input of other sizes at its placeholder: ${held}`,
        (d: Document) => void Object.assign(d.modelTopology.node?.[1] ?? {}, { attr }),
        new RegExp(`"images" of shape \\[-1, 4, 2, 3\\] in the signature and ${held} at its placeholder`),
      ] as const,
  ),
  ...[1, "true", true].map(
    (unknownRank) =>
      [
        `an input whose rank is unknown by ${JSON.stringify(unknownRank)}, and which has sizes`,
        (d: Document) =>
          void Object.assign(d.modelTopology.node?.[1] ?? {}, {
            attr: { shape: { shape: { unknownRank, dim: sizes(-1, 4, 2, 3) } } },
          }),
        /unknownRank: found (1|"true"|true), expected true without sizes, or false/,
      ] as const,
  ),
  ...[1, "x"].map(
    (b) =>
      [
        `a flag that is ${JSON.stringify(b)}`,
        (d: Document) => void Object.assign(d.modelTopology.node?.[1] ?? {}, { attr: { shape: { b } } }),
        /attr\.shape\.b: found (1|"x"), expected true or false/,
      ] as const,
  ),
  [
    "an attribute of two types",
    (d) =>
      void Object.assign(d.modelTopology.node?.[1] ?? {}, { attr: { transpose_b: { i: "1", b: true } } }),
    /attr\.transpose_b: found an attribute of several types/,
  ],
  [
    "an output that is not there",
    (d) => void Object.assign(d, { signature: { outputs: { x: { name: "z:0" } } } }),
    /"z:0"/,
  ],
  [
    "an output twice",
    (d) => void Object.assign(d, { signature: { outputs: { a: { name: "y" }, b: { name: "y:0" } } } }),
    /two outputs/,
  ],
  ["a weight for a node", (d) => set(d, 1, { name: "y" }), /a weight "y", which a Anything computes/],
  ["one file twice", (d) => void d.weightsManifest[0]?.paths.push("group1-shard1of1.bin"), /a second time/],
];

/** Outputs as `predict` is to call them, beside those of the signature. */
function renamed(keys: unknown, outputs: object): (document: Document) => void {
  return (document) =>
    void Object.assign(document, {
      signature: { outputs },
      userDefinedMetadata: { structuredOutputKeys: keys },
    });
}

const TWO = { features: { name: "y:0" }, logits: { name: "images:0" } };
const BY_VALUE = { "y:0": { name: "y:0" }, "images:0": { name: "images:0" } };

describe("names that predict gives outputs", () => {
  it.each<readonly [keys: unknown, outputs: object]>([
    [["logits", "features"], TWO],
    [["features"], TWO],
    [["features", "other"], TWO],
    ["features", TWO],
    [["images:0", "y:0"], BY_VALUE],
    [["a", "a"], BY_VALUE],
    [["a", 1], BY_VALUE],
  ])("%j: refused", (keys, outputs) => {
    expect(refusalOf(() => decodeTfjs(edited(FILES, renamed(keys, outputs)), { subject })).code).toBe(
      "unsupported",
    );
  });

  it.each<readonly [keys: unknown, outputs: object]>([
    [["features", "logits"], TWO],
    [null, TWO],
    // As TensorFlow's converter writes models that return a dictionary.
    [["features", "logits"], BY_VALUE],
  ])("%j: read", (keys, outputs) => {
    expect(decodeTfjs(edited(FILES, renamed(keys, outputs)), { subject }).format).toBe("graph-model");
  });
});

function set(document: Document, index: number, change: object): void {
  Object.assign(document.weightsManifest[0]?.weights[index] ?? {}, change);
}

describe("the layers of a Keras model", () => {
  const layer = (name: string, own = name): JsonObject => ({
    name,
    class_name: "Activation",
    config: { name: own },
    inbound_nodes: [],
  });
  const topology =
    (...layers: readonly JsonObject[]) =>
    () =>
      readTopology(
        {
          format: "layers-model",
          weights: new Map(),
          topology: { model_config: { class_name: "Functional", config: { layers, output_layers: [] } } },
        },
        "model.json",
      );

  it("have one name each, of its own", () => {
    expect(topology(layer("a"), layer("b"))).not.toThrow();
    expect(topology(layer("a"), layer("b"), layer("a"))).toThrow('two layers named "a"');
    expect(topology(layer("a", "b"), layer("b", "a"))).toThrow('a layer named "a" and "b"');
    expect(topology(layer(""))).toThrow('a layer named "" and ""');
    const { name, config, ...rest } = layer("a");
    expect(topology({ ...rest, config: config ?? null })).toThrow('a layer named null and "a"');
    expect(topology({ ...rest, name: name ?? null })).toThrow('a layer named "a" and null');
  });
});

/** A call of Keras 3, with the tensor that it reads. */
const KERAS_3_CALL = { args: [{ config: { keras_history: ["images", 0, 0] } }], kwargs: {} };

describe("a Keras model that tfjs reads otherwise is refused", () => {
  type Call = readonly (readonly [string, number, number, JsonObject?])[];
  const layer = (name: string, ...calls: readonly Call[]): JsonObject => ({
    name,
    class_name: name === "images" ? "InputLayer" : "Activation",
    config: { name },
    inbound_nodes: calls as unknown as JsonObject[],
  });
  const read = (layers: readonly JsonObject[], root: JsonObject = { class_name: "Functional" }) =>
    readTopology(
      {
        format: "layers-model",
        weights: new Map(),
        topology: { model_config: { ...root, config: { layers, output_layers: [["b", 0, 0]] } } },
      },
      "model.json",
    ).calls.map(({ value, inputs }) => `${value} ${inputs}`);
  const images = layer("images");
  const a = layer("a", [["images", 0, 0]], [["c", 0, 0]]);

  it("if its calls are made in another order", () => {
    const c = layer("c", [["images", 0, 0]]);
    const b = layer("b", [["a", 1, 0]]);
    expect(read([images, a, b, c])).toEqual([
      "images#0 ",
      "a#0 images#0",
      "a#1 c#0",
      "b#0 a#1",
      "c#0 images#0",
    ]);
    const turned = layer("a", [["c", 0, 0]], [["images", 0, 0]]);
    // c is made before, or after the first round through the calls of a.
    expect(read([images, c, turned, b])).toHaveLength(5);
    expect(() => read([images, turned, b, c])).toThrow('call "a#1"');
    expect(() => read([images, layer("a", []), b, c])).toThrow('layer "a" called without inputs');
  });

  it.each(["className", "config_", "inbound__nodes", "maxValue", "__proto__", "a_1"])(
    "if a key is %s",
    (key) => {
      const other = JSON.parse(`{ ${JSON.stringify(key)}: 1 }`) as JsonObject;
      for (const change of [other, { config: { name: "b", ...other } }])
        expect(() => read([images, { ...layer("b", [["images", 0, 0]]), ...change }])).toThrow(
          JSON.stringify(key),
        );
    },
  );

  it.each<readonly [what: string, shape: JsonObject, call: Json, message: string]>([
    ["a call is not in a list of its own", {}, ["images", 0, 0], '"images" as a layer\'s input'],
    ["a call is Keras 3's", {}, KERAS_3_CALL, 'layer "b" called without inputs'],
    [
      "only its input is Keras 3's",
      { batch_shape: [1] },
      [["images", 0, 0]],
      'layer "b" called without inputs',
    ],
    [
      "it has two shapes",
      { batch_shape: [1], batch_input_shape: [1] },
      KERAS_3_CALL,
      "the batch_shape of Keras 3 and",
    ],
    [
      "it has a shape and a size",
      { batch_shape: [1], input_shape: [] },
      KERAS_3_CALL,
      "the batch_shape of Keras 3 and",
    ],
  ])("if %s", (_what, shape, call, message) => {
    const input = { ...images, config: { name: "images", ...shape } };
    expect(() => read([input, { ...layer("b"), inbound_nodes: [call] }])).toThrow(message);
  });

  it("if its class is one in tfjs only", () => {
    expect(() => read([images, layer("b", [["images", 0, 0]])], { class_name: "_sequential" })).toThrow(
      "_sequential",
    );
  });
});

describe("refused tfjs files", () => {
  it.each(EDITS)("%s", (_what, edit, message) => {
    const error = refusalOf(() => decodeTfjs(edited(FILES, edit), { subject }));
    expect(error.message).toMatch(message);
    expect(error.message.startsWith(subject)).toBe(true);
  });

  it.each([
    "../w.bin",
    "a/../../w.bin",
    "/etc/passwd",
    "C:\\w.bin",
    "C:/w.bin",
    "https://x/w.bin",
    "..\\w.bin",
    "",
    ".",
    "a//b",
    "w\0.bin",
    // URLs of another file.
    "w.bin#1",
    "w%2Dx.bin",
    "w.bin ",
  ])("weight file %j, outside the folder", (path) => {
    const files = edited(FILES, ({ weightsManifest }) => void weightsManifest[0]?.paths.splice(0, 1, path));
    expect(refusalOf(() => tfjsShardPaths(files.json, { subject })).message).toMatch(/in the model's folder/);
    expect(refusalOf(() => decodeTfjs(files, { subject })).message).toMatch(/in the model's folder/);
  });

  it.each(["", "{", "[]", "null", "\xff", '{"a":'])("text that is not a JSON object: %j", (text) => {
    const json = Uint8Array.from(text, (character) => character.charCodeAt(0));
    expect(refusalOf(() => decodeTfjs({ json, shards: new Map() }, { subject })).message).toMatch(
      /text that is not a JSON object/,
    );
  });

  it("a file that is cut short, or too long", () => {
    for (const length of [0, 30, 32]) {
      const shards = new Map([["group1-shard1of1.bin", new Uint8Array(length)]]);
      expect(refusalOf(() => decodeTfjs({ ...FILES, shards }, { subject })).message).toMatch(
        /bytes in its file/,
      );
    }
  });
});

function refusalOf(act: () => unknown): InputError {
  try {
    act();
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

describe("model.json with a key twice in one object", () => {
  const text = new TextDecoder().decode(FILES.json);
  const read = (json: string) => () =>
    decodeTfjs({ json: new TextEncoder().encode(json), shards: FILES.shards }, { subject });

  it.each([
    ["at the top", text.replace("{", '{"signature":{},')],
    ["written with an escape", text.replace("{", '{"signat\\u0075re":{},')],
    ["inside", text.replace('"outputs":{', '"outputs":{"features":{"name":"w:0"},')],
  ])("%s is refused", (_where, json) => {
    expect(json).not.toBe(text);
    expect(read(json)).toThrow(InputError);
    expect(read(json)).toThrow(/twice in one object/);
  });

  it("is read where the objects are two, or a text only looks like members", () => {
    expect(read(text.replace("{", '{"note":"\\"signature\\":1,\\"signature\\":2",'))).not.toThrow();
  });
});

describe("the signature", () => {
  it("is the metadata's where there are two, as in tfjs", () => {
    const files = edited(FILES, (d) =>
      Object.assign(d, { userDefinedMetadata: { signature: { outputs: { other: { name: "w:0" } } } } }),
    );
    const model = decodeTfjs(files, { subject });
    expect(model.format === "graph-model" && [...model.signature.outputs.keys()]).toEqual(["other"]);
  });
});
