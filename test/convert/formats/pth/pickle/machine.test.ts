import { describe, expect, it } from "vitest";
import { Cursor } from "../../../../../src/convert/formats/cursor.js";
import { pickleEnvironment } from "../../../../../src/convert/formats/pth/legacy.js";
import { runPickle } from "../../../../../src/convert/formats/pth/pickle/machine.js";
import type { PickleValue } from "../../../../../src/convert/formats/pth/pickle/values.js";
import { createBudget } from "../../../../../src/convert/formats/refusals.js";
import { bytesOf } from "../build.js";

const run = (opcodes: string): PickleValue => {
  const cursor = new Cursor(bytesOf(opcodes), { subject: "test.pkl", part: "the file" });
  return runPickle(cursor, pickleEnvironment(createBudget("test.pkl", opcodes.length)));
};

/** What Python 3.11's pickle.dumps, or Python 2.7's, wrote for a value in each protocol. */
const VALUES: readonly (readonly [name: string, opcodes: string, value: PickleValue])[] = [
  ["None", "N.", null],
  ["True, protocol 0", "I01\n.", true],
  ["False, protocol 0", "I00\n.", false],
  ["True", "\x80\x02\x88.", true],
  ["an int, protocol 0", "I-17\n.", -17],
  ["a long, protocol 0", "L123456789012345678901234567890L\n.", 123456789012345678901234567890n],
  ["BININT", "J\xfe\xff\xff\xff.", -2],
  ["BININT1", "K\xff.", 255],
  ["BININT2", "M\x01\x02.", 513],
  ["LONG1 of no bytes", "\x8a\x00.", 0],
  ["LONG1, negative", "\x8a\x02\x00\xff.", -256],
  ["LONG1, large", "\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00.", 2n ** 63n],
  ["LONG4", "\x8b\x01\x00\x00\x00\x05.", 5],
  ["a float, protocol 0", "F-1.5e3\n.", -1500],
  ["inf, protocol 0", "Finf\n.", Number.POSITIVE_INFINITY],
  ["BINFLOAT", "G\x3f\xf8\x00\x00\x00\x00\x00\x00.", 1.5],
  ["a Python 2 str, protocol 0", "S'a\\n\\'\\xff\\\\'\n.", bytesOf("a\n'\xff\\")],
  ["a Python 2 str of escapes", 'S"\\t\\101\\7\\q\\x414\'"\n.', "\tA\x07\\qA4'"],
  ["an empty Python 2 str, protocol 0", "S''\n.", ""],
  ["a Python 2 str", "U\x02\xe9b.", bytesOf("éb")],
  ["a long Python 2 str", "T\x02\x00\x00\x00\xe9b.", bytesOf("éb")],
  ["unicode, protocol 0", "V\\u20ac\xe9\\U0001f600\n.", "€é😀"],
  ["BINUNICODE", "X\x03\x00\x00\x00\xe2\x82\xac.", "€"],
  ["SHORT_BINUNICODE", "\x80\x04\x8c\x01a.", "a"],
  ["BINUNICODE8", "\x80\x04\x8d\x01\0\0\0\0\0\0\0a.", "a"],
  ["SHORT_BINBYTES", "C\x02\x00\xff.", new Uint8Array([0, 255])],
  ["BINBYTES", "B\x01\x00\x00\x00a.", new Uint8Array([97])],
  ["BINBYTES8", "\x8e\x01\0\0\0\0\0\0\0a.", new Uint8Array([97])],
  ["BYTEARRAY8", "\x80\x05\x96\x01\0\0\0\0\0\0\0a.", new Uint8Array([97])],
  ["a list, protocol 0", "(lp0\nI1\naI2\na.", [1, 2]],
  ["a list", "](K\x01K\x02e.", [1, 2]],
  ["a tuple, protocol 0", "(I1\nI2\ntp0\n.", [1, 2]],
  ["tuples of 0 to 3", "()K\x01\x85K\x01K\x02\x86K\x01K\x02K\x03\x87t.", [[], [1], [1, 2], [1, 2, 3]]],
  ["a dict, protocol 0", "(dp0\nS'a'\nI1\ns.", new Map([["a", 1]])],
  [
    "a dict",
    "}(U\x01aK\x01U\x01bNu.",
    new Map<PickleValue, PickleValue>([
      ["a", 1],
      ["b", null],
    ]),
  ],
  ["a dict of a mark", "(U\x01aK\x01d.", new Map([["a", 1]])],
  ["a set", "\x80\x04\x8f\x94(K\x01K\x02\x90.", new Set([1, 2])],
  ["a frozenset", "\x80\x04(K\x01K\x01\x91.", new Set([1])],
  ["a set, protocol 2", "\x80\x02c__builtin__\nset\nq\x00]q\x01K\x01a\x85q\x02Rq\x03.", new Set([1])],
  [
    "bytes, protocol 2",
    "\x80\x02c_codecs\nencode\nq\x00X\x02\0\0\0\xc3\xbfX\x06\0\0\0latin1\x86Rq\x03.",
    new Uint8Array([255]),
  ],
  ["no bytes, protocol 2", "\x80\x02c__builtin__\nbytes\n)R.", new Uint8Array(0)],
  ["an OrderedDict", "\x80\x02ccollections\nOrderedDict\n)R(U\x01aK\x01u.", new Map([["a", 1]])],
  [
    "an OrderedDict, Python 2",
    "\x80\x02ccollections\nOrderedDict\n]]U\x01aaK\x01aa\x85R.",
    new Map([["a", 1]]),
  ],
  [
    "a defaultdict",
    "\x80\x02ccollections\ndefaultdict\nc__builtin__\nlist\n\x85RU\x01a]s.",
    new Map([["a", []]]),
  ],
  ["the memo by text", "]p7\n0g7\n.", []],
  ["the memo by byte and by word", "]q\x070h\x07r\x07\x01\0\x000j\x07\x01\0\0.", []],
  ["POP, POP_MARK, DUP", "K\x01N0(K\x02K\x0312K\x04\x86\x86.", [1, [1, 4]]],
  ["torch.Size", "\x80\x02ctorch\nSize\nK\x03\x85\x85R.", [3]],
];

