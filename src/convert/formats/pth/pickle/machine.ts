import { type Cursor, decodeLatin1, decodeUtf8 } from "../../cursor.js";
import { corrupt, position, quote, unsupported } from "../../refusals.js";
import { call, construct, dictKey, giveAway, mayHaveTensors, refusedCall, within } from "./calls.js";
import { globalName, isKnownCode, SCRIPT_NAME, takesState } from "./names.js";
import {
  parseFloatLine,
  parseIndexLine,
  parseIntLine,
  parseLongLine,
  parseQuotedLine,
  parseUnicodeLine,
  readLine,
} from "./text.js";
import {
  type InertObject,
  ITEM_BYTES,
  isAscii,
  isGlobal,
  isObject,
  isTuple,
  type Machine,
  MEMBER_BYTES,
  Memo,
  type Opcode,
  type OpcodeTable,
  PAIR_BYTES,
  type PickleEnvironment,
  PickleStack,
  type PickleValue,
  SLOT_BYTES,
  tuple,
  typeName,
} from "./values.js";

/**
 * A pickle interpreter that can only build data. Source: CPython's Lib/pickletools.py, protocols 0 to 5.
 *
 * The opcodes are a closed table. A class or function in a pickle remains a name; a call of it becomes an inert record
 * (`calls.ts`), so nothing in the file ever runs. Opcodes that need a registry outside the file (EXT1, EXT2, EXT4,
 * NEXT_BUFFER) are refused. One opcode consumes at least one byte and costs constant time plus the values it consumes;
 * building or copying values is charged to the budget: the interpreter cannot loop or explode.
 */

/** Runs one pickle from the cursor's position to just after its STOP and returns what it built. */
export function runPickle(cursor: Cursor, environment: PickleEnvironment): PickleValue {
  const stack = new PickleStack(cursor, environment.budget);
  const machine: Machine = {
    cursor,
    environment,
    stack,
    memo: new Memo(),
    given: new WeakSet(),
    frameEnd: undefined,
  };
  // Ends, because every opcode takes a byte, and the cursor does not read beyond the last.
  for (;;) {
    const offset = cursor.offset;
    const code = cursor.uint8();
    if (code === STOP) {
      if (machine.frameEnd !== undefined && machine.frameEnd !== cursor.offset) throw unframed(machine);
      return stack.pop();
    }
    const opcode = environment.isScript && !SCRIPT_OPCODES.has(code) ? undefined : OPCODES[code];
    if (opcode === undefined) {
      throw corrupt(
        cursor.region,
        `the byte 0x${code.toString(16).padStart(2, "0")} at ${position(cursor.region, offset)}`,
        "a pickle opcode",
      );
    }
    opcode(machine);
    if (machine.frameEnd === undefined) continue;
    if (cursor.offset > machine.frameEnd) throw unframed(machine);
    if (cursor.offset === machine.frameEnd) machine.frameEnd = undefined;
  }
}

/**
 * CPython reads a frame as a whole, and drops what is left of it when an opcode needs more, or the pickle ends: picklers end them between
 * opcodes, the last one after STOP.
 */
function unframed({ cursor }: Machine): Error {
  return corrupt(
    cursor.region,
    `a frame that does not end where an opcode does, before ${position(cursor.region, cursor.offset)}`,
    "a complete pickle",
  );
}

const STOP = 0x2e;

