import { describe, expect, it } from "vitest";
import {
  bytesOf,
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

const weights = { 0: floats(1, 2) };
const withWeights = (payload: string): Uint8Array => checkpoint(dict({ w: tensor(), payload }), weights);
const refusedCall = (path: string) =>
  new RegExp(
    `found a pickle that would run "${path}", before byte \\d+ of [^ ]+(?: file)? \\(nothing was run\\), expected data`,
  );

describe("a pickle that would run code", () => {
  it.each([
    ["os.system", call("os.system", str("true"))],
    ["posix.system", call("posix.system", str("true"))],
    ["nt.system", call("nt.system", str("true"))],
    ["subprocess.Popen", call("subprocess.Popen", str("true"))],
    ["builtins.eval", call("__builtin__.eval", str("1"))],
    ["builtins.exec", call("builtins.exec", str("1"))],
    ["builtins.getattr", call("builtins.getattr", global("os.path"), str("join"))],
    ["builtins.getattr", call("builtins.getattr", global("subprocess.Popen"), str("wait"))],
    ["types.CodeType", call("types.CodeType", int(0))],
    ["builtins.__import__", call("builtins.__import__", str("os"))],
    ["runpy._run_code", call("runpy._run_code", str("1"))],
    ["torch.hub.load", call("torch.hub.load", str("a/b"))],
    ["torch.serialization.os.system", "\x8c\x13torch.serialization\x8c\x09os.system\x93)R"],
    ["webbrowser.open", call("webbrowser.open", str("https://example.org"))],
    ["operator.methodcaller", call("operator.methodcaller", str("system"))],
    ["numpy.testing._private.utils.runstring", call("numpy.testing._private.utils.runstring", str("1"))],
    ["os.system", `(S'true'\nios\nsystem\n`],
    ["os.system", `(${global("os.system")}S'true'\no`],
    ["subprocess.Popen", `${global("subprocess.Popen")}${tuple(str("true"))}\x81`],
    ["subprocess.Popen", `${global("subprocess.Popen")}${tuple(str("true"))}}\x92`],
    ["os.system", call("copy_reg.__newobj__", global("os.system"), str("true"))],
    ["os._Environ", call("copyreg._reconstructor", global("os._Environ"), global("builtins.object"), "N")],
  ])("is refused whatever else it holds: %s", (path, payload) => {
    expect(refusal(withWeights(payload))).toMatch(refusedCall(path));
    expect(refusal(bytesOf(pickle(payload)))).toMatch(refusedCall(path));
  });

  it("is refused in protocol 0, which is text", () => {
    expect(refusal(bytesOf("cos\nsystem\n(S'true'\ntR."))).toMatch(refusedCall("os.system"));
  });

  it("is refused when it calls what it made, changes a class or names a registered extension", () => {
    const partial = call("functools.partial", global("os.system"));
    expect(refusal(withWeights(`${partial})R`))).toContain(
      "found a call to a value of type functools.partial",
    );
    expect(refusal(withWeights(`${global("torch.nn.Module")}${dict({ __call__: "N" })}b`))).toContain(
      "found a pickle that changes a value of type torch.nn.Module",
    );
    expect(refusal(withWeights("\x82\x01"))).toContain("found copyreg extension 1 before byte");
    expect(refusal(withWeights("\x97"))).toContain("found a buffer kept outside the file");
  });

  it("is refused when it changes a dict that an object has taken as its state", () => {
    const built = `${global("my.Module")})\x81${dict({ eps: int(1) })}q\x07b0h\x07`;
    expect(refusal(withWeights(`${built}${str("eps")}K\x02s`))).toContain(
      "found a pickle that changes a value of type dict",
    );
    expect(decoded(withWeights(built))).toEqual({ w: { dtype: "float32", shape: [2], values: [1, 2] } });
  });

  it.each([
    ["that was made from a dict", `${call("my.ChainMap", dict({}))}`],
    ["that was made from a tuple of lists", `${call("my.Maps", tuple("]"))}`],
    ["that has its state", `${global("collections.UserDict")})\x81${dict({ data: dict({}) })}b`],
  ])("is refused when it sets items of an object %s", (_, object) => {
    expect(refusal(withWeights(`${object}${str("weight")}Ns`))).toContain(
      "found a pickle that changes a value",
    );
    expect(refusal(withWeights(`${object}(Ne`))).toContain("found a pickle that changes a value");
  });

  it.each([
    ["torch._utils._rebuild_device_tensor_from_cpu_tensor", tensor()],
    ["builtins.getattr", `${global("my.Phase")}${str("forward")}`],
  ])("is refused where it sets the state of what %s returns, which is what it was given", (path, given) => {
    expect(refusal(withWeights(`${call(path, given)}${dict({ eps: int(1) })}b`))).toContain(
      `found a pickle that changes a value of type ${path}`,
    );
  });

  it.each([
    ["torch.Tensor.copy_", fromType("N", "torch.Tensor.copy_")],
    ["os.system", fromType("N", "os.system")],
    ["os.system", call("numpy.random._pickle.__generator_ctor", str("true"), global("os.system"))],
    ["builtins.map", `${global("builtins.map")}${tuple(global("os.system"), `](${str("true")}e`)}\x81`],
    ["itertools.starmap", `${global("itertools.starmap")}${tuple(global("os.system"), "]")}\x81`],
  ])("is refused where Python would run what it names: %s", (path, payload) => {
    expect(refusal(withWeights(payload))).toMatch(refusedCall(path));
  });

  it("is refused where a deque would run an iterator", () => {
    expect(refusal(withWeights(call("collections.deque", call("my.Iterator"))))).toContain(
      "found collections.deque(my.Iterator)",
    );
    expect(decoded(withWeights(call("collections.deque", "]", int(4))))).toHaveProperty("w");
  });

  it("is refused where a tensor's attributes are in something else than a dict", () => {
    const attributes = `${global("collections.UserDict")})\x81`;
    expect(refusal(withWeights(fromType(attributes)))).toContain(
      "found a tensor with attributes of type collections.UserDict, which may change its elements",
    );
  });

  function fromType(attributes: string, rebuilt = "torch._utils._rebuild_tensor_v2"): string {
    return call(
      "torch._tensor._rebuild_from_type_v2",
      global(rebuilt),
      global("torch.Tensor"),
      tuple(),
      attributes,
    );
  }
  it.each([
    ["an attribute that torch copies into its elements", fromType(dict({ real: tensor() }))],
    ["one of two parts", fromType(tuple("N", dict({ real: tensor() })))],
    [
      "one of a parameter",
      call(
        "torch._utils._rebuild_parameter_with_state",
        tensor(),
        "\x89",
        dict({}),
        dict({ real: tensor() }),
      ),
    ],
  ])("is refused where any tensor has %s: others may share these", (_, payload) => {
    expect(refusal(withWeights(payload))).toContain(
      'a tensor with the attribute "real", which may change its elements',
    );
  });

  it.each([
    ["a tensor", tensor()],
    ["a list with one", `](${tensor()}e`],
    ["a module that has none yet", `${global("my.Net")})\x81`],
  ])("is refused where it calls a class with %s", (_, given) => {
    expect(refusal(withWeights(call("my.Parametrization", given)))).toContain(
      'found a call to "my.Parametrization" with tensors',
    );
  });

  it("is read where it calls a class with plain data, which stays as it is", () => {
    const called = call("my.Config", `${dict({ a: int(1) })}q\x07`);
    expect(decoded(withWeights(called))).toEqual({ w: { dtype: "float32", shape: [2], values: [1, 2] } });
    expect(refusal(withWeights(`${called}0h\x07${str("a")}K\x02s`))).toContain(
      "found a pickle that changes a value of type dict",
    );
  });

  it("is read where it sets items of a new object, and then its state", () => {
    const made = `${global("my.Dict")})\x81${str("key")}Ns${dict({ a: int(1) })}b`;
    const deque = `${call("collections.deque", "]", int(10))}(K\x01e`;
    for (const payload of [made, deque])
      expect(decoded(withWeights(payload))).toEqual({ w: { dtype: "float32", shape: [2], values: [1, 2] } });
  });

  it("is read where it names a member of an enumeration, which nothing can then call", () => {
    const member = call("builtins.getattr", global("my.Phase"), str("TEST"));
    expect(decoded(withWeights(member))).toEqual({ w: { dtype: "float32", shape: [2], values: [1, 2] } });
    expect(refusal(withWeights(`${member})R`))).toContain("found a call to a value of type builtins.getattr");
  });

  it("is read where it only names classes and their state, which stay inert", () => {
    const module = `${global("evil.Module")})\x81${dict({ __setstate__: global("os.system") })}b`;
    expect(decoded(withWeights(module))).toEqual({ w: { dtype: "float32", shape: [2], values: [1, 2] } });
  });
});

describe("a pickle that multiplies", () => {
  it("by sharing is walked once", () => {
    const level = (index: number) =>
      `](${`h${String.fromCharCode(index)}`.repeat(10)}eq${String.fromCharCode(index + 1)}`;
    const laughs = `]q\x00${Array.from({ length: 200 }, (_, index) => level(index)).join("")}`;
    expect(refusal(bytesOf(pickle(laughs)))).toContain("without tensors");
  });

  it.each([
    ["dict", `](${tuple("K\x01", "K\x02").repeat(1000)}e`],
    ["set", `](${"K\x01".repeat(1000)}e`],
  ])("by copying a %s meets the budget", (type, source) => {
    const copies = `${source}q\x00${global(`builtins.${type}`)}q\x01${"h\x01h\x00\x85R0".repeat(1000)}`;
    expect(refusal(bytesOf(pickle(copies)))).toMatch(
      new RegExp(`found copies of a ${type}, for a total of \\d+ bytes, expected at most 1048576`),
    );
  });

  it("by decoding text to bytes meets the budget", () => {
    const copies = `${str("a".repeat(10000))}q\x00${global("_codecs.encode")}q\x01${`h\x01h\x00${str("latin1")}\x86R0`.repeat(200)}`;
    expect(refusal(bytesOf(pickle(copies)))).toContain("found byte strings, for a total of");
  });

  it("by one-byte opcodes meets a limit", () => {
    for (const opcode of ["N", "(", "}", "]", ")", "\x8f", "2"]) {
      expect(refusal(bytesOf("\x80\x02N", opcode.repeat(4_000_000))), opcode).toMatch(
        /found a pickle whose objects take 1[67]\d{6} bytes, expected at most 16777216|at most 16000012/,
      );
    }
  });

  it("by modules that contain themselves or one another has no weights", () => {
    const state = (child: string) =>
      `}(${str("_parameters")}${dict({ w: tensor() })}${str("_buffers")}}${str("_modules")}${dict({ a: child, b: child })}ub`;
    const inside = (type: string): string => `${global(type)})\x81q\x00${state("h\x00")}`;
    expect(refusal(checkpoint(inside("evil.Module"), weights))).toContain(
      "found a value of type evil.Module without tensors",
    );
    expect(refusal(checkpoint(inside("__torch__.Module"), weights))).toContain("as torch.jit.freeze and");
    let doubling = `${global("evil.Module")})\x81q\x00${state("N")}`;
    for (let depth = 1; depth < 40; depth++) {
      const [below, here] = [depth - 1, depth].map((index) => String.fromCharCode(index));
      doubling += `0${global("evil.Module")})\x81q${here}${state(`h${below}`)}`;
    }
    expect(refusal(checkpoint(doubling, weights))).toContain("without tensors");
  });

  it("by objects that share one large dict is walked once", () => {
    const large = `}q\x00(${Array.from({ length: 20_000 }, (_, index) => `M${le(index, 2)}]`).join("")}u`;
    const objects = `${global("a.A")}q\x01(${"h\x01)\x81h\x00b".repeat(20_000)}l`;
    expect(refusal(checkpoint(tuple(large, objects)))).toContain("without tensors");
    const module = `}(${str("_parameters")}h\x00${str("_buffers")}}${str("_modules")}}uq\x02`;
    const modules = `${global("a.A")}q\x01(${"h\x01)\x81h\x02b".repeat(20_000)}l`;
    expect(refusal(checkpoint(tuple(large, module, modules)))).toContain("without tensors");
  });

  it("by arrays that share one text meets the budget", () => {
    const text = `U\xff${"a".repeat(255)}q\x00${call("numpy.dtype", str("u1"))}q\x01`;
    const array = `${call("numpy.core.multiarray.scalar", "h\x01", "h\x00")}`;
    const arrays = dict(Object.fromEntries(Array.from({ length: 5000 }, (_, index) => [`w${index}`, array])));
    expect(refusal(bytesOf(pickle(tuple(text, arrays))))).toMatch(
      /found byte strings, for a total of|found copies of tensors/,
    );
  });

  it("by depth does not overflow the stack", () => {
    const deep = `]q\x00${"\x85".repeat(150_000)}`;
    expect(refusal(checkpoint(deep))).toContain("found a value of type list or tuple without tensors");
    expect(refusal(checkpoint(`}${deep}Ns`))).toContain("found a dict with a key of type list or tuple");
    expect(refusal(checkpoint(`${"}X\x01\0\0\0a".repeat(40_000)}N${"s".repeat(40_000)}`))).toContain(
      "without tensors",
    );
  });
});

