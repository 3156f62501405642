import { deflateSync, zipSync } from "fflate";
import onnxProto from "onnx-proto";
import { parseSpec } from "../../src/arch/index.js";
import { decodeNpy, decodeNpz, openNpz } from "../../src/convert/formats/npz.js";
import { decodeOnnx } from "../../src/convert/formats/onnx/decode.js";
import { decodePth } from "../../src/convert/formats/pth/decode.js";
import { decodeSafetensors } from "../../src/convert/formats/safetensors.js";
import type { Json } from "../../src/convert/formats/tfjs/json.js";
import { liftCheckpoint } from "../../src/convert/open/lift.js";
import { openModel } from "../../src/convert/open/open-file.js";
import { type Bytes, toBytes } from "../../src/core/bytes.js";
import {
  bytesOf,
  call,
  checkpoint,
  dict,
  floats,
  global,
  le,
  legacy,
  pickle,
  str,
  tensor,
  tuple,
  zip,
} from "../convert/formats/pth/build.js";
import { npyOf } from "../support/npy.js";

/**
 * Attacks on people who open files they were given, one row each: how it is made, and the exact sentence it meets.
 * docs/security.md refers to the rows by name.
 */

export interface Attack {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly read: (bytes: Bytes) => unknown;
}

const pth = (bytes: Bytes): unknown => decodePth(bytes, { subject: "w.pth" });
const npz = (bytes: Bytes): unknown => decodeNpz(bytes, "w.npz");
const npy = (bytes: Bytes): unknown => decodeNpy(toBytes(bytes), "a.npy");
/** A model with a file beside it. */
const onnx = (bytes: Bytes): unknown =>
  decodeOnnx(toBytes(bytes), {
    subject: "m.onnx",
    sidecar: (name) => (name === "m.data" ? new Uint8Array(8) : undefined),
  });
const lift = (bytes: Bytes): unknown => liftCheckpoint(openModel("onnx", { name: "m.onnx", bytes }));
const safetensors = (bytes: Bytes): unknown => decodeSafetensors(bytes, "w.safetensors");
const spec = (bytes: Bytes): unknown => parseSpec(new TextDecoder().decode(toBytes(bytes)), "spec.json");

const tfjs = (bytes: Bytes): unknown =>
  liftCheckpoint(openModel("tfjs", { name: "m", bytes, beside: SHARDS }));

/** Eight bytes of weights beside a model.json, and a megabyte. */
const SHARDS = new Map([
  ["w.bin", new Uint8Array(8)],
  ["m.bin", new Uint8Array(1 << 20)],
]);
const two = { name: "w", dtype: "float32", shape: [2] };
/** A model.json of these nodes, and of these weights in one file. */
const graphModel = (
  node: readonly object[],
  specs: readonly object[] = [two],
  paths = ["w.bin"],
): Uint8Array =>
  bytesOf(
    JSON.stringify({
      format: "graph-model",
      modelTopology: { node },
      weightsManifest: [{ paths, weights: specs }],
    }),
  );
const image = { name: "x", op: "Placeholder" };
/** A layers model of these layers, which read each other by name. */
const layersModel = (
  ...layers: readonly (readonly [name: string, className: string, ...reads: string[]])[]
): Uint8Array =>
  bytesOf(
    JSON.stringify({
      format: "layers-model",
      modelTopology: {
        class_name: "Functional",
        config: {
          layers: layers.map(([name, className, ...reads]) => ({
            name,
            class_name: className,
            config: { name },
            inbound_nodes: reads.map((read): Json => [[read, 0, 0]]),
          })),
          output_layers: [[layers[0]?.[0] ?? "", 0, 0]],
        },
      },
      weightsManifest: [],
    }),
  );

const weights = { 0: floats(1, 2) };
/** A good state dict, and the payload beside it. */
const beside = (payload: string): Uint8Array => checkpoint(dict({ w: tensor(), payload }), weights);
const bare = (opcodes: string): Uint8Array => bytesOf(pickle(opcodes));

