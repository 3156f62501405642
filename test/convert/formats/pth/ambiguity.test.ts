import { describe, expect, it } from "vitest";
import {
  call,
  checkpoint,
  decoded,
  dict,
  floats,
  global,
  int,
  le,
  pickle,
  refusal,
  str,
  tensor,
  tuple,
} from "./build.js";

/** Files that PyTorch would read otherwise than their first sight suggests: refused, never read in one of two ways. */

const weights = { 0: floats(1, 2) };
const scalar = (code: string, data: string) =>
  call("numpy.core.multiarray.scalar", call("numpy.dtype", str(code)), `C${le(data.length, 1)}${data}`);

describe("names in an archive, whose case PyTorch ignores,", () => {
  const value = dict({ w: tensor() });

  it.each([
    ["BYTEORDER", "byteorder"],
    ["Constants.pkl", "constants.pkl"],
    ["MODEL.JSON", "model.json"],
    ["DATA/0", "data/0"],
  ])("are refused where they differ in it from what is looked up: %s", (name, wanted) => {
    const file = checkpoint(value, wanted === "data/0" ? {} : weights, { [name]: "big" });
    expect(refusal(file)).toContain(
      `found a zip entry named "archive/${name}", expected "archive/${wanted}"`,
    );
  });
});

describe("a TorchScript archive", () => {
  const net = `${global("__torch__.Net")})\x81${dict({ w: tensor() })}b`;
  const constants = { "constants.pkl": pickle(")") };

  it("is refused where PyTorch would read an older description of the model", () => {
    expect(refusal(checkpoint(net, weights, { ...constants, "model.json": "{}" }))).toContain(
      "found a TorchScript model in an older format",
    );
  });

  it("is refused where there is a model without code, or code without a model", () => {
    expect(refusal(checkpoint(net, weights))).toContain("found a TorchScript model without its code");
    expect(refusal(checkpoint(dict({ w: tensor() }), weights, constants))).toContain(
      "found TorchScript's code without its model",
    );
    expect(decoded(checkpoint(dict({ w: tensor() }), weights))).toHaveProperty("w");
  });

  const script = (model: string, body: string, methods = ""): Uint8Array =>
    checkpoint(model, weights, {
      ...constants,
      "code/__torch__.py": `class Net(Module):\n  __parameters__ = ["w", ]\n  w : Tensor\n  def forward(self: __torch__.Net, x: Tensor) -> Tensor:\n${body}${methods}`,
    });
  const relu = "    return torch.relu(x)\n";

  it("is read where it has what torch's own pickler writes", () => {
    expect(decoded(script(net, relu))).toHaveProperty("w");
  });

  it.each([
    ["POP", "N0"],
    ["STACK_GLOBAL", `${str("torch")}${str("FloatStorage")}\x93`],
    ["a string of Python 2", "U\x01a"],
    ["NEWOBJ_EX", `${global("__torch__.Net")})}\x92`],
  ])("is refused with opcodes that torch's C++ does not read: %s", (_, opcodes) => {
    expect(refusal(script(dict({ a: opcodes }), relu))).toMatch(
      /found the byte 0x\w\w at byte \d+ of archive\/data.pkl/,
    );
  });

  it.each([
    "torch._tensor._rebuild_from_type_v2",
    "torch._utils._rebuild_tensor",
    "torch.nn.parameter.Parameter",
  ])("is refused with a name that torch's C++ takes otherwise: %s", (name) => {
    expect(refusal(script(tuple(global(name), net), relu))).toContain(`would run "${name}"`);
  });

  it.each([
    ["lists in lists", "    l0 = [x, x]\n    l1 = [l0, l0]\n    return torch.relu(l1)\n"],
    ["long lists", `    l0 = [${"x, ".repeat(20)}]\n    return torch.relu(l0)\n`],
    [
      "methods that call one another",
      "    return self.f0(x)\n",
      Array.from(
        { length: 40 },
        (_, at) =>
          `  def f${at}(self: __torch__.Net, x: Tensor) -> Tensor:\n    a = self.f${at + 1}(x)\n    return self.f${at + 1}(a)\n`,
      ).join(""),
    ],
    ["a statement of many lines", `    x = torch.relu(\n${"a,\n".repeat(50_000)}`],
  ])("is refused at once with %s in its code", (_, body, methods = "") => {
    expect(refusal(script(net, body, methods))).toContain("found TorchScript code that is not a plain trace");
  });
});