/** Opcodes as in pickletools, by their character. */
const TABLE: OpcodeTable = {
  // One number, string or byte string.
  N: pushing(() => null), // NONE
  "\x88": pushing(() => true), // NEWTRUE
  "\x89": pushing(() => false), // NEWFALSE

  J: pushing(({ cursor }) => cursor.int32()), // BININT
  K: pushing(({ cursor }) => cursor.uint8()), // BININT1
  M: pushing(({ cursor }) => cursor.uint16()), // BININT2
  "\x8a": pushing((machine) => longInteger(machine, machine.cursor.uint8())), // LONG1
  "\x8b": pushing((machine) => longInteger(machine, machine.cursor.uint32())), // LONG4
  I: pushing(({ cursor }) => parseIntLine(cursor)), // INT
  L: pushing(({ cursor }) => parseLongLine(cursor)), // LONG
  G: pushing(({ cursor }) => cursor.float64BigEndian()), // BINFLOAT
  F: pushing(({ cursor }) => parseFloatLine(cursor)), // FLOAT

  "\x8c": pushing((machine) => utf8(machine, machine.cursor.uint8())), // SHORT_BINUNICODE
  X: pushing((machine) => utf8(machine, machine.cursor.uint32())), // BINUNICODE
  "\x8d": pushing((machine) => utf8(machine, machine.cursor.uint64())), // BINUNICODE8
  V: pushing(({ cursor }) => parseUnicodeLine(cursor)), // UNICODE

  U: pushing(({ cursor }) => python2String(cursor.take(cursor.uint8()))), // SHORT_BINSTRING
  T: pushing(({ cursor }) => python2String(cursor.take(cursor.uint32()))), // BINSTRING
  S: pushing(({ cursor }) => python2String(parseQuotedLine(cursor))), // STRING

  C: pushing(({ cursor }) => cursor.take(cursor.uint8())), // SHORT_BINBYTES
  B: pushing(({ cursor }) => cursor.take(cursor.uint32())), // BINBYTES
  "\x8e": pushing(({ cursor }) => cursor.take(cursor.uint64())), // BINBYTES8
  "\x96": pushing(({ cursor }) => cursor.take(cursor.uint64())), // BYTEARRAY8

  // Lists, tuples, dictionaries, sets, the stack and the memo.
  "]": ({ stack }) => stack.pushNew([]), // EMPTY_LIST
  l: ({ stack }) => stack.pushNew(stack.popToMark()), // LIST
  a: (machine) => append(machine, machine.stack.popMany(1)), // APPEND
  e: (machine) => append(machine, machine.stack.popToMark()), // APPENDS

  ")": ({ stack }) => stack.pushNew(tuple([])), // EMPTY_TUPLE
  "\x85": ({ stack }) => stack.pushNew(tuple(stack.popMany(1))), // TUPLE1
  "\x86": ({ stack }) => stack.pushNew(tuple(stack.popMany(2))), // TUPLE2
  "\x87": ({ stack }) => stack.pushNew(tuple(stack.popMany(3))), // TUPLE3
  t: ({ stack }) => stack.pushNew(tuple(stack.popToMark())), // TUPLE

  "}": ({ stack }) => stack.pushNew(new Map()), // EMPTY_DICT
  s: (machine) => setItems(machine, machine.stack.popMany(2)), // SETITEM
  u: (machine) => setItems(machine, machine.stack.popToMark()), // SETITEMS
  // DICT
  d: (machine) => {
    const items = machine.stack.popToMark();
    machine.stack.pushNew(new Map());
    setItems(machine, items);
  },

  "\x8f": ({ stack }) => stack.pushNew(new Set()), // EMPTY_SET
  "\x90": (machine) => addItems(machine, machine.stack.popToMark()), // ADDITEMS
  "\x91": ({ stack }) => stack.pushNew(new Set(stack.popToMark())), // FROZENSET

  "(": ({ stack }) => stack.mark(), // MARK
  "0": ({ stack }) => stack.discard(), // POP
  "1": ({ stack }) => void stack.popToMark(), // POP_MARK
  "2": ({ stack }) => stack.push(stack.top()), // DUP

  g: (machine) => recall(machine, parseIndexLine(machine.cursor)), // GET
  h: (machine) => recall(machine, machine.cursor.uint8()), // BINGET
  j: (machine) => recall(machine, machine.cursor.uint32()), // LONG_BINGET
  p: (machine) => memoize(machine, parseIndexLine(machine.cursor)), // PUT
  q: (machine) => memoize(machine, machine.cursor.uint8()), // BINPUT
  r: (machine) => memoize(machine, machine.cursor.uint32()), // LONG_BINPUT
  "\x94": (machine) => memoize(machine, machine.memo.size), // MEMOIZE

  // Names of classes, construction and state of objects, and the pickle itself.
  c: (machine) => machine.stack.pushNew(readGlobal(machine)), // GLOBAL
  // STACK_GLOBAL
  "\x93": (machine) => {
    const [module, name] = machine.stack.popMany(2);
    if (typeof module !== "string" || typeof name !== "string") throw unnamed(machine);
    machine.stack.pushNew(globalName(module, name));
  },

  // REDUCE
  R: (machine) => {
    const args = machine.stack.pop();
    machine.stack.pushNew(call(machine, machine.stack.pop(), sequence(machine, args)));
  },
  // BUILD
  b: (machine) => {
    const state = machine.stack.pop();
    setState(machine, machine.stack.top(), state);
  },
  // INST
  i: (machine) => {
    const callee = readGlobal(machine);
    machine.stack.pushNew(call(machine, callee, machine.stack.popToMark()));
  },
  // OBJ
  o: (machine) => {
    const [callee, ...args] = machine.stack.popToMark();
    machine.stack.pushNew(call(machine, callee ?? null, args));
  },
  // NEWOBJ
  "\x81": (machine) => {
    const args = machine.stack.pop();
    machine.stack.pushNew(construct(machine, machine.stack.pop(), sequence(machine, args)));
  },
  // NEWOBJ_EX: as NEWOBJ with keyword arguments
  "\x92": (machine) => {
    const keywords = machine.stack.pop();
    const args = machine.stack.pop();
    machine.stack.pushNew(construct(machine, machine.stack.pop(), sequence(machine, args), keywords));
  },

  // PERSID
  P: (machine) => persist(machine, readLine(machine.cursor).line),
  Q: (machine) => persist(machine, machine.stack.pop()), // BINPERSID

  // PROTO
  "\x80": ({ cursor }) => {
    const protocol = cursor.uint8();
    if (protocol > 5)
      throw unsupported(cursor.region, `pickle protocol ${protocol}`, "a protocol from 0 to 5");
  },
  // FRAME
  "\x95": (machine) => {
    const length = machine.cursor.uint64();
    if (machine.frameEnd !== undefined) throw unframed(machine);
    machine.frameEnd = machine.cursor.offset + length;
  },

  "\x82": (machine) => extension(machine, machine.cursor.uint8()), // EXT1
  "\x83": (machine) => extension(machine, machine.cursor.uint16()), // EXT2
  "\x84": (machine) => extension(machine, machine.cursor.int32()), // EXT4
  "\x97": outOfBand, // NEXT_BUFFER
  "\x98": outOfBand, // READONLY_BUFFER
};

