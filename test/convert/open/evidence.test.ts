import { unzipSync, zipSync } from "fflate";
import { describe, expect, it } from "vitest";
import { decodePth } from "../../../src/convert/formats/pth/decode.js";
import type {
  AttributeValue,
  PickledModule,
  PickledWrapper,
} from "../../../src/convert/formats/pth/modules.js";
import { identifyCheckpoint } from "../../../src/convert/open/checkpoint.js";
import { type CheckedModules, checkModules } from "../../../src/convert/open/pickled-modules.js";
import { InputError } from "../../../src/core/errors.js";
import { missing, readFixture } from "../../fixtures.js";
import { openFixture } from "../../support/osnet.js";

/** What reading a file comes to: its checkpoint, or the error's code and sentence with its details. */
function read(bytes: Uint8Array, key?: string) {
  try {
    return identifyCheckpoint(bytes, { subject: "m.pt", ...(key === undefined ? {} : { key }) });
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
}

function refused(bytes: Uint8Array): string {
  const error = read(bytes);
  if (!(error instanceof InputError)) throw new Error("read");
  expect(error.code).toBe("unsupported");
  return [error.message, ...(error.details ?? [])].join("\n");
}

const archives = new Map<string, ReturnType<typeof unzipSync>>();

function entriesOf(name: string): ReturnType<typeof unzipSync> {
  const entries = archives.get(name) ?? unzipSync(readFixture(name));
  archives.set(name, entries);
  return entries;
}

/** The archive with a text replaced in the entries whose names end in `suffix`: at its first place, or at all. */
function edited(
  name: string,
  suffix: string,
  from: string,
  to: string,
  { all = false }: { readonly all?: boolean } = {},
): Uint8Array {
  let found = false;
  const entries = Object.entries(entriesOf(name)).map(([path, data]) => {
    const text = Buffer.from(data).toString("latin1");
    if (!path.endsWith(suffix) || !text.includes(from)) return [path, data] as const;
    found = true;
    const result = all ? text.replaceAll(from, to) : text.replace(from, to);
    return [path, new Uint8Array(Buffer.from(result, "latin1"))] as const;
  });
  expect(found).toBe(true);
  return zipSync(Object.fromEntries(entries), { level: 0 });
}

const WHOLE = "encodings/whole_model.pt";

describe("a model pickled whole", () => {
  it.skipIf(missing(WHOLE))("is read with a note on what its file does not show", () => {
    const checkpoint = read(readFixture(WHOLE));
    if (checkpoint instanceof InputError) throw checkpoint;
    expect(checkpoint.decoded.notes.join()).toContain("is not in the file");
    expect(checkpoint.spec.gate.activation).toBe("sigmoid");
  });

  it.skipIf(missing(WHOLE)).each([
    ["another class", "ReLU\n", "ELU_\n", "ELU_"],
    ["another gate", "Sigmoid\n", "Softmax\n", "Softmax"],
    ["another pooling", "AdaptiveAvgPool2d\n", "AdaptiveLpPool_2d\n", "AdaptiveLpPool_2d"],
    ["another dilation", "X\x08\0\0\0dilation", "X\x08\0\0\0dilatioN", "has dilation nothing"],
    [
      "another eps",
      "\x3e\xe4\xf8\xb5\x88\xe3\x68\xf1",
      "\x3f\x50\x62\x4d\xd2\xf1\xa9\xfc",
      "has eps 0.001, not 0.00001",
    ],
  ])("with %s is refused", (_, from, to, found) => {
    expect(refused(edited(WHOLE, "data.pkl", from, to, { all: true }))).toContain(found);
  });

  it.skipIf(missing(WHOLE))("adopts gates that a spec can have", () => {
    const checkpoint = read(edited(WHOLE, "data.pkl", "activation\nSigmoid\n", "activation\nReLU\n"));
    if (checkpoint instanceof InputError) throw checkpoint;
    expect(checkpoint.spec.gate.activation).toBe("relu");
  });

  let decoded: ReturnType<typeof decodePth>["modules"];
  const pickled = () => {
    decoded ??= decodePth(readFixture(WHOLE), { subject: "m.pt" }).modules;
    return decoded;
  };

  /** The pickled modules with one changed, held against the network. */
  function changed(path: string, change: (module: PickledModule) => PickledModule): () => CheckedModules {
    const modules = pickled();
    const module = modules?.get(path);
    if (!modules || !module) throw new Error(`no module ${path}`);
    return () => checkModules(openFixture().graph, new Map(modules).set(path, change(module)), "m.pt");
  }

  it.skipIf(missing(WHOLE)).each([
    ["", "featuremaps"],
    ["", "conv5"],
    ["conv1", "relu"],
    ["conv1", "_call_impl"],
    ["conv2.0", "conv3"],
    ["conv2.0.gate", "forward"],
  ])("with an object in %j that stands before %s is refused", (path, name) => {
    const shadowed = changed(path, (module) => ({
      ...module,
      attributes: new Map(module.attributes).set(name, { type: "an object" }),
    }));
    expect(shadowed).toThrow(`${path || "the model"} has ${name} of its own`);
  });

  it.skipIf(missing(WHOLE)).each([
    ["conv5", "osnet.Conv1x1Linear"],
    ["conv2.0.conv3", "osnet.Conv1x1"],
    ["conv2.0.gate", "osnet.OSBlock"],
    ["conv1", "osnet.Conv3x3"],
  ])("with %s of class %s is refused", (path, className) => {
    expect(changed(path, (module) => ({ ...module, className }))).toThrow(
      `${path} is ${className}, which torchreid uses elsewhere`,
    );
  });

  it.skipIf(missing(WHOLE)).each([
    ["conv5", "torch.nn.modules.linear.Identity"],
    ["conv2.0.conv2b", "torch.nn.modules.linear.Identity"],
    ["conv3.0.conv2a", "torch.nn.modules.dropout.Dropout"],
  ])("whose %s keeps its modules in a %s, which does nothing, is refused", (path, className) => {
    expect(changed(path, (module) => ({ ...module, className }))).toThrow(
      `${path} is ${className}, which the network does not have`,
    );
  });

  it.skipIf(missing(WHOLE))("may have plain attributes of its own", () => {
    const marked = changed("conv2.0", (module) => ({
      ...module,
      attributes: new Map(module.attributes).set("note", "of 2019"),
    }));
    expect(marked().unread).toEqual([]);
  });

  it.skipIf(missing(WHOLE)).each([["__main__.MyBlock"], ["my_models.osnet_v2.OSBlock"]])(
    "with a class that torchreid does not have says that its code is not known: %s",
    (className) => {
      const { notes, unread } = changed("conv2.0", (module) => ({ ...module, className }))();
      expect(unread).toEqual([className]);
      expect(notes.at(-1)).toBe(
        `the code of ${className} was not checked: it belongs to neither PyTorch nor torchreid`,
      );
    },
  );

  it.skipIf(missing(WHOLE))("with a module in training mode says how it is read", () => {
    const { notes } = changed("conv1.bn", (module) => ({
      ...module,
      attributes: new Map(module.attributes).set("training", true),
    }))();
    expect(notes[1]).toMatch(/^1 of \d+ modules were saved in training mode/);
  });

  describe("within another module", () => {
    const none: PickledModule = { className: "", attributes: new Map(), children: [], ambiguities: [] };
    const within = (wrapper: Partial<PickledWrapper>): CheckedModules => {
      return checkModules(openFixture().graph, pickled() ?? new Map(), "m.pt", [
        { ...none, className: SEQUENTIAL, inner: "model", beside: [], ...wrapper },
      ]);
    };
    const SEQUENTIAL = "torch.nn.modules.container.Sequential";
    const PARALLEL = "torch.nn.parallel.data_parallel.DataParallel";
    const module = (className: string): PickledModule => ({ ...none, className });

    it.skipIf(missing(WHOLE))("that is neither PyTorch's nor torchreid's says so", () => {
      expect(within({ className: "__main__.Wrap" }).unread).toEqual(["__main__.Wrap"]);
      expect(within({ className: PARALLEL }).unread).toEqual([]);
    });

    it.skipIf(missing(WHOLE))("that only passes on is read", () => {
      const beside = [module("torch.nn.modules.linear.Identity"), module("torch.nn.modules.dropout.Dropout")];
      expect(within({ beside }).unread).toEqual([]);
    });

    it.skipIf(missing(WHOLE)).each([
      [
        "a layer behind it",
        { beside: [module("torch.nn.modules.activation.Tanh")] },
        "also has torch.nn.modules.activation.Tanh",
      ],
      [
        "a second network in it",
        { className: PARALLEL, beside: [module("osnet.OSNet")] },
        "also has osnet.OSNet",
      ],
      [
        "a forward of its own",
        { attributes: new Map([["forward", { type: "an object" }]]) },
        "has forward of its own",
      ],
      [
        "a hook",
        { className: PARALLEL, attributes: new Map([["_forward_hooks", { type: "a dict" }]]) },
        "_forward_hooks of its own",
      ],
      [
        "another class of PyTorch's",
        { className: "torch.nn.modules.container.ModuleList" },
        "computes something else",
      ],
      ["a name twice", { ambiguities: ["model twice"] }, "has model twice"],
    ])("with %s is refused", (_, wrapper, found) => {
      expect(() => within(wrapper)).toThrow(found);
    });
  });

  it.skipIf(missing(WHOLE)).each([
    ["conv1.bn", { ambiguities: ["running_mean twice"] }, "conv1.bn has running_mean twice"],
    ["", { ambiguities: ["conv1.bn in _modules"] }, "the model has conv1.bn in _modules"],
  ])("with a name of two meanings in %s is refused", (path, change, found) => {
    expect(changed(path, (one) => ({ ...one, ...change }))).toThrow(found);
  });

  it.skipIf(missing(WHOLE)).each(["conv2.0.gate", "conv1.bn"])(
    "with a child at %s that code tests is refused",
    (path) => {
      const name = path === "conv1.bn" ? "track_running_stats" : "return_gates";
      const change = (one: PickledModule): PickledModule => {
        const attributes = new Map(one.attributes);
        attributes.delete(name);
        return { ...one, attributes, children: [...one.children, name] };
      };
      expect(changed(path, change)).toThrow(new RegExp(`${path} .*has ${name} a module`));
    },
  );

  it.skipIf(missing(WHOLE)).each([
    ["", "osnet_ain.OSNet"],
    ["conv2.0", "osnet_ain.OSBlockINin"],
  ])("with the modules of another class at %s is refused, or its code is not known", (path, className) => {
    expect(changed(path, (one) => ({ ...one, className }))().unread).toEqual([className]);
    const named = changed(path, (one) => ({ ...one, className: `torchreid.models.${className}` }));
    expect(named).toThrow(`has modules that torchreid.models.${className} does not have`);
  });

  it.skipIf(missing(WHOLE)).each<readonly [string, AttributeValue]>([
    ["return_gates", 1],
    ["return_gates", "yes"],
    ["forward", { type: "an object" }],
    ["IN", { type: "an object" }],
    ["_forward_hooks", { type: "dict" }],
  ])("with the attribute %s at a block is refused", (key, value) => {
    const change = (one: PickledModule) => ({
      ...one,
      attributes: new Map([...one.attributes, [key, value]]),
    });
    expect(changed("conv2.0", change)).toThrow(`conv2.0 has ${key}`);
  });

  it
    .skipIf(missing(WHOLE))
    .each<readonly [path: string, key: string, value: AttributeValue, isRight: boolean]>([
      ["conv2.0.conv2a.conv2", "padding", "same", true],
      ["conv1.conv", "padding", "same", false],
      ["conv2.0.conv1.conv", "padding", "same", true],
      ["conv2.0.conv1.conv", "padding", "valid", true],
      ["conv2.0.conv2a.conv2", "padding", "valid", false],
      ["conv2.0.conv1.conv", "dilation", [2, 2], true],
      ["conv2.0.conv2a.conv2", "dilation", [2, 2], false],
      ["conv2.0.conv1.conv", "padding_mode", "reflect", true],
      ["conv2.0.conv2a.conv2", "padding_mode", "reflect", false],
    ])("whose %s has %s %j is read where it computes the same: %s", (path, key, value, isRight) => {
    const other = changed(path, (one) => ({ ...one, attributes: new Map(one.attributes).set(key, value) }));
    if (isRight) expect(other).not.toThrow();
    else expect(other).toThrow(`${path} (Conv2d) has ${key}`);
  });

  it.skipIf(missing(WHOLE))("with notes that nothing reads is taken", () => {
    const notes: readonly (readonly [string, AttributeValue])[] = [
      ["names", { type: "dict" }],
      ["cfg", { type: "an object" }],
      ["forward", { type: "dict" }],
    ];
    const change = (one: PickledModule) => ({ ...one, attributes: new Map([...one.attributes, ...notes]) });
    expect(changed("", change)).not.toThrow();
  });

  it.skipIf(missing("cases/files/whole_model_bn_eps.pth")).each([
    ["whole_model_bn_eps.pth", "conv1.bn (BatchNorm2d) has eps 0.001, not 0.00001"],
    ["whole_model_stem_stride.pth", "conv1.conv (Conv2d) has stride (1, 1), not (2, 2)"],
    ["torchscript_leaky_fc.pt", 'at fc.2 ("torch.leaky_relu")'],
  ])("%s is refused", (file, found) => {
    expect(refused(readFixture(`cases/files/${file}`))).toContain(found);
  });
});

const TRACED = "encodings/torchscript.pt";
/** Where the pooled map becomes a vector. */
const VIEWED = "    input = torch.view(_3, [int(_4), -1])";

describe("a traced model", () => {
  it.skipIf(missing(TRACED))("is followed to its embedding", () => {
    const checkpoint = read(readFixture(TRACED));
    if (checkpoint instanceof InputError) throw checkpoint;
    expect(checkpoint.decoded.notes).toContain("the traced code computes this network, layer by layer");
  });

  const trace = () => decodePth(readFixture(TRACED), { subject: "m.pt" }).trace;

  it.skipIf(missing(TRACED))("has each call once", () => {
    const names = trace()?.calls.map(({ name }) => name) ?? [];
    expect(names.filter((name) => name === "torch.sigmoid")).toHaveLength(24);
    expect(names.filter((name) => name === "torch._convolution")).toHaveLength(187);
  });

  it.skipIf(missing(TRACED)).each([
    ["a stream left out", "(gate).forward2(_9, )", "(gate).forward2(_8, )", "changed in place"],
    ["an embedding taken earlier", "return (fc).forward(input, )", "return input", "at fc.0"],
    ["a difference", "input0 = torch.add(", "input0 = torch.sub(", "torch.sub"],
    ["a statement of another kind", "_0 = (maxpool)", "if x: (maxpool)", "not a plain trace"],
    ["a view overwritten", VIEWED, `${VIEWED}\n    _x = torch.mul_(_3, 2)`, "changed in place"],
    [
      "a part of a view overwritten",
      VIEWED,
      `${VIEWED}\n    _x = torch.select(_3, 1, 0)\n    _y = torch.zero_(_x)`,
      "changed in place",
    ],
    [
      "the images overwritten",
      "    _0 = (maxpool)",
      "    _x = torch.copy_(torch.select(x, 1, 0), torch.select(x, 1, 1))\n    _0 = (maxpool)",
      "changed in place",
    ],
    [
      "the result overwritten",
      "return (fc).forward(input, )",
      "_x = (fc).forward(input, )\n    _y = torch.mul_(_x, 2)\n    return _x",
      "a result that was changed in place",
    ],
    [
      "a hook",
      "class OSNet(Module):\n",
      'class OSNet(Module):\n  __forward_hooks__ = ["hook", ]\n',
      "__forward_hooks__",
    ],
    [
      "a hook behind a bracket in a string",
      "  __buffers__ = []\n",
      '  __buffers__ = ["(", ]\n  __forward_hooks__ = ["hook", ]\n  __parameters__ = [")", ]\n',
      "__buffers__",
    ],
    ["the class a second time", VIEWED, `${VIEWED}\nclass OSNet(Module):\n  __buffers__ = []`, "class OSNet"],
    [
      "a class in another form",
      VIEWED,
      `${VIEWED}\nclass OSNet(Module) :\n  __buffers__ = []`,
      "class OSNet",
    ],
    [
      "what runs when it is loaded",
      VIEWED,
      `${VIEWED}\n  def __setstate__(self, state: Tensor) -> NoneType:`,
      "__setstate__",
    ],
    [
      "another class declared",
      "fc : __torch__.torch.nn.modules.container",
      "fc : __torch__.other",
      "self.fc",
    ],
    ["a list changed", VIEWED, `${VIEWED}\n    _l = [2, 2]\n    _x = torch._set_item(_l, 0, 1)`, "as well"],
    ["a tensor exchanged", VIEWED, `${VIEWED}\n    _x = torch.set_data(_3, torch.neg(_3))`, "as well"],
    ["functions by the name of values", VIEWED, `${VIEWED}\n    torch = self.conv1`, "torch = self.conv1"],
    [
      "a text in three quotes",
      VIEWED,
      `${VIEWED}\n  def other(self, x: Tensor) -> Tensor:\n    y = """\n    return x`,
      "not a plain trace",
    ],
    [
      "other lines behind a result",
      VIEWED,
      `${VIEWED}\n    return input\n    _x = (fc).forward(input, )`,
      "not a plain trace",
    ],
    ["a number without its fraction", "int(_4)", "int(1e-05)", "not a plain trace"],
    [
      "a parameter with a value, in whose text torch sees another end",
      "x: Tensor) -> Tensor:",
      "x: Tensor=torch.zeros([torch.len(''')])) -> Tensor:",
      "not a plain trace",
    ],
    ["an octal number", "torch.size(_3, 0)", "torch.size(_3, 00)", "not a plain trace"],
  ])("with %s is refused", (_, from, to, found) => {
    expect(refused(edited(TRACED, "osnet.py", from, to))).toContain(found);
  });

  it.skipIf(missing(TRACED)).each([
    [
      "a tuple of its embedding",
      "return (fc).forward(input, )",
      "_x = (fc).forward(input, )\n    return (_x,)",
    ],
    ["a factor of 1 by name", "(gate).forward2(_9, ))", "(gate).forward2(_9, ), alpha=1.)"],
  ])("with %s is read", (_, from, to) => {
    expect(read(edited(TRACED, "osnet.py", from, to))).not.toBeInstanceOf(InputError);
  });

  it.skipIf(missing(TRACED)).each([
    ["another factor by name", "(gate).forward2(_9, ))", "(gate).forward2(_9, ), alpha=2.)"],
    ["a factor by another name", "(gate).forward2(_9, ))", "(gate).forward2(_9, ), out=1.)"],
    ["a tuple of two", "return (fc).forward(input, )", "_x = (fc).forward(input, )\n    return (_x, _x)"],
  ])("with %s is not", (_, from, to) => {
    expect(read(edited(TRACED, "osnet.py", from, to))).toBeInstanceOf(InputError);
  });

  /** The trace with other lines before its result, and with a constant of one int64 behind them. */
  const withConstant = (value: number, lines: string): Uint8Array => {
    const files = unzipSync(edited(TRACED, "osnet.py", "    return (fc)", lines));
    const folder = Object.keys(files)[0]?.split("/")[0];
    const pickled =
      "\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nLongStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQK\0(t(t\x89ccollections\nOrderedDict\n)RtR\x85.";
    return zipSync(
      {
        ...files,
        [`${folder}/constants.pkl`]: new Uint8Array(Buffer.from(pickled, "latin1")),
        [`${folder}/constants/0`]: new Uint8Array(BigInt64Array.of(BigInt(value)).buffer),
      },
      { level: 0 },
    );
  };

  it.skipIf(missing(TRACED))("may add a constant 0, as that of osnet_ain does, and nothing else", () => {
    const added = "    _z = torch.add(input, CONSTANTS.c0)\n    input = _z\n    return (fc)";
    expect(read(withConstant(0, added))).not.toBeInstanceOf(InputError);
    expect(refused(withConstant(1, added))).toContain("at fc.0");
    const changed = `    _y = torch.add_(torch.detach(CONSTANTS.c0), 1)\n${added}`;
    expect(refused(withConstant(0, changed))).toContain("torch.add_ of a parameter");
    expect(refused(withConstant(0, added.replace("c0", "c1")))).toContain("CONSTANTS.c1");
  });

  it.skipIf(missing(TRACED))("with a batch norm in training, whose result nothing reads, is refused", () => {
    const line = "    input = torch.batch_norm(";
    const training =
      "    _x = torch.batch_norm(argument_1, weight, bias, running_mean, running_var, True, 1., 1e-05, True)\n";
    expect(refused(edited(TRACED, "batchnorm.py", line, training + line))).toContain("torch.batch_norm");
  });
});

describe("parts of a state dict", () => {
  const two = "cases/files/two_branches.pth";

  it.skipIf(missing(two))("are named where there are several, and taken with a key", () => {
    const error = read(readFixture(two));
    expect(error).toMatchObject({ code: "state-dict" });
    expect((error as InputError).message).toContain("--key student or --key teacher");
    for (const key of ["student", "teacher"])
      expect(read(readFixture(two), key)).not.toBeInstanceOf(InputError);
  });

  it.skipIf(missing("cases/files/classifier_without_bias.pth"))(
    "are extra heads where a classifier has no bias",
    () => {
      const checkpoint = read(readFixture("cases/files/classifier_without_bias.pth"));
      expect(checkpoint).toMatchObject({ extra: ["classifier.weight"], spec: { head: null } });
    },
  );
});