const npyHeader = (descr: string, shape: string): string =>
  `{'descr': ${descr}, 'fortran_order': False, 'shape': ${shape}, }`;
const array = npyOf(npyHeader("'<f4'", "(1,)"), new Uint8Array(4));

const header = (text: string, dataBytes = 0): Uint8Array => {
  const json = new TextEncoder().encode(text);
  return bytesOf(le(json.length, 8), json, new Uint8Array(dataBytes));
};
const f32 = (begin: number, end: number): string =>
  `{"dtype":"F32","shape":[${(end - begin) / 4}],"data_offsets":[${begin},${end}]}`;

const { ModelProto } = onnxProto.onnx;
const model = (graph: onnxProto.onnx.IGraphProto): Uint8Array =>
  ModelProto.encode({ opsetImport: [{ version: 17 }], graph }).finish();

const constant = (name: string): onnxProto.onnx.ITensorProto => ({
  ...{ name, dims: [1], dataType: 1, rawData: new Uint8Array(4) },
});

/** A tensor of one float32 in another file. */
function elsewhere(entries: Readonly<Record<string, string>>): Uint8Array {
  const externalData = Object.entries(entries).map(([key, value]) => ({ key, value }));
  return model({ initializer: [{ name: "w", dims: [1], dataType: 1, dataLocation: 1, externalData }] });
}

/** A graph that takes images and gives the value `a`. */
const network = (
  node: readonly onnxProto.onnx.INodeProto[],
  graph: onnxProto.onnx.IGraphProto = {},
): Uint8Array => model({ ...graph, node: [...node], input: [{ name: "images" }], output: [{ name: "a" }] });

const relu = (input: string, output: string): onnxProto.onnx.INodeProto => ({
  ...{ opType: "Relu", input: [input], output: [output] },
});

const CIRCLE = network([relu("b", "a"), relu("a", "b")]);

/** A message inside a message, `depth` times. */
function nestedGraphs(depth: number): Uint8Array {
  let graph: onnxProto.onnx.IGraphProto = { name: "innermost" };
  for (let level = 0; level < depth; level++)
    graph = { node: [{ opType: "If", attribute: [{ name: "then_branch", type: 5, g: graph }] }] };
  return model(graph);
}

const blocks = (streams: number): string =>
  JSON.stringify({
    dialect: "osnet_ain",
    stem: { channels: 16, norm: "batch" },
    stages: [
      {
        blocks: [{ inChannels: 16, outChannels: 64, streams, reduction: 4, instanceNorm: "none" }],
        transition: false,
      },
    ],
    gate: { reduction: 16, activation: "sigmoid", layerNorm: false },
    pooling: "avg",
    embedding: [],
    head: null,
  });

