/** Checkpoints to start from, one for each container and each way to spell tensors. */

import { deflateSync } from "fflate";
import { expand, type OsnetSpec, parametersOf } from "../../../src/arch/index.js";
import {
  bytesOf,
  call,
  dict,
  type Entry,
  floats,
  global,
  int,
  le,
  pickle,
  str,
  tarFile,
  tarParts,
  tensor,
  tuple,
  zip,
} from "../../convert/formats/pth/build.js";
import type { Seed } from "../mutate/index.js";

const data = floats(1, 2);
const state = dict({
  epoch: "K\x03",
  state_dict: dict({
    "module.conv.weight": tensor(),
    "module.conv.bias": tensor({ shape: [1, 2], stride: [1, 1] }),
  }),
  optimizer: dict({ state: dict({ exp_avg: tensor({ key: "1" }) }) }),
});

/** numpy's form: an array of two floats in the pickle itself. */
const dtype = `${call("numpy.dtype", str("f4"), "\x89", "\x88")}(K\x03U\x01<NNN${int(-1)}${int(-1)}K\x00tb`;
const array = `${call("numpy.core.multiarray._reconstruct", global("numpy.ndarray"), "K\x00\x85", "C\x01b")}(K\x01K\x02\x85${dtype}\x89C\x08${"\0".repeat(8)}tb`;
const latin1 = call(
  "numpy.core.multiarray.scalar",
  dtype,
  call("_codecs.encode", str("\x01\0\xff\0"), str("latin1")),
);

const module_ = `${global("torchreid.models.osnet.OSNet")}q\x00)\x81}(${str("training")}\x89${str("_parameters")}${dict({ w: tensor() })}${str("_buffers")}${dict({ b: tensor({ shape: [], stride: [], numel: 2 }) })}${str("_modules")}${call("collections.OrderedDict")}(${str("a")}h\x00)\x81}(${str("_parameters")}${dict({ w: tensor() })}${str("_buffers")}}${str("_modules")}}ubuub`;
const script = `${global("__torch__.net.Net")})\x81${dict({ training: "\x89", weight: tensor(), child: `${global("__torch__.net.Child")})\x81${dict({ w: tensor() })}b` })}b`;
/** What torch.jit.trace writes of a model that returns its input. */
const NET = `class Net(Module):
  __parameters__ = ["weight", ]
  weight : Tensor
  def forward(self: __torch__.net.Net,
    x: Tensor) -> Tensor:
    return x
`;
/** Containers that the memo remembers, so that mutations put them into each other. */
const memo = `}q\x00(${str("list")}]q\x01(${"]q\x02]q\x03"}e${str("dict")}}q\x04${str("inner")}}q\x05s${str("w")}${tensor()}q\x06u`;
const odd = dict({
  half: tensor({ type: "Half", shape: [2, 2], stride: [1, 2], numel: 4, key: "0" }),
  bool: tensor({ type: "Bool", numel: 8, shape: [8], key: "1" }),
  parameter: call(
    "torch._utils._rebuild_parameter",
    tensor({ key: "2" }),
    "\x88",
    call("collections.OrderedDict"),
  ),
  typed: call(
    "torch._tensor._rebuild_from_type_v2",
    global("torch._utils._rebuild_tensor_v2"),
    global("torch.Tensor"),
    `(${tuple(str("storage"), global("torch.FloatStorage"), str("2"), str("cpu"), int(2))}Q${int(0)}${tuple(int(2))}${tuple(int(1))}\x89Nt`,
    dict({}),
  ),
  expanded: tensor({ key: "2", shape: [4, 2], stride: [0, 1] }),
});

/** A network of one block, small enough to mutate: 60 tensors. */
const TINY: OsnetSpec = {
  dialect: "osnet",
  stem: { channels: 4, norm: "batch" },
  stages: [
    {
      blocks: [{ inChannels: 4, outChannels: 8, streams: 2, reduction: 2, instanceNorm: "none" }],
      transition: false,
    },
  ],
  gate: { reduction: 2, activation: "sigmoid", layerNorm: false },
  pooling: "avg",
  embedding: [2],
  head: { classes: 2, loss: "softmax" },
};

/** The tiny network's specification, as JSON. */
export const TINY_SPEC: string = JSON.stringify(TINY, null, 1);

const tiny: readonly Seed[] = (() => {
  const entries: Record<string, string> = {};
  const storages: Record<string, Uint8Array> = {};
  parametersOf(expand(TINY)).forEach(({ path, shape, dtype: type }, index) => {
    const numel = shape.reduce((count, size) => count * size, 1);
    const stride = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));
    const [name, bytes] = type === "int64" ? ["Long", 8] : ["Float", 4];
    entries[path] = tensor({ type: name, key: String(index), numel, shape, stride });
    storages[String(index)] = new Uint8Array(numel * Number(bytes));
  });
  return [archive("tiny", dict(entries), storages)];
})();

