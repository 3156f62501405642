import { describe, expect, it } from "vitest";
import { decodePth } from "../../../../src/convert/formats/pth/decode.js";
import { call, checkpoint, dict, floats, global, int, refusal, str, tensor, tuple } from "./build.js";

const NAMES = ["conv1.weight", "conv1.bias", "fc.weight", "fc.bias"];
const weights = (prefix = "", names: readonly string[] = NAMES): string =>
  dict(Object.fromEntries(names.map((name) => [prefix + name, tensor()])));

const decode = (value: string, options: { key?: string } = {}) => {
  const { stateDict, wrapperPath, removedPrefix, notes } = decodePth(checkpoint(value, { 0: floats(1, 2) }), {
    subject: "weights.pth",
    ...options,
  });
  return { keys: [...stateDict.keys()], wrapperPath, removedPrefix, notes };
};

describe("the state dict", () => {
  it.each(["state_dict", "model", "net", "model_state_dict", "anything"])("is found under %s", (name) => {
    const value = dict({ epoch: int(3), [name]: weights(), optimizer: dict({ state: dict({}) }) });
    expect(decode(value)).toEqual({ keys: NAMES, wrapperPath: name, removedPrefix: "", notes: [] });
  });

  it("is found at any depth, in lists and in objects", () => {
    expect(decode(dict({ a: dict({ "b.c": weights() }) })).wrapperPath).toBe("a.b.c");
    expect(decode(tuple(int(1), weights())).wrapperPath).toBe("1");
    const object = `${global("my.Checkpoint")})\x81${dict({ net: weights() })}b`;
    expect(decode(dict({ best: object })).wrapperPath).toBe("best.net");
  });

  it.each([
    ["module.", ""],
    ["model.backbone.", ""],
    ["module.model.net.", ""],
    ["_orig_mod.", ""],
  ])("loses the prefix %s", (prefix) => {
    const { keys, removedPrefix, notes } = decode(weights(prefix));
    expect({ keys, removedPrefix }).toEqual({ keys: NAMES, removedPrefix: prefix });
    expect(notes).toEqual([`removed the prefix ${prefix} from 4 keys`]);
  });

  it("keeps a prefix that is not common, and keys beside a common one", () => {
    expect(decode(dict({ "module.a": tensor(), b: tensor() }))).toMatchObject({
      keys: ["module.a", "b"],
      removedPrefix: "",
    });
    const many = Array.from({ length: 19 }, (_, index) => `conv${index}.weight`);
    const value = dict(
      Object.fromEntries(
        [...many.map((name) => `backbone.${name}`), "heads.fc.weight"].map((name) => [name, tensor()]),
      ),
    );
    expect(decode(value)).toEqual({
      keys: [...many, "heads.fc.weight"],
      wrapperPath: "",
      removedPrefix: "backbone.",
      notes: ["removed the prefix backbone. from 19 keys", "1 key does not have it: heads.fc.weight"],
    });
  });

  it("is not an average or the optimizer's where there is another, and the choice is stated", () => {
    const names = Array.from({ length: 20 }, (_, index) => `layer${index}.weight`);
    const value = dict({
      optimizer: dict({ exp_avg: weights("", [...names, "x"]) }),
      model_ema: weights("module.", [...names, "n_averaged"]),
      net: weights("", names),
    });
    const { wrapperPath, notes } = decode(value);
    expect(wrapperPath).toBe("net");
    expect(notes).toEqual(["used net; select another with --key: model_ema, optimizer.exp_avg"]);
  });

  it("is not smaller for lack of the counters of newer versions", () => {
    const names = ["a.weight", "b.weight"];
    const older = dict(Object.fromEntries(names.map((name) => [name, tensor()])));
    const counted = names.flatMap((name) => [name, name.replace("weight", "num_batches_tracked")]);
    const newer = dict(Object.fromEntries(counted.map((name) => [name, tensor()])));
    expect(decode(dict({ old: newer, state_dict: older }))).toMatchObject({
      wrapperPath: "state_dict",
      notes: ["used state_dict; select another with --key: old"],
    });
  });

  it.each([
    ["model", `}(${str("model.w")}${tensor()}${str("model")}${dict({ w: tensor() })}u`],
    ["0", `}(${int(0)}${dict({ w: tensor() })}${str("0")}${dict({ w: tensor() })}u`],
    ["a.b", dict({ "a.b": dict({ w: tensor() }), a: dict({ b: dict({ w: tensor() }) }) })],
  ])("is refused where --key %s says two places", (key, value) => {
    expect(refusal(checkpoint(value, { 0: floats(1, 2) }), key)).toContain(
      `--key ${key}: found 2 places of that path`,
    );
  });

  it("is where --key says, from either of two paths", () => {
    const value = `${global("my.Dict")})\x81${str("ema")}${dict({ w: tensor() })}q\x07s}${str("ema")}h\x07sb`;
    expect(decode(value, { key: "ema" })).toMatchObject({ wrapperPath: "ema" });
  });

  it("is where --key says", () => {
    const value = dict({ state_dict: weights(), ema: dict({ shadow: weights("module.") }) });
    expect(decode(value, { key: "ema.shadow" })).toMatchObject({
      wrapperPath: "ema.shadow",
      removedPrefix: "module.",
    });
    expect(decode(value, { key: "ema" })).toMatchObject({ wrapperPath: "ema.shadow" });
    const two = dict(
      Object.fromEntries(
        ["student.", "teacher."].flatMap((who) => NAMES.map((name) => [who + name, tensor()])),
      ),
    );
    expect(decode(dict({ model: two }), { key: "model.teacher" })).toEqual({
      keys: NAMES,
      wrapperPath: "model",
      removedPrefix: "teacher.",
      notes: ["ignored 4 tensors outside teacher.", "removed the prefix teacher. from 4 keys"],
    });
  });

  it("ignores values that are not tensors, with a note", () => {
    expect(decode(dict({ "a.weight": tensor(), epoch: int(3), name: str("x") })).notes).toEqual([
      "ignored values that are not tensors: epoch, name",
    ]);
  });

  it("of a pickled module has PyTorch's order, without buffers that are not persistent", () => {
    const ordered = (entries: Readonly<Record<string, string>>) =>
      call("collections.OrderedDict") + dict(entries).slice(1);
    const module = (
      parameters: Record<string, string>,
      buffers: Record<string, string>,
      modules: Record<string, string>,
    ) =>
      `${global("torch.nn.modules.Any")})\x81${dict({
        _modules: ordered(modules),
        _buffers: ordered(buffers),
        _parameters: ordered(parameters),
        _non_persistent_buffers_set: call("__builtin__.set", `](${str("cache")}e`),
      })}b`;
    const leaf = module({ weight: tensor(), bias: "N" }, { mean: tensor(), cache: tensor() }, {});
    expect(decode(module({ scale: tensor() }, {}, { conv: leaf, fc: leaf })).keys).toEqual([
      "scale",
      "conv.weight",
      "conv.mean",
      "fc.weight",
      "fc.mean",
    ]);
  });
});