describe("the pickle machine", () => {
  it.each(VALUES)("reads %s", (_, opcodes, value) => {
    expect(run(opcodes)).toEqual(value);
  });

  it("builds a list that contains itself", () => {
    const list = run("\x80\x04\x95\x06\0\0\0\0\0\0\0]\x94h\x00a.");
    expect(Array.isArray(list) && list[0] === list).toBe(true);
  });

  it("records what constructing a class would have been given, whatever opcode constructs it", () => {
    const object = {
      kind: "object",
      path: "pkg.mod.Class",
      args: [1],
      state: undefined,
      items: null,
      entries: null,
    };
    expect(run("cpkg.mod\nClass\nK\x01\x85R.")).toEqual(object);
    expect(run("cpkg.mod\nClass\nK\x01\x85\x81.")).toEqual(object);
    expect(run("cpkg.mod\nClass\nK\x01\x85}\x92.")).toEqual(object);
    expect(run("(K\x01ipkg.mod\nClass\n.")).toEqual(object);
    expect(run("(cpkg.mod\nClass\nK\x01o.")).toEqual(object);
    expect(run("\x8c\x07pkg.mod\x8c\x05Class\x93K\x01\x85R.")).toEqual(object);
    expect(run("ccopy_reg\n_reconstructor\n(cpkg.mod\nClass\nc__builtin__\nobject\nK\x01tR.")).toEqual(
      object,
    );
    expect(run("cpkg.mod\nClass\nK\x01\x85RK\x05aU\x01kK\x06s}U\x01sK\x07sb.")).toEqual({
      ...object,
      items: [5],
      entries: new Map([["k", 6]]),
      state: new Map([["s", 7]]),
    });
  });

  it("takes for one key what Python does", () => {
    expect(run("}(K\x01U\x01a\x88U\x01bu.")).toEqual(new Map([[1, "b"]]));
  });

  it("keeps a list and the list made from it apart", () => {
    expect(run("](K\x01eq\x00cbuiltins\nlist\nh\x00\x85RK\x02ah\x00\x86.")).toEqual([[1, 2], [1]]);
  });

  it("reads a backslash before a backslash as two", () => {
    expect(run("V\\\\u0041\n.")).toBe("\\\\u0041");
  });

  it("leaves the attributes of a built-in dict aside", () => {
    expect(run("ccollections\nOrderedDict\n)R}U\x09_metadataNsb.")).toEqual(new Map());
  });

  it.each([
    ["I1x\n.", '"1x" at byte 1 of the file, expected a decimal integer'],
    [`I${"1".repeat(700)}\n.`, '1..." at byte 1 of the file, expected a decimal integer'],
    // Python's two unpicklers read these in different ways, or in one that no pickler means.
    ["I010\n.", "expected a decimal integer"],
    ["I+0\n.", "expected a decimal integer"],
    ["I-0\n.", "expected a decimal integer"],
    ["I0x10\n.", "expected a decimal integer"],
    ["I1_0\n.", "expected a decimal integer"],
    ["I1L\n.", "expected a decimal integer"],
    ["L0x10L\n.", "expected a decimal integer"],
    ["S'\\x4'\n.", "an unfinished escape"],
    ["S'a\\'\n.", "an unfinished escape"],
    ["V\\ud83d\\ude00\n.", "expected a Unicode character"],
    ["V\\u12\n.", "expected an escape with all its digits"],
    [")K\x01a.", "items added on a value of type list or tuple"],
    ["](K\x01\x90.", "members added on a value of type list or tuple"],
    ["ccollections\nOrderedDict\n]]U\x01aaK\x01aa\x85\x81.", "collections.OrderedDict(list or tuple)"],
    ["ccollections\nCounter\n]]U\x01aaK\x01aa\x85R.", "collections.Counter(list or tuple)"],
    ["cbuiltins\nlist\n](K\x01e\x85\x81.", "builtins.list(list or tuple)"],
    ["ctorch\nSize\n)}U\x01aK\x01s\x92.", "torch.Size(dict)"],
    ["}}U\x04keysNsb.", "a pickle that changes a value of type dict"],
    ["cpkg\nClass\n)R}b}b.", "a pickle that changes a value of type pkg.Class"],
    ["F0x1\n.", '"0x1" at byte 1 of the file, expected a floating-point number'],
    ["S'\n.", 'found "\'" at byte 1 of the file, expected a quoted string'],
    ["Sa\n.", '"a" at byte 1 of the file, expected a quoted string'],
    ["V\\U00110000\n.", "expected a Unicode character"],
    ["gx\n.", '"x" at byte 1 of the file, expected a memo index'],
    ["I1", "an unterminated line at byte 1 of the file"],
    ["c_codecs\nencode\nU\x01aU\x05utf-8\x86R.", "_codecs.encode(str, str) before byte"],
    ["NNb.", "a pickle that changes a value of type None"],
    ["NN\x93.", "a class without a name"],
  ])("refuses %j", (opcodes, message) => {
    expect(() => run(opcodes)).toThrow(message);
  });
});
