/** Mutations of an .npy file's header. Source: numpy.lib.format. */

import { bytesOf, le } from "../../convert/formats/pth/build.js";
import { type Mutator, mutateBytes, replaceToken } from "./bytes.js";

const DTYPES = [
  "<f4",
  ">f4",
  "|f4",
  "=f8",
  "f4",
  "<f2",
  "|b1",
  "|i1",
  "|u1",
  "<u2",
  "<i2",
  "<i8",
  "<u8",
  "<c8",
  "|O",
  "<U0",
  "<U-1",
  "<U4",
  "|S4",
  "<M8[ns]",
  "<V2",
  "",
  "__proto__",
  "constructor",
  "\n\x1b[2J",
] as const;

const NUMBERS = [
  "",
  "0",
  "1",
  "2",
  "3L",
  "-1",
  "1e9",
  "0x2",
  "4294967296",
  "281474976710656",
  "9007199254740993",
  "n",
];

const HEADER = /\{[^}]*\}/;

/** One mutation of a .npy file. */
export const mutateNpy: Mutator = (bytes, random) => {
  if (random.chance(0.25)) return mutateBytes(bytes, random);
  const text = String.fromCharCode(...bytes.subarray(0, 512));
  const header = HEADER.exec(text)?.[0];
  if (header === undefined) return mutateBytes(bytes, random);
  const changed = random.pick([
    () => replaceToken(header, /(?<='descr': ')[^']*/g, DTYPES, random),
    () => replaceToken(header, /\d+(?=[,)])/g, NUMBERS, random),
    () =>
      replaceToken(
        header,
        /\([^)]*\)/g,
        ["()", "(1,)", "(0, 9)", `(${"1,".repeat(70)})`, "(2, 1)", "[2]"],
        random,
      ),
    () => replaceToken(header, /True|False/g, ["True", "False", "None", "0"], random),
    () => replaceToken(header, /'\w+'(?=:)/g, ["'descr'", "'shape'", "'fortran_order'", "'x'"], random),
  ])();
  const at = text.indexOf(header);
  const whole = text.slice(at).includes("\n") ? text.indexOf("\n", at) + 1 : text.length;
  const version = random.chance(0.2) ? random.pick([0, 1, 2, 3, 9]) : (bytes[6] ?? 1);
  const body = `${changed} \n`;
  const length = random.chance(0.8)
    ? body.length
    : random.pick([0, 1, 0xffff, body.length - 1, body.length + 1]);
  const prefix = `\x93NUMPY${le(version, 1)}\0${le(length, version === 1 ? 2 : 4)}`;
  return bytesOf(prefix, body, bytes.subarray(whole));
};
