/** Mutations of JSON text: of its values, its keys, and its spelling. */

import { pickFrom, type Random } from "../random.js";
import { type Mutator, mutateBytes, replaceToken } from "./bytes.js";

const VALUES = [
  "null",
  "true",
  "0",
  "-1",
  "-0",
  "0.5",
  "1e400",
  "-1e400",
  "1e308",
  "27",
  "65",
  "4294967296",
  "9007199254740991",
  "9007199254740993",
  "281474976710656",
  '""',
  '"F32"',
  '"\\u0000\\u001b[2J\\n"',
  '"__proto__"',
  "[]",
  "[0]",
  "[0,0]",
  "[8,0]",
  "[0,9007199254740992]",
  "[-1,4]",
  "{}",
  '{"__proto__":1}',
] as const;

const KEYS = [
  '"__proto__"',
  '"constructor"',
  '"__metadata__"',
  '"dtype"',
  '"shape"',
  '"data_offsets"',
  '""',
  '"\\ud800"',
  '"a\\nb\\u001b[31m"',
  `"${"k".repeat(300)}"`,
] as const;

const KEY = /"(?:[^"\\]|\\.)*"(?=\s*:)/g;
const SCALAR = /(?<=[:[,]\s*)(?:-?\d[\d.eE+-]*|"(?:[^"\\]|\\.)*"(?!\s*:)|true|false|null)/g;
const PAIR = /"(?:[^"\\]|\\.)*"\s*:\s*(?:-?\d+|"(?:[^"\\]|\\.)*"|\[[^[\]{}]*\]|\{[^{}]*\})/g;

const MUTATORS: readonly [
  (text: string, random: Random) => string,
  ...((text: string, random: Random) => string)[],
] = [
  (text, random) => replaceToken(text, SCALAR, VALUES, random),
  (text, random) => replaceToken(text, SCALAR, VALUES, random),
  (text, random) => replaceToken(text, KEY, KEYS, random),
  // One key, or value, in place of another; a pair twice, a pair gone.
  (text, random) => replaceToken(text, KEY, text.match(KEY) ?? [], random),
  (text, random) => replaceToken(text, SCALAR, text.match(SCALAR) ?? VALUES, random),
  (text, random) => {
    const pair = pickFrom(text.match(PAIR) ?? [], random) ?? '"a":1';
    return replaceToken(text, PAIR, [`${pair},${pair}`], random);
  },
  (text, random) => replaceToken(text, new RegExp(`${PAIR.source},?`, "g"), [""], random),
  // Depth.
  (text, random) => {
    const depth = 1 + random.below(2000);
    const [open, close] = random.pick([["[", "]"] as const, ['{"a":', "}"] as const]);
    return replaceToken(text, SCALAR, [`${open.repeat(depth)}1${close.repeat(depth)}`], random);
  },
  // What is around: a byte order mark, blanks, other texts.
  (text, random) => random.pick(["\ufeff", " ", "\0", "//", text]) + text,
  (text, random) => text + random.pick([" ", "    ", "\0", "}", "x"]),
];

/** One mutation of JSON. */
export const mutateJson: Mutator = (bytes, random) => {
  if (random.chance(0.2)) return mutateBytes(bytes, random);
  const text = new TextDecoder().decode(bytes);
  return new TextEncoder().encode(random.pick(MUTATORS)(text, random));
};
