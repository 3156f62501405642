import { describe, expect, it } from "vitest";
import { createModuleAllowance, pickledModules } from "../../../../src/convert/formats/pth/modules.js";
import type { InertObject, PickleValue } from "../../../../src/convert/formats/pth/pickle/values.js";

type Entries = Record<string, PickleValue>;

/** A pickled module, as torch.nn.Module's `__dict__` is. */
const module = (parts: { parameters?: Entries; buffers?: Entries; modules?: Entries } = {}): InertObject => ({
  kind: "object",
  path: "torch.nn.modules.module.Module",
  args: [],
  items: null,
  entries: null,
  state: new Map<PickleValue, PickleValue>([
    ["_parameters", new Map(Object.entries(parts.parameters ?? {}))],
    ["_buffers", new Map(Object.entries(parts.buffers ?? {}))],
    ["_modules", new Map(Object.entries(parts.modules ?? {}))],
  ]),
});

const ambiguities = (root: InertObject): Record<string, readonly string[]> =>
  Object.fromEntries(
    [...(pickledModules(root, createModuleAllowance()) ?? [])].flatMap(([path, found]) =>
      found.ambiguities.length > 0 ? [[path, found.ambiguities]] : [],
    ),
  );

describe("a pickled module", () => {
  it("whose names are each of one thing is not ambiguous", () => {
    const root = module({
      parameters: { weight: null },
      buffers: { mean: null },
      modules: { a: module(), b: null },
    });
    expect(ambiguities(root)).toEqual({});
  });

  it.each([
    [
      "a parameter and a buffer of one name",
      module({ parameters: { weight: null }, buffers: { weight: null } }),
      "weight twice",
    ],
    [
      "a parameter and a module of one name",
      module({ parameters: { a: null }, modules: { a: module() } }),
      "a twice",
    ],
    ["something else among its modules", module({ modules: { a: "torch.neg" } }), "a, which is not a module"],
    ["a name with a dot", module({ modules: { "conv1.bn": module() } }), "conv1.bn in _modules"],
    ["an empty name", module({ buffers: { "": null } }), "an empty name in _buffers"],
  ])("with %s is ambiguous", (_, root, found) => {
    expect(ambiguities(root)).toEqual({ "": [found] });
  });

  it.each<readonly [string, Partial<InertObject>, string]>([
    ["made with arguments", { args: [3] }, "arguments of its class"],
    ["with items", { items: ["torch.nn.Tanh"] }, "items of its own"],
    ["with keys", { entries: new Map([["2", null]]) }, "items of its own"],
    [
      "whose state is a tuple",
      { state: Object.freeze([module().state ?? null, null]) as PickleValue[] },
      "a state that is not a dict",
    ],
  ])("%s is ambiguous", (_, change, found) => {
    expect(ambiguities({ ...module(), ...change })).toEqual({ "": [found] });
  });

  it.each<readonly [string, PickleValue]>([
    ["a list", ["mean"]],
    ["a set of other objects", new Set([module()])],
  ])("whose transient buffers are in %s is ambiguous", (_, names) => {
    const state = new Map(module().state as Map<PickleValue, PickleValue>);
    expect(ambiguities({ ...module(), state: state.set("_non_persistent_buffers_set", names) })).toEqual({
      "": ["something other than names in _non_persistent_buffers_set"],
    });
  });

  it.each(["_parameters", "_buffers", "_modules"])("without a dict as %s is ambiguous", (kind) => {
    for (const other of [undefined, { ...module(), path: "collections.UserDict" }]) {
      const state = new Map(module().state as Map<PickleValue, PickleValue>);
      if (other) state.set(kind, other);
      else state.delete(kind);
      expect(ambiguities({ ...module(), state })).toEqual({ "": [`${kind} that is not a dict`] });
    }
  });

  it("with a buffer that its state dict omits is ambiguous", () => {
    const leaf = module({ buffers: { bias: "a tensor", none: null, mean: "a tensor" } });
    (leaf.state as Map<PickleValue, PickleValue>).set(
      "_non_persistent_buffers_set",
      new Set(["bias", "none"]),
    );
    expect(ambiguities(leaf)).toEqual({ "": ["bias, which its state dict omits"] });
  });

  it("with a list as its state is not a module", () => {
    const state = [new Map(module().state as Map<PickleValue, PickleValue>)];
    expect(ambiguities(module({ modules: { a: { ...module(), state } } }))).toEqual({
      "": ["a, which is not a module"],
    });
  });

  it("is ambiguous where two have one path", () => {
    const bn = module({ parameters: { weight: null }, buffers: { weight: null } });
    const root = module({ modules: { "conv1.bn": bn, conv1: module({ modules: { bn: module() } }) } });
    expect(ambiguities(root)).toEqual({
      "": ["conv1.bn in _modules"],
      "conv1.bn": ["a second module with the same path", "weight twice"],
    });
  });
});