export const PTH_SEEDS: readonly Seed[] = [
  archive("zip", state, { 0: data, 1: data }),
  archive(
    "odd",
    odd,
    { 0: new Uint8Array(8), 1: new Uint8Array(8).fill(3), 2: data },
    { byteorder: "little" },
  ),
  archive("big-endian", state, { 0: data, 1: data }, { byteorder: "big" }),
  archive("memo", memo, { 0: data }),
  archive("module", module_, { 0: data }),
  archive("torchscript", script, { 0: data }, { "constants.pkl": ").", "code/__torch__/net.py": NET }),
  deflated("deflated", state, { 0: data, 1: data }),
  legacy("legacy", state.replaceAll("tQ", "NtQ"), ["0", "1"]),
  {
    name: "numpy",
    kind: "pickle",
    parts: [{ kind: "pickle", bytes: bytesOf(pickle(dict({ w: array, s: latin1 }))) }],
    assemble: ([value]) => value ?? new Uint8Array(0),
  },
  {
    // pickle.dump of tensors: each storage is a file of its own, inside the pickle.
    name: "nested",
    kind: "pickle",
    parts: [
      {
        kind: "pickle",
        bytes: nested(
          bytesOf(
            pickle("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"),
            pickle(int(1001)),
            pickle(dict({})),
            pickle(
              `${tuple(str("storage"), global("torch.FloatStorage"), str("7"), str("cpu"), int(2), "N")}Q`,
            ),
            pickle(`](${str("7")}e`),
            le(2, 8),
            data,
          ),
        ),
      },
    ],
    assemble: ([value]) => value ?? new Uint8Array(0),
  },
  {
    name: "protocol 0",
    kind: "pickle",
    parts: [
      {
        kind: "pickle",
        bytes: bytesOf(
          "(dp0\nS'w'\np1\nccopy_reg\n_reconstructor\np2\n(ca.A\nB\nc__builtin__\nobject\nNtRp3\nsVx\\u00e9\nI01\nsS'n'\nL17L\nsS'f'\nF1.5\ns",
          `S'a'\n${array}s.`,
        ),
      },
    ],
    assemble: ([value]) => value ?? new Uint8Array(0),
  },
  tar(),
];

export const CHECKPOINT_SEEDS: readonly Seed[] = tiny;

function archive(
  name: string,
  value: string,
  storages: Readonly<Record<string, Uint8Array>>,
  extra: Readonly<Record<string, string>> = {},
): Seed {
  return {
    name,
    kind: "zip",
    parts: [{ kind: "pickle", bytes: bytesOf(pickle(value)) }],
    assemble: ([body = new Uint8Array(0)]) =>
      zip([
        { name: "a/data.pkl", data: body },
        ...Object.entries(extra).map(([file, text]) => ({ name: `a/${file}`, data: text })),
        ...Object.entries(storages).map(([key, bytes]) => ({ name: `a/data/${key}`, data: bytes })),
      ]),
  };
}

function deflated(name: string, value: string, storages: Readonly<Record<string, Uint8Array>>): Seed {
  const pack = (file: string, bytes: Uint8Array): Entry => ({
    name: file,
    data: deflateSync(bytes),
    method: 8,
    size: bytes.length,
  });
  return {
    name,
    kind: "zip",
    parts: [{ kind: "pickle", bytes: bytesOf(pickle(value)) }],
    assemble: ([body = new Uint8Array(0)]) =>
      zip([
        pack("a/data.pkl", body),
        ...Object.entries(storages).map(([key, bytes]) => pack(`a/data/${key}`, bytes)),
      ]),
  };
}

function legacy(name: string, value: string, keys: readonly string[]): Seed {
  return {
    name,
    kind: "bytes",
    parts: [
      { kind: "pickle", bytes: bytesOf(pickle(value)) },
      { kind: "pickle", bytes: bytesOf(pickle(`](${keys.map(str).join("")}e`)) },
      { kind: "bytes", bytes: bytesOf(...keys.flatMap(() => [le(2, 8), data])) },
    ],
    assemble: (parts) =>
      bytesOf(
        pickle("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"),
        pickle(int(1001)),
        pickle(dict({})),
        ...parts,
      ),
  };
}

/** A tensor whose storage is a file inside the pickle. */
function nested(file: Uint8Array): Uint8Array {
  const storage = bytesOf(global("torch.storage._load_from_bytes"), `B${le(file.length, 4)}`, file, "\x85R");
  const head = `\x80\x02}(${str("w")}${global("torch._utils._rebuild_tensor_v2")}(`;
  return bytesOf(head, storage, `${int(0)}${tuple(int(2))}${tuple(int(1))}\x89NtRu.`);
}

/** The format of PyTorch 0.1. */
function tar(): Seed {
  const files = tarParts();
  return {
    name: "tar",
    kind: "bytes",
    parts: Object.values(files).map((bytes) => ({ kind: "pickle", bytes })),
    assemble: (parts) =>
      bytesOf(
        ...Object.keys(files).map((name, index) => tarFile(name, parts[index] ?? new Uint8Array(0))),
        new Uint8Array(1024),
      ),
  };
}