const OPCODES: readonly (Opcode | undefined)[] = Array.from(
  { length: 256 },
  (_, byte) => TABLE[String.fromCharCode(byte)],
);

/** Those that torch's C++ reads, all as Python does (torch/csrc/jit/serialization/unpickler.cpp, `readInstruction`), and PROTO. */
const SCRIPT_OPCODES: ReadonlySet<number> = new Set(
  Array.from("\x80N\x88\x89JKM\x8aGX]le)\x85\x86\x87t}sud(hjqrc\x81RbQ", (character) =>
    character.charCodeAt(0),
  ),
);

function pushing(read: (machine: Machine) => PickleValue): Opcode {
  return (machine) => machine.stack.pushNew(read(machine));
}

/**
 * Python 2's str, text and bytes in one: text where it is ASCII, and otherwise bytes, such as those of an array. PyTorch
 * would decode them as UTF-8, and pickle.load as ASCII.
 */
function python2String(bytes: Uint8Array): string | Uint8Array {
  return isAscii(bytes) ? decodeLatin1(bytes) : bytes;
}

function utf8({ cursor }: Machine, byteLength: number): string {
  const { offset } = cursor;
  const text = decodeUtf8(cursor.take(byteLength));
  if (text === undefined) {
    throw corrupt(
      cursor.region,
      `a string that is not UTF-8 at ${position(cursor.region, offset)}`,
      "UTF-8 text",
    );
  }
  return text;
}

/**
 * Bytes in one arbitrary-precision integer. Legacy checkpoints have one of 10; converting long ones to a BigInt takes
 * more than linear time.
 */
const MAX_INTEGER_BYTES = 256;