describe("the key of a dict", () => {
  const under = (...keys: readonly string[]) =>
    checkpoint(
      `}(${str("w")}${tensor()}${keys.map((key) => key + tensor({ offset: 1, shape: [1] })).join("")}u`,
      weights,
    );

  it.each([
    ["a class of its own", call("collections.UserString", str("w")), "collections.UserString"],
    ["numpy's text", scalar("U1", "w\0\0\0"), "numpy.core.multiarray.scalar"],
    ["a member of an enumeration", call("my.Key", int(1)), "my.Key"],
    ["a tuple with one", tuple(call("my.Key", int(1))), "list or tuple"],
    ["a name that is no class", global("string.digits"), "string.digits"],
    ["Python 2's text", "U\x02\xc3\xa9", "bytes"],
    ["Python 2's text in protocol 0", "S'\\xc3\\xa9'\n", "bytes"],
  ])("is refused where it is %s, which may equal text", (_, key, type) => {
    expect(refusal(under(key))).toContain(`found a dict with a key of type ${type}`);
    const pairs = call("collections.OrderedDict", `](${tuple(key, tensor())}e`);
    expect(refusal(checkpoint(pairs, weights))).toContain("found a dict with a key of type");
  });

  it("may be a number, a class, a parameter or a tuple, as in the state of training", () => {
    const keys = [
      int(1),
      "\x88",
      "N",
      global("my.Callback"),
      tensor(),
      tuple(int(1), str("w")),
      "\x8f(K\x01\x90",
    ];
    expect(decoded(under(...keys))).toEqual({ w: { dtype: "float32", shape: [2], values: [1, 2] } });
  });

  it("is one where numpy's number equals another", () => {
    const first = dict({ v: tensor() });
    const value = `}(${int(1)}${first}${scalar("i8", le(1, 8))}${dict({ w: tensor() })}u`;
    expect(Object.keys(decoded(checkpoint(value, weights)))).toEqual(["w"]);
  });
});

describe("what may be a tensor to PyTorch", () => {
  const state = (value: string) => checkpoint(dict({ "a.weight": tensor(), "b.weight": value }), weights);

  it.each([
    ["the class of a parameter under another name", `${global("torch.nn.Parameter")}${tensor()}\x85\x81`],
    [
      "a class of torch in protocol 0",
      call("copyreg._reconstructor", global("torch.nn.Parameter"), global("builtins.list"), tensor()),
    ],
    [
      "a metaclass of torch",
      `${global("torch.nn.Meta")}${tuple(str("C"), tuple(), dict({ f: tensor() }))}\x81`,
    ],
  ])("is refused where it is given to %s", (_, value) => {
    expect(refusal(state(value))).toMatch(/found a call to "torch[\w.]+" with objects/);
  });

  it.each([
    ["None", "N"],
    ["dict", dict({})],
    ["my.Tensor", `${global("my.Tensor")})\x81`],
    ["torch.nn.parameter.UninitializedParameter", call("torch.nn.parameter.UninitializedParameter", "N")],
    ["my.constants", global("my.constants")],
  ])("is refused under a parameter's name: %s", (type, value) => {
    expect(refusal(state(value))).toContain(`found a value of type ${type} under "b.weight"`);
  });

  it("is a tensor where PyTorch returns it as it is", () => {
    const two = { dtype: "float32", shape: [2], values: [1, 2] };
    expect(decoded(state(call("torch.jit._pickle.restore_type_tag", tensor(), str("Tensor"))))).toEqual({
      "a.weight": two,
      "b.weight": two,
    });
    expect(refusal(state(call("numpy.ndarray", tuple(int(1)), str("f4"), "C\x01a")))).toContain(
      "numpy.ndarray",
    );
  });

  it("is ignored under other names, and where it counts batches or is extra state", () => {
    const others = {
      epoch: int(1),
      args: call("my.Args"),
      "a._extra_state": "N",
      "a.num_batches_tracked": int(1),
    };
    expect(Object.keys(decoded(checkpoint(dict({ "a.weight": tensor(), ...others }), weights)))).toEqual([
      "a.weight",
    ]);
  });

  it("is refused among a module's parameters and buffers", () => {
    const module = (parameter: string, buffer: string) =>
      `${global("my.Net")})\x81${dict({
        _parameters: dict({ w: tensor(), v: parameter }),
        _buffers: dict({ b: buffer }),
        _modules: dict({}),
      })}b`;
    expect(decoded(checkpoint(module("N", "N"), weights))).toHaveProperty("w");
    for (const value of [module(global("my.value"), "N"), module("N", call("my.Tensor"))])
      expect(refusal(checkpoint(value, weights))).toMatch(/found a value of type my\.\w+ under "[vb]"/);
  });
});