describe("a pickle that lies", () => {
  it.each([
    ["a string of 4 GB", `X${le(0xffffffff, 4)}`, "0 bytes left where 4294967295 should follow"],
    ["bytes of 2^60", `\x8e${le(0, 7)}\x10`, "the size 1152921504606846976 at byte 3"],
    ["an integer of 2 GB", `\x8b${le(0x7fffffff, 4)}`, "an integer of 2147483647 bytes"],
    ["more values than it made", "0", "a pickle that pops more values than it pushed"],
    ["values from below a mark", "N(\x85", "a pickle that pops more values than it pushed"],
    ["a memo entry before it is made", "h\x07", "memo entry 7 used before it is defined"],
    ["a dict with half a pair", "}(Nu", "a key without a value set on a value of type dict"],
    ["items for a number", "K\x01Na", "items added on a value of type int"],
    ["arguments that are none", `${global("a.A")}NR`, "arguments of type None"],
    ["text that is not UTF-8", "X\x01\0\0\0\xff", "a string that is not UTF-8 at byte 7"],
    ["no end", "N", "0 bytes left where 1 should follow"],
    ["an opcode that is none", "\xff", "the byte 0xff at byte 2 of the file"],
    ["protocol 9", "\x80\x09", "pickle protocol 9"],
    ["a reference out of the file", "NQ", "an external reference in the pickle of the file"],
  ])("about %s is refused where it does", (_, opcodes, found) => {
    expect(refusal(bytesOf("\x80\x02", opcodes))).toContain(`weights.pth: found ${found}`);
  });

  it("keys such as __proto__ are keys like any other", () => {
    const value = dict({ ["__proto__"]: tensor(), constructor: tensor(), toString: tensor() });
    expect(Object.keys(decoded(checkpoint(value, weights)))).toEqual([
      "__proto__",
      "constructor",
      "toString",
    ]);
    expect(Object.hasOwn(Object.prototype, "dtype")).toBe(false);
  });
});