/** A two's complement little-endian integer of any length; a number if that is exact. */
function longInteger({ cursor }: Machine, byteLength: number): number | bigint {
  if (byteLength > MAX_INTEGER_BYTES) {
    throw corrupt(
      cursor.region,
      `an integer of ${byteLength} bytes at ${position(cursor.region, cursor.offset)}`,
      `at most ${MAX_INTEGER_BYTES} bytes`,
    );
  }
  const bytes = cursor.take(byteLength);
  let value = 0n;
  for (let index = byteLength - 1; index >= 0; index--) value = (value << 8n) | BigInt(bytes[index] ?? 0);
  const signed = BigInt.asIntN(byteLength * 8, value);
  const number = Number(signed);
  return Number.isSafeInteger(number) ? number : signed;
}

/** Adds to the list on top of the stack. */
function append(machine: Machine, values: readonly PickleValue[]): void {
  const target = machine.stack.top();
  if (isObject(target)) expectOwnItems(machine, target);
  if (isObject(target)) target.items ??= [];
  const items = isObject(target) ? target.items : target;
  if (!Array.isArray(items) || isTuple(items)) throw wrongTarget(machine, "items added", target);
  if (machine.given.has(items)) throw changed(machine, target);
  machine.environment.budget.build(ITEM_BYTES * values.length);
  for (const value of values) items.push(value);
}

/** Sets keys of the dictionary on top of the stack; `values` alternates keys and values. */
function setItems(machine: Machine, values: readonly PickleValue[]): void {
  const target = machine.stack.top();
  if (isObject(target)) expectOwnItems(machine, target);
  if (isObject(target)) target.entries ??= new Map();
  const entries = isObject(target) ? target.entries : target;
  if (!(entries instanceof Map)) throw wrongTarget(machine, "keys set", target);
  if (machine.given.has(entries)) throw changed(machine, target);
  if (values.length % 2 !== 0) throw wrongTarget(machine, "a key without a value set", target);
  machine.environment.budget.build((PAIR_BYTES * values.length) / 2);
  for (let index = 0; index < values.length; index += 2) {
    entries.set(dictKey(machine, values[index] ?? null), values[index + 1] ?? null);
  }
}

/** Classes that copy the list that they are constructed from. */
const COPYING_CLASSES: ReadonlySet<string> = new Set(["collections.deque"]);

/**
 * Picklers set the items of an object before its state, and of a newly made object. An object that was given a dict or
 * a list, such as a ChainMap or a UserDict, may store them there, shared with others. What Python's other classes with items make of
 * them is in their code: some forget them, or use the first of two.
 */
function expectOwnItems(machine: Machine, target: InertObject): void {
  const isMadeFromAnother = !COPYING_CLASSES.has(target.path) && target.args.some(mayBeChanged);
  const isOther = isKnownCode(target.path) && !COPYING_CLASSES.has(target.path);
  if (target.state !== undefined || isMadeFromAnother || isOther) throw changed(machine, target);
}

/** Whether a value is mutable or contains a mutable one: everything except numbers, text and tuples of those. */
function mayBeChanged(value: PickleValue): boolean {
  if (isTuple(value))
    return (value as PickleValue[]).some((item) => typeof item === "object" && item !== null);
  return typeof value === "object" && value !== null && !(value instanceof Uint8Array) && !isGlobal(value);
}

function addItems(machine: Machine, values: readonly PickleValue[]): void {
  const target = machine.stack.top();
  // For other classes, Python calls `add`.
  if (isObject(target)) {
    append(machine, values);
    return;
  }
  if (!(target instanceof Set)) throw wrongTarget(machine, "members added", target);
  if (machine.given.has(target)) throw changed(machine, target);
  machine.environment.budget.build(MEMBER_BYTES * values.length);
  for (const value of values) target.add(value);
}

function memoize({ memo, stack, environment }: Machine, index: number): void {
  environment.budget.build(index <= memo.size ? SLOT_BYTES : PAIR_BYTES);
  memo.set(index, stack.top());
}

function recall({ memo, stack, cursor }: Machine, index: number): void {
  const value = memo.get(index);
  if (value === undefined) {
    throw corrupt(
      cursor.region,
      `memo entry ${index} used before it is defined, before ${position(cursor.region, cursor.offset)}`,
      "a complete pickle",
    );
  }
  stack.push(value);
}