export const ATTACKS: readonly Attack[] = [
  // Code in a pickle.
  { name: "os.system by REDUCE", read: pth, bytes: beside(call("os.system", str("true"))) },
  { name: "os.system by INST", read: pth, bytes: beside("(S'true'\nios\nsystem\n") },
  { name: "os.system by OBJ", read: pth, bytes: beside(`(${global("os.system")}S'true'\no`) },
  {
    name: "subprocess.Popen by NEWOBJ",
    read: pth,
    bytes: beside(`${global("subprocess.Popen")}${tuple(str("true"))}\x81`),
  },
  {
    name: "subprocess.Popen by NEWOBJ_EX",
    read: pth,
    bytes: beside(`${global("subprocess.Popen")}${tuple(str("true"))}}\x92`),
  },
  { name: "a dotted name by STACK_GLOBAL", read: pth, bytes: beside("\x8c\x05torch\x8c\x09os.system\x93)R") },
  { name: "eval in a pickle of text", read: pth, bytes: bytesOf("c__builtin__\neval\n(S'1'\ntR.") },
  {
    name: "getattr on a module",
    read: pth,
    bytes: beside(call("builtins.getattr", global("torch.hub"), str("load"))),
  },
  {
    name: "a call to what functools.partial made",
    read: pth,
    bytes: beside(`${call("functools.partial", global("os.system"))})R`),
  },
  {
    name: "__call__ set on a class by BUILD",
    read: pth,
    bytes: beside(`${global("torch.nn.Module")}${dict({ __call__: "N" })}b`),
  },
  { name: "a copyreg extension, EXT1", read: pth, bytes: beside("\x82\x01") },
  { name: "a copyreg extension, EXT2", read: pth, bytes: beside("\x83\x01\x02") },
  { name: "a copyreg extension, EXT4", read: pth, bytes: beside("\x84\x01\x02\x03\x04") },
  { name: "an out-of-band buffer", read: pth, bytes: beside("\x97") },
  {
    name: "a pickle hidden in a storage's file",
    read: pth,
    bytes: beside(
      `${global("torch.storage._load_from_bytes")}B${le(22, 4)}\x80\x02cos\nsystem\nX\x01\0\0\0a\x85R.\x85R`,
    ),
  },
  // Pickles that multiply.
  {
    name: "a million empty dicts",
    read: pth,
    bytes: bytesOf("\x80\x02", "}".repeat(1_000_000)),
  },
  { name: "eight million marks", read: pth, bytes: bytesOf("\x80\x02", "(".repeat(8_000_000)) },
  { name: "two million memo entries", read: pth, bytes: bytesOf("\x80\x02N", "\x94".repeat(2_000_000)) },
  {
    name: "copies of a dict",
    read: pth,
    bytes: bare(
      `](${tuple("K\x01", "K\x02").repeat(1000)}eq\x00${global("builtins.dict")}q\x01${"h\x01h\x00\x85R0".repeat(1000)}`,
    ),
  },
  {
    name: "billion laughs",
    read: pth,
    bytes: bare(
      `]q\x00${Array.from({ length: 200 }, (_, index) => `](${`h${String.fromCharCode(index)}`.repeat(10)}eq${String.fromCharCode(index + 1)}`).join("")}`,
    ),
  },
  { name: "a list that contains itself", read: pth, bytes: bare("]q\x00h\x00ah\x00") },
  { name: "a dict that contains itself", read: pth, bytes: bare(`}q\x00${str("a")}h\x00s`) },
  { name: "lists to a depth of 100,000", read: pth, bytes: bare(`]${"\x85".repeat(100_000)}`) },
  {
    name: "a tensor that repeats one element",
    read: pth,
    bytes: checkpoint(dict({ w: tensor({ shape: [2 ** 20, 64], stride: [0, 0] }) }), weights),
  },
  // Pickles that lie.
  { name: "stack underflow", read: pth, bytes: bytesOf("\x80\x020.") },
  { name: "a value from below a mark", read: pth, bytes: bytesOf("\x80\x02N(\x85.") },
  { name: "a string of 4 GB", read: pth, bytes: bytesOf("\x80\x02X", le(0xffffffff, 4)) },
  { name: "bytes of 2^60", read: pth, bytes: bytesOf("\x80\x02\x8e", le(0, 7), "\x10") },
  { name: "an integer of 2 GB", read: pth, bytes: bytesOf("\x80\x02\x8b", le(0x7fffffff, 4)) },
  { name: "a memo entry that is not there", read: pth, bytes: bytesOf("\x80\x02h\x07.") },
  // Storages that lie (CVE-2026-24747).
  {
    name: "a storage larger than its entry",
    read: pth,
    bytes: checkpoint(dict({ w: tensor({ numel: 1000, shape: [1000] }) }), weights),
  },
  {
    name: "a storage smaller than its entry",
    read: pth,
    bytes: checkpoint(dict({ w: tensor({ numel: 1, shape: [1] }) }), weights),
  },
  {
    name: "a tensor beyond its storage",
    read: pth,
    bytes: checkpoint(dict({ w: tensor({ offset: 1 }) }), weights),
  },
  {
    name: "one storage declared twice",
    read: pth,
    bytes: checkpoint(dict({ w: tensor(), v: tensor({ numel: 1000, shape: [1000] }) }), weights),
  },
  {
    name: "a legacy storage of another length",
    read: pth,
    bytes: legacy(dict({ w: tensor().replace("tQ", "NtQ") }), { 0: floats(1, 2, 3) }),
  },
  {
    name: "a negative size",
    read: pth,
    bytes: checkpoint(dict({ w: tensor({ shape: [-1] }) }), weights),
  },
  // Zip archives that lie.
  {
    name: "a zip bomb",
    read: pth,
    bytes: zip([
      { name: "a/data.pkl", data: deflateSync(new Uint8Array(1 << 24)), method: 8, size: 1 << 24 },
    ]),
  },
  {
    name: "a zip entry larger than it says",
    read: pth,
    bytes: zip([{ name: "a/data.pkl", data: deflateSync(new Uint8Array(1 << 20)), method: 8, size: 8 }]),
  },
  {
    name: "a zip entry twice",
    read: pth,
    bytes: zip([
      { name: "a/data.pkl", data: pickle("N") },
      { name: "a/data.pkl", data: pickle("N") },
    ]),
  },
  {
    name: "overlapping zip entries",
    read: pth,
    bytes: overlapping(),
  },
  {
    name: "another name in the local header",
    read: pth,
    bytes: zip([{ name: "a/data.pkl", data: pickle("N"), local: { name: "a/data.xyz" } }]),
  },
  {
    name: "another size in the local header",
    read: pth,
    bytes: zip([{ name: "a/data.pkl", data: pickle("N"), local: { size: 3 } }]),
  },
  {
    name: "two pickles in one archive",
    read: pth,
    bytes: zip(["a", "b"].map((name) => ({ name: `${name}/data.pkl`, data: pickle("N") }))),
  },
  // Names that are more than names.
  {
    name: "terminal escapes in a key",
    read: pth,
    bytes: checkpoint(dict({ w: tensor({ key: "\x1b[2J\n\x07" }) })),
  },
  // numpy.
  {
    name: "an .npy of objects, which is a pickle",
    read: npy,
    bytes: npyOf(npyHeader("'|O'", "(1,)"), bytesOf("\x80\x02cos\nsystem\n.")),
  },
  { name: "strings of no length", read: npy, bytes: npyOf(npyHeader("'<U0'", "(1,)"), new Uint8Array(4)) },
  {
    name: "terabytes in a shape",
    read: npy,
    bytes: npyOf(npyHeader("'<f4'", "(1099511627776,)"), new Uint8Array(4)),
  },
  {
    name: "a shape beyond numbers",
    read: npy,
    bytes: npyOf(npyHeader("'<f4'", `(${"9".repeat(400)},)`), new Uint8Array(4)),
  },
  {
    name: "a header of unfinished shapes",
    read: npy,
    bytes: npyOf("'shape':(".repeat(7000), new Uint8Array(0), 2),
  },
  {
    name: "a line break in an element type",
    read: npy,
    bytes: npyOf(npyHeader("'\n\x1b[2J'", "(1,)"), new Uint8Array(4)),
  },
  { name: "an .npz bomb", read: npz, bytes: zipSync({ "a.npy": new Uint8Array(1 << 24) }) },
  {
    name: "an array twice",
    read: npz,
    bytes: zip([
      { name: "a.npy", data: array },
      { name: "a.npy", data: array },
    ]),
  },
  {
    name: "four billion entries",
    read: (bytes) => openNpz(bytes, "w.npz"),
    bytes: manyEntries(),
  },
  // safetensors.
  {
    name: "a hole between tensors",
    read: safetensors,
    bytes: header(`{"a":${f32(0, 4)},"b":${f32(8, 12)}}`, 12),
  },
  {
    name: "overlapping tensors",
    read: safetensors,
    bytes: header(`{"a":${f32(0, 8)},"b":${f32(4, 12)}}`, 12),
  },
  { name: "bytes of no tensor", read: safetensors, bytes: header(`{"a":${f32(0, 4)}}`, 12) },
  { name: "a key twice", read: safetensors, bytes: header(`{"a":${f32(0, 4)},"a":${f32(4, 8)}}`, 8) },
  {
    name: "a shape that is not its bytes",
    read: safetensors,
    bytes: header(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}`, 4),
  },
  { name: "a header of 100 MB", read: safetensors, bytes: bytesOf(le(100_000_001, 8), "{}") },
  { name: "a header beyond the file", read: safetensors, bytes: bytesOf(le(1000, 8), "{}") },
  // ONNX.
  {
    name: "four million empty nodes",
    read: onnx,
    bytes: bytesOf("\x42\x02\x10\x11\x3a\x80\xa4\xe8\x03", "\x0a\x00".repeat(4_000_000)),
  },
  { name: "graphs to a depth of 1000", read: onnx, bytes: nestedGraphs(1000) },
  {
    name: "a tensor of terabytes",
    read: onnx,
    bytes: model({ initializer: [{ name: "w", dims: [2 ** 40], dataType: 1 }] }),
  },
  {
    name: "weights in a file elsewhere",
    read: onnx,
    bytes: elsewhere({ location: "../../etc/passwd" }),
  },
  { name: "weights by an absolute path", read: onnx, bytes: elsewhere({ location: "/etc/passwd" }) },
  { name: "weights by back slashes", read: onnx, bytes: elsewhere({ location: "..\\secret.data" }) },
  { name: "weights on a drive", read: onnx, bytes: elsewhere({ location: "C:secret.data" }) },
  {
    name: "weights beyond the file beside a model",
    read: onnx,
    bytes: elsewhere({ location: "m.data", offset: String(2 ** 40), length: "4" }),
  },
  {
    name: "weights at a negative offset",
    read: onnx,
    bytes: elsewhere({ location: "m.data", offset: "-4", length: "4" }),
  },
  {
    name: "weights of another length than their shape",
    read: onnx,
    bytes: elsewhere({ location: "m.data", offset: "0", length: "8" }),
  },
  {
    name: "raw data of another length than its shape",
    read: onnx,
    bytes: model({ initializer: [{ name: "w", dims: [2], dataType: 1, rawData: new Uint8Array(7) }] }),
  },
  {
    name: "two tensors of one name",
    read: onnx,
    bytes: model({ initializer: [constant("w"), constant("w")] }),
  },
  {
    name: "a message of 2 GB in 16 bytes",
    read: onnx,
    bytes: bytesOf("\x08\x08\x3a\xff\xff\xff\xff\x07", new Uint8Array(8)),
  },
  { name: "a model cut in the middle", read: onnx, bytes: CIRCLE.subarray(0, CIRCLE.length - 20) },
  { name: "nodes in a circle", read: lift, bytes: CIRCLE },
  {
    name: "a node that reads itself",
    read: lift,
    bytes: network([{ opType: "Relu", input: ["a"], output: ["a"] }]),
  },
  {
    name: "two sources of one value",
    read: lift,
    bytes: network([relu("images", "a"), relu("images", "a")]),
  },
  {
    name: "a convolution without channels",
    read: lift,
    bytes: network([{ opType: "Conv", input: ["images", "w"], output: ["a"] }], {
      initializer: [{ name: "w", dims: [0, 3, 7, 7], dataType: 1, rawData: new Uint8Array() }],
    }),
  },
  {
    name: "a function that calls itself",
    read: onnx,
    bytes: ModelProto.encode({
      opsetImport: [{ version: 17 }],
      graph: { node: [{ opType: "f", domain: "d", input: ["images"], output: ["a"] }] },
      functions: [
        {
          ...{ name: "f", domain: "d", input: ["x"], output: ["y"] },
          node: [{ opType: "f", domain: "d", input: ["x"], output: ["y"] }],
        },
      ],
    }).finish(),
  },
  {
    name: "a name of a megabyte",
    read: onnx,
    bytes: model({ initializer: [{ name: "n".repeat(1 << 20), dims: [2], dataType: 1 }] }),
  },
  // TensorFlow.js models.
  {
    name: "tfjs: a graph in a circle",
    read: tfjs,
    bytes: graphModel([
      image,
      { name: "a", op: "Relu", input: ["b"] },
      { name: "b", op: "Relu", input: ["a"] },
    ]),
  },
  {
    name: "tfjs: a node that reads itself",
    read: tfjs,
    bytes: graphModel([{ name: "a", op: "Relu", input: ["a"] }]),
  },
  {
    name: "tfjs: a node whose input is missing",
    read: tfjs,
    bytes: graphModel([{ name: "a", op: "Relu", input: ["gone"] }]),
  },
  {
    name: "tfjs: a constant without numbers",
    read: tfjs,
    bytes: graphModel([image, { name: "c", op: "Const" }]),
  },
  {
    name: "tfjs: unknown operators",
    read: tfjs,
    bytes: graphModel([
      image,
      { name: "a", op: "__proto__", input: ["x"] },
      { name: "b", op: "constructor", input: ["a"] },
    ]),
  },
  {
    name: "tfjs: twenty thousand nodes in a row",
    read: tfjs,
    bytes: graphModel([
      image,
      ...Array.from({ length: 20_000 }, (_, at) => ({
        name: `n${at}`,
        op: "Relu",
        input: [at === 0 ? "x" : `n${at - 1}`],
      })),
    ]),
  },
  {
    name: "tfjs: a weight called __proto__, twice",
    read: tfjs,
    bytes: graphModel(
      [image],
      [1, 2].map(() => ({ ...two, shape: [1], name: "__proto__" })),
    ),
  },
  {
    name: "tfjs: a shape of 2^62 elements",
    read: tfjs,
    bytes: graphModel([image], [{ ...two, shape: [2 ** 31, 2 ** 31] }]),
  },
  { name: "tfjs: more weights than bytes", read: tfjs, bytes: graphModel([image], [{ ...two, shape: [3] }]) },
  {
    name: "tfjs: another type than the bytes'",
    read: tfjs,
    bytes: graphModel([image], [{ ...two, dtype: "bool" }]),
  },
  {
    name: "tfjs: fewer files than are named",
    read: tfjs,
    bytes: graphModel([image], [two], ["w.bin", "v.bin"]),
  },
  { name: "tfjs: a file from the web", read: tfjs, bytes: graphModel([image], [two], ["https://x/w.bin"]) },
  {
    name: "tfjs: a file of another folder",
    read: tfjs,
    bytes: graphModel([image], [two], ["a/../../w.bin"]),
  },
  {
    name: "tfjs: layers in a circle",
    read: tfjs,
    bytes: layersModel(["a", "ReLU", "b"], ["b", "ReLU", "a"]),
  },
  { name: "tfjs: a layer that reads none there is", read: tfjs, bytes: layersModel(["a", "ReLU", "gone"]) },
  {
    name: "tfjs: a model inside a model",
    read: tfjs,
    bytes: layersModel(["a", "Functional", "x"], ["x", "InputLayer"]),
  },
  {
    name: "tfjs: layers that are no OSNet",
    read: tfjs,
    bytes: layersModel(["a", "__proto__", "x"], ["x", "InputLayer"]),
  },
  {
    name: "tfjs: a layer twice",
    read: tfjs,
    bytes: layersModel(["x", "InputLayer"], ["a", "ReLU", "x"], ["a", "ReLU", "x"]),
  },
  { name: "tfjs: a node twice", read: tfjs, bytes: graphModel([image, image]) },
  {
    name: "tfjs: local functions",
    read: tfjs,
    bytes: bytesOf('{"format":"graph-model","modelTopology":{"node":[],"library":{"function":[{}]}}}'),
  },
  {
    name: "tfjs: a thousand outputs of every node, of which one is read",
    read: tfjs,
    bytes: graphModel([
      image,
      ...Array.from({ length: 1000 }, (_, at) => ({ name: `n${at}`, op: "Split", input: ["x"] })),
      ...Array.from({ length: 1000 }, (_, at) => ({ name: `r${at}`, op: "Relu", input: [`n${at}:999`] })),
    ]),
  },
  {
    name: "tfjs: a megabyte that five hundred nodes take away and have as their axes",
    read: tfjs,
    bytes: graphModel(
      [
        image,
        { name: "w", op: "Const" },
        ...Array.from({ length: 500 }, (_, at) => ({
          name: `n${at}`,
          op: at % 2 === 0 ? "Sub" : "Sum",
          input: [at === 0 ? "x" : `n${at - 1}`, "w"],
        })),
      ],
      [{ ...two, shape: [1 << 18] }],
      ["m.bin"],
    ),
  },
  {
    name: "tfjs: a shape of 2^53 elements",
    read: tfjs,
    bytes: graphModel([image], [{ ...two, shape: [2 ** 53] }]),
  },
  {
    name: "tfjs: a shape of fewer than none",
    read: tfjs,
    bytes: graphModel([image], [{ ...two, shape: [-2] }]),
  },
  {
    name: "tfjs: a step that is no number",
    read: tfjs,
    bytes: graphModel([image], [{ ...two, quantization: { dtype: "uint8", min: "0", scale: null } }]),
  },
  {
    name: "tfjs: weights of text",
    read: tfjs,
    bytes: graphModel([image], [{ ...two, dtype: "string" }]),
  },
  { name: "tfjs: a file at the root", read: tfjs, bytes: graphModel([image], [two], ["/etc/passwd"]) },
  {
    name: "tfjs: a file of another folder, in a browser's words",
    read: tfjs,
    bytes: graphModel([image], [two], ["%2E%2e/w.bin"]),
  },
  {
    name: "tfjs: a file with a name of a megabyte",
    read: tfjs,
    bytes: graphModel([image], [two], ["w".repeat(1 << 20)]),
  },
  { name: "tfjs: a file twice", read: tfjs, bytes: graphModel([image], [two], ["w.bin", "w.bin"]) },
  {
    name: "tfjs: a model.json that is deep",
    read: tfjs,
    bytes: bytesOf(`{"modelTopology":${"[".repeat(1 << 20)}`),
  },
  { name: "tfjs: a model.json of 33 megabytes", read: tfjs, bytes: new Uint8Array(33 << 20).fill(0x20) },
  // Architecture descriptions.
  { name: "a block of a million streams", read: spec, bytes: bytesOf(blocks(1_000_000)) },
  { name: "a description that is deep", read: spec, bytes: bytesOf("[".repeat(100_000)) },
];

/** The second entry lies inside the first one's data, with headers that agree. */
function overlapping(): Uint8Array {
  const inner = zip([{ name: "a/data/0", data: floats(1, 2) }]);
  const value = pickle(dict({ w: tensor() }));
  return zip([
    { name: "a/data.pkl", data: bytesOf(value, inner) },
    { name: "a/data/0", data: floats(1, 2), offset: 30 + "a/data.pkl".length + value.length },
  ]);
}

/** A zip64 end record that counts entries to 2^32. */
function manyEntries(): Uint8Array {
  const local = zip([{ name: "a.npy", data: array }]);
  const end = local.length - 22;
  const end64 = `PK\x06\x06${le(44, 8)}${le(45, 2)}${le(45, 2)}${le(0, 8)}${le(2 ** 32, 8)}${le(2 ** 32, 8)}${le(51, 8)}${le(0, 8)}`;
  const locator = `PK\x06\x07${le(0, 4)}${le(end, 8)}${le(1, 4)}`;
  return bytesOf(
    local.subarray(0, end),
    end64,
    locator,
    `PK\x05\x06${le(0, 4)}${"\xff".repeat(12)}${le(0, 2)}`,
  );
}
