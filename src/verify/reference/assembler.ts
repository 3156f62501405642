/**
 * A WebAssembly assembler, as small as two functions over float64 vectors need: named instructions in, module bytes
 * out. Source: WebAssembly Core Specification 2.0, chapter 5 (binary format), section 5.4.8 (vector instructions).
 *
 * A module imports one memory, `reference.memory`, and exports functions from i32 and f64 parameters to nothing.
 */

/** Bytes, nested as the source is nested; flattened when a module is assembled. */
export type Code = number | readonly Code[];

/** A function whose locals are numbered: parameters (i32), then `numbers` (f64), then `integers` (i32), then `vectors` (v128). */
export interface FunctionDefinition {
  readonly name: string;
  readonly parameters: number;
  /** Parameters too. Default 0. */
  readonly numbers?: number;
  readonly integers: number;
  readonly vectors: number;
  readonly body: Code;
}

const I32 = 0x7f;
const F64 = 0x7c;
const V128 = 0x7b;
const EMPTY_BLOCK = 0x40;
const END = 0x0b;

export const local = {
  get: (index: number): Code => [0x20, unsigned(index)],
  set: (index: number): Code => [0x21, unsigned(index)],
  tee: (index: number): Code => [0x22, unsigned(index)],
} as const;

export const f32 = {
  demote: 0xb6,
} as const;

export const i32 = {
  const: (value: number): Code => [0x41, signed(value)],
  add: 0x6a,
  sub: 0x6b,
} as const;

interface VectorCodes {
  load(offset: number): Code;
  /** Loads one float32 into all four lanes. */
  load32Splat(offset: number): Code;
  /** Loads one float64 into both lanes. */
  load64Splat(offset: number): Code;
  /** Loads 8 bytes into the low half, and zeros into the other. */
  load64Zero(offset: number): Code;
  store(offset: number): Code;
  /** One 32-bit number in all four lanes. */
  const32(value: number): Code;
  readonly zero: Code;
  readonly and: Code;
  readonly or: Code;
  readonly xor: Code;
  readonly not: Code;
}

/** Loads and stores take the address from the stack and add a constant offset in bytes. */
export const v128: VectorCodes = {
  load: (offset) => vector(0x00, memoryArgument(offset)),
  load32Splat: (offset) => vector(0x09, [2, unsigned(offset)]),
  load64Splat: (offset) => vector(0x0a, memoryArgument(offset)),
  load64Zero: (offset) => vector(0x5d, memoryArgument(offset)),
  store: (offset) => vector(0x0b, memoryArgument(offset)),
  const32: (value) =>
    vector(0x0c, ...[0, 1, 2, 3].map(() => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff))),
  zero: vector(0x0c, new Array<number>(16).fill(0)),
  and: vector(0x4e),
  or: vector(0x50),
  xor: vector(0x51),
  not: vector(0x4d),
};

/**
 * `pmax` is the first, or the second where that is greater: a NaN in the second does not count. `promote` and `demote` are of the low two of four float32, `convert` of the low two of four i32.
 * `relaxedMadd` multiplies two vectors and adds a third; whether it rounds the product depends on the processor (Relaxed SIMD, WebAssembly 3.0).
 */
export const f64x2: Readonly<
  Record<
    | "splat"
    | "le"
    | "abs"
    | "add"
    | "sub"
    | "mul"
    | "pmax"
    | "promote"
    | "demote"
    | "convert"
    | "relaxedMadd",
    Code
  >
> = {
  splat: vector(0x14),
  le: vector(0x4b),
  demote: vector(0x5e),
  promote: vector(0x5f),
  abs: vector(0xec),
  add: vector(0xf0),
  sub: vector(0xf1),
  mul: vector(0xf2),
  pmax: vector(0xf7),
  convert: vector(0xfe),
  relaxedMadd: vector(0x107),
};

export const f32x4: Readonly<Record<"splat" | "abs" | "add" | "mul" | "pmax" | "relaxedMadd", Code>> = {
  splat: vector(0x13),
  abs: vector(0xe0),
  add: vector(0xe4),
  mul: vector(0xe6),
  pmax: vector(0xeb),
  relaxedMadd: vector(0x105),
};

export const i32x4: Readonly<Record<"shiftRight" | "sub", Code>> = {
  shiftRight: vector(0xac),
  sub: vector(0xb1),
};

/** Repeats the body until it leaves zero on the stack. */
export function repeatWhile(body: Code): Code {
  return [0x03, EMPTY_BLOCK, body, [0x0d, 0], END];
}

/** Adds a constant to an i32 local. */
export function advance(index: number, by: number): Code {
  return [local.get(index), i32.const(by), i32.add, local.set(index)];
}

/** Adds -1 to an i32 local and leaves the result on the stack. */
export function countDown(index: number): Code {
  return [local.get(index), i32.const(1), i32.sub, local.tee(index)];
}

/** The bytes of a module of these functions over the imported memory. */
export function assemble(functions: readonly FunctionDefinition[]): Uint8Array<ArrayBuffer> {
  const types = functions.map(({ parameters, numbers = 0 }) => {
    const kinds = [...new Array(parameters).fill(I32), ...new Array(numbers).fill(F64)];
    return [0x60, list(kinds), list([])];
  });
  const memory = [name("reference"), name("memory"), 0x02, 0x00, unsigned(0)];
  const bodies = functions.map(({ integers, vectors, body }) =>
    sized([
      list([
        [unsigned(integers), I32],
        [unsigned(vectors), V128],
      ]),
      body,
      END,
    ]),
  );
  const module: Code = [
    [0x00, 0x61, 0x73, 0x6d], // "\0asm"
    [0x01, 0x00, 0x00, 0x00], // version 1
    section(1, list(types)),
    section(2, list([memory])),
    section(3, list(functions.map((_, index) => unsigned(index)))),
    section(7, list(functions.map((definition, index) => [name(definition.name), 0x00, unsigned(index)]))),
    section(10, list(bodies)),
  ];
  return Uint8Array.from(flatten(module));
}

function section(id: number, content: Code): Code {
  return [id, sized(content)];
}

function list(items: readonly Code[]): Code {
  return [unsigned(items.length), items];
}

function sized(content: Code): Code {
  const bytes = flatten(content);
  return [unsigned(bytes.length), bytes];
}

function name(text: string): Code {
  return list([...new TextEncoder().encode(text)]);
}

function vector(opcode: number, ...immediates: Code[]): Code {
  return [0xfd, unsigned(opcode), immediates];
}

/** Alignment is only a hint: 2³ bytes, one float64. */
function memoryArgument(offset: number): Code {
  return [3, unsigned(offset)];
}

/** LEB128. */
function unsigned(value: number): Code {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, unsigned(value >>> 7)];
}

function signed(value: number): Code {
  return value >= -0x40 && value < 0x40 ? [value & 0x7f] : [(value & 0x7f) | 0x80, signed(value >> 7)];
}

function flatten(code: Code): number[] {
  return typeof code === "number" ? [code] : code.flatMap(flatten);
}