function wrongTarget({ cursor }: Machine, what: string, target: PickleValue): Error {
  return corrupt(
    cursor.region,
    `${what} on a value of type ${typeName(target)}, before ${position(cursor.region, cursor.offset)}`,
    "a container",
  );
}

/** GLOBAL and INST: a line with the module, a line with the name. */
function readGlobal(machine: Machine): PickleValue {
  const module = decodeUtf8(machine.cursor.takeLine());
  const name = decodeUtf8(machine.cursor.takeLine());
  if (module === undefined || name === undefined) throw unnamed(machine);
  const found = globalName(module, name);
  if (machine.environment.isScript && !SCRIPT_NAME.test(found.path)) throw refusedCall(machine, found.path);
  return found;
}

function unnamed({ cursor }: Machine): Error {
  return corrupt(
    cursor.region,
    `a class without a name before ${position(cursor.region, cursor.offset)}`,
    "a module and a name as text",
  );
}

function sequence({ cursor }: Machine, args: PickleValue): PickleValue[] {
  if (isTuple(args)) return args as PickleValue[];
  throw corrupt(
    cursor.region,
    `arguments of type ${typeName(args)} before ${position(cursor.region, cursor.offset)}`,
    "a tuple",
  );
}

/** Attributes of dicts, sets and lists that ordinary pickles set. Others could shadow a method, such as `keys`. */
const CONTAINER_ATTRIBUTES: ReadonlySet<string> = new Set(["_metadata", "_lookup"]);

/**
 * Stores the state of an object, once: the effect of a second state depends on the class. The state of a built-in
 * container is its attributes, such as the `_metadata` of a state dict, which contains no weights.
 */
function setState(machine: Machine, target: PickleValue, state: PickleValue): void {
  if (
    isObject(target) &&
    target.state === undefined &&
    takesState(target) &&
    // A mapping of its own would be the attributes of a module.
    !isObject(state) &&
    !hasSameTwice(state) &&
    !isRival(machine, target, state)
  ) {
    target.state = state;
    giveAway(machine, [state]);
  } else if (!isContainerState(target, state)) throw changed(machine, target);
}

/** Whether both parts of a state, attributes and slots, have one name: the class decides which is found. */
function hasSameTwice(state: PickleValue): boolean {
  const [attributes, slots] = isTuple(state) ? (state as PickleValue[]) : [];
  return (
    attributes instanceof Map &&
    slots instanceof Map &&
    [...slots.keys()].some((name) => attributes.has(name))
  );
}

/**
 * Whether an object's state may contain tensors beside those of its items, as that of a UserDict replaces them: which ones count is in
 * the class's code. Dicts with attributes for their items have the same in both.
 */
function isRival(machine: Machine, { entries }: InertObject, state: PickleValue): boolean {
  const mayBeIn = (values: readonly PickleValue[]) => within(machine, values).some(mayHaveTensors);
  if (entries === null || !mayBeIn([...entries.values()])) return false;
  const items = new Set(entries.values());
  const values = state instanceof Map ? [...state.values()] : [state];
  return mayBeIn(values.filter((value) => !items.has(value)));
}

function changed({ cursor }: Machine, target: PickleValue): Error {
  return unsupported(
    cursor.region,
    `a pickle that changes a value of type ${typeName(target)}, before ${position(cursor.region, cursor.offset)}`,
    "objects that get their items first and then their state, once",
  );
}

function isContainerState(target: PickleValue, state: PickleValue): boolean {
  if (!(target instanceof Map || target instanceof Set || Array.isArray(target))) return false;
  return (
    state instanceof Map &&
    [...state.keys()].every((name) => typeof name === "string" && CONTAINER_ATTRIBUTES.has(name))
  );
}

function persist({ stack, environment, cursor }: Machine, id: PickleValue): void {
  stack.pushNew(environment.persistentLoad(id, cursor.region));
}

function extension({ cursor }: Machine, code: number): never {
  throw unsupported(
    cursor.region,
    `copyreg extension ${code} before ${position(cursor.region, cursor.offset)}`,
    "classes by name",
  );
}

function outOfBand({ cursor }: Machine): never {
  throw unsupported(
    cursor.region,
    `a buffer kept outside the file, before ${position(cursor.region, cursor.offset)}`,
    `all data in ${quote(cursor.region.subject)}`,
  );
}