describe("a frame, which CPython reads as a whole,", () => {
  const frame = (length: number) => `\x95${le(length, 8)}`;

  it("may end after any opcode, and the last one after the pickle", () => {
    const value = dict({ w: tensor() });
    for (const framed of [
      `${frame(1)}N0${frame(value.length + 1)}${value}`,
      `${frame(2)}N0${frame(0)}${value}`,
    ])
      expect(decoded(checkpoint(framed, weights))).toHaveProperty("w");
  });

  it.each([
    ["longer than the pickle", `${frame(3)}N`],
    ["that ends within an opcode", `${frame(3)}${int(1)}0N`],
    ["that ends within a line", `${frame(2)}I1234\n0N`],
    ["in another", `${frame(20)}${frame(2)}N0N`],
  ])("is refused where it is one %s", (_, value) => {
    expect(refusal(checkpoint(value))).toContain("found a frame that does not end where an opcode does");
  });
});

describe("a class that everybody has", () => {
  const read = (value: string) => decoded(checkpoint(dict({ w: tensor(), args: value }), weights));
  const refused = (value: string) => refusal(checkpoint(dict({ w: tensor(), args: value }), weights));

  it.each([
    "abc.ABCMeta",
    "types.MethodType",
    "weakref.WeakValueDictionary",
    "_weakrefset.WeakSet",
    "collections.ChainMap",
  ])("is refused where it is no class of plain data: %s", (path) => {
    for (const value of [call(path), `${global(path)})\x81`])
      expect(refused(value)).toContain(`found a pickle that would run "${path}"`);
  });

  it("is no state of another object, whose attributes it would be", () => {
    const state = `${global("collections.UserDict")})\x81${dict({ data: dict({}) })}b`;
    expect(refused(`${global("my.Net")})\x81${state}b`)).toContain(
      "found a pickle that changes a value of type my.Net",
    );
  });

  it("may not be given objects, even those that get their tensors later", () => {
    const later = `${global("my.Group")}${tuple(int(1))}\x81q\x09`;
    const groups = `](${later}eq\x08`;
    const scheduler = `${call("my.Scheduler", groups)}0h\x09${dict({ lr: tensor() })}b0`;
    expect(
      refused(`${groups}0${scheduler}${call("torch.optim.lr_scheduler.SequentialLR", "h\x08")}`),
    ).toContain('found a call to "torch.optim.lr_scheduler.SequentialLR" with objects');
    expect(refused(`${groups}0${scheduler}${call("my.Scheduler", "h\x08")}`)).toContain(
      'found a call to "my.Scheduler" with tensors',
    );
  });

  it("has no items, and no members by name", () => {
    expect(refused(`${global("collections.UserDict")})\x81${str("a")}Ns`)).toContain(
      "found a pickle that changes a value",
    );
    expect(refused(call("builtins.getattr", global("torch.Tensor"), str("zero_")))).toContain(
      "builtins.getattr",
    );
  });

  it("is read with plain data, as are named tuples of other code with tensors", () => {
    for (const value of [
      `${global("argparse.Namespace")})\x81${dict({ lr: int(1) })}b`,
      call("torch.amp.grad_scaler.OptState", int(1)),
      call("pathlib.PosixPath", str("a")),
      call("__builtin__.xrange", int(0), int(3), int(1)),
      call("re._compile", str("a"), int(32)),
      `${global("my.Pair")}${tuple(tensor(), int(1))}\x81`,
    ])
      expect(read(value)).toHaveProperty("w");
  });
});

describe("an object with attributes and slots", () => {
  const object = (attributes: string, slots: string) =>
    checkpoint(`${global("argparse.Namespace")})\x81${tuple(attributes, slots)}b`, weights);

  it("has the tensors of both, and is refused where a name is in both", () => {
    const model = dict({ model: dict({ w: tensor() }) });
    for (const file of [object(dict({ a: int(1) }), model), object(model, "N"), object("N", model)])
      expect(decoded(file)).toHaveProperty("w");
    expect(refusal(object(model, model))).toContain(
      "found a pickle that changes a value of type argparse.Namespace",
    );
  });
});

describe("an object with items", () => {
  const object = (items: string, state: string) =>
    checkpoint(`${global("my.Dict")})\x81(${items}u${state}b`, weights);
  const w = `${str("w")}${tensor()}`;

  it("is refused where its state may contain others", () => {
    for (const other of [dict({ w: tensor() }), `](${dict({ w: tensor() })}e`, call("my.Dict")])
      expect(refusal(object(w, dict({ data: other })))).toContain(
        "found a pickle that changes a value of type my.Dict",
      );
  });

  it("is read where its state has the same, or plain values", () => {
    expect(decoded(object(`${str("w")}${tensor()}q\x09`, `}${str("w")}h\x09s`))).toHaveProperty("w");
    expect(decoded(object(w, dict({ _metadata: dict({ version: int(1) }) })))).toHaveProperty("w");
  });
});
