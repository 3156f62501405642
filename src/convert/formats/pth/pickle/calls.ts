import { encodeLatin1 } from "../../cursor.js";
import { corrupt, position, quote, unsupported } from "../../refusals.js";
import {
  ENUM_MEMBER,
  isAttackName,
  isClassLike,
  isKnownCode,
  isRecordedFunction,
  RECORDED_FUNCTIONS,
  TENSOR_CLASS,
} from "./names.js";
import {
  type InertObject,
  inertObject,
  isAscii,
  isGlobal,
  isObject,
  isStorage,
  isTuple,
  type Machine,
  MEMBER_BYTES,
  type PickleValue,
  tuple,
  typeName,
} from "./values.js";

/**
 * The result of calling a named class or function. A closed table computes the few values that are pure data (dicts,
 * sets, byte strings); other constructions and a closed list of functions become inert records; the rest is refused.
 */

type Arguments = readonly PickleValue[];

/** Computes a value from arguments; undefined if they are not those of ordinary pickles. */
type Computation = (args: Arguments, machine: Machine) => PickleValue | undefined;

/** An upper estimate of the memory for one element of a copied list, set or dict. */
const ELEMENT_BYTES = 40;

const COMPUTATIONS: ReadonlyMap<string, Computation> = new Map<string, Computation>([
  ["collections.OrderedDict", dictOfPairs],
  // Counts the items of anything except a dict.
  [
    "collections.Counter",
    (args, machine) => (Array.isArray(args[0]) ? undefined : dictOfPairs(args, machine)),
  ],
  ["collections.defaultdict", (args, machine) => dictOfPairs(args.slice(1), machine)],
  ["builtins.dict", dictOfPairs],
  ["builtins.set", setOfItems],
  ["builtins.frozenset", setOfItems],
  ["builtins.list", (args, machine) => copyOf(args, machine)],
  ["builtins.tuple", (args, machine) => asTuple(copyOf(args, machine))],
  ["builtins.bytes", bytesOf],
  ["builtins.bytearray", bytesOf],
  ["_codecs.encode", encode],
  [ENUM_MEMBER, enumMember],
  ...["build_boollist", "build_doublelist", "build_intlist", "build_tensorlist", "restore_type_tag"].map(
    (name): [string, Computation] => [`torch.jit._pickle.${name}`, ([value]) => value],
  ),
  ["torch.Size", (args, machine) => asTuple(copyOf(args, machine))],
  [
    "torch.storage._load_from_bytes",
    ([file], { environment, cursor }) =>
      file instanceof Uint8Array ? environment.loadStorage(file, cursor.region) : undefined,
  ],
  ["copyreg._reconstructor", reconstruct],
  ["copyreg.__newobj__", ([type, ...args], machine) => construct(machine, type ?? null, args)],
  [
    "copyreg.__newobj_ex__",
    ([type, args, keywords], machine) =>
      Array.isArray(args) ? construct(machine, type ?? null, args, keywords) : undefined,
  ],
]);

/** The value of `callee(*args)`: computed, an inert record, or an `InputError` of code `unsupported`. */
export function call(machine: Machine, callee: PickleValue, args: Arguments): PickleValue {
  const path = calleePath(machine, callee);
  const computation = COMPUTATIONS.get(path);
  if (computation !== undefined) return compute(machine, path, computation, args);
  if (!isRecordedFunction(path) || isAttackName(path)) throw refusedCall(machine, path);
  expectHarmless(machine, path, args, false);
  const calledAt = CALLED_ARGUMENTS.get(path);
  const called = calledAt === undefined ? undefined : args[calledAt];
  if (called !== undefined && !(isGlobal(called) && RECORDED_FUNCTIONS.has(called.path)))
    throw refusedCall(machine, isGlobal(called) ? called.path : typeName(called));
  if (FIRST_ARGUMENTS.get(path)?.(args[0]) === false) throw refusedArguments(machine, path, args);
  const attribute = WITH_ATTRIBUTES.has(path) ? writingAttribute(args[3] ?? null) : undefined;
  if (attribute !== undefined)
    throw unsupported(
      machine.cursor.region,
      `a tensor with ${attribute}, which may change its elements`,
      "tensors without attributes",
    );
  return inertObject(path, args);
}

/**
 * Arguments of a class must not matter: those of known code are plain data, since some of torch's constructors write into a tensor that they reach.
 * A class of other code is given no tensors by a call; NEWOBJ makes named tuples of anything.
 */
function expectHarmless(machine: Machine, path: string, args: Arguments, isNew: boolean): void {
  giveAway(machine, args);
  if (RECORDED_FUNCTIONS.has(path) || TENSOR_CLASS.test(path) || (isNew && !isKnownCode(path))) return;
  const isKnown = isKnownCode(path);
  if (!within(machine, args).some((part) => isKnown || mayHaveTensors(part))) return;
  const { region, offset } = machine.cursor;
  throw unsupported(
    region,
    `a call to ${quote(path)} with ${isKnown ? "objects" : "tensors"}, before ${position(region, offset)}`,
    "objects whose tensors are in their state",
  );
}

/** Functions whose fourth argument is set as attributes of the tensor. */
const WITH_ATTRIBUTES: ReadonlySet<string> = new Set([
  "torch._tensor._rebuild_from_type_v2",
  "torch._utils._rebuild_parameter_with_state",
]);

/** Attributes that torch copies into the elements, which other tensors may share; undefined if there is none. */
function writingAttribute(state: PickleValue): string | undefined {
  const parts = isTuple(state) ? (state as PickleValue[]) : [state];
  for (const part of parts) {
    if (part === null) continue;
    if (!(part instanceof Map) || [...part.keys()].some((name) => typeof name !== "string"))
      return `attributes of type ${typeName(part)}`;
    const name = ["real", "imag", "data"].find((one) => part.has(one));
    if (name !== undefined) return `the attribute ${quote(name)}`;
  }
  return undefined;
}

/** Functions that call one of their arguments, by its place. */
const CALLED_ARGUMENTS: ReadonlyMap<string, number> = new Map([
  ["torch._tensor._rebuild_from_type_v2", 0],
  ["numpy.random._pickle.__generator_ctor", 1],
  ["numpy.random._pickle.__randomstate_ctor", 1],
]);

/**
 * What a first argument must be: a deque runs an iterator to its end, and the dtype of a dtype is that one itself, whose
 * state would be that of every array of it.
 */
const FIRST_ARGUMENTS: ReadonlyMap<string, (given: PickleValue | undefined) => boolean> = new Map<
  string,
  (given: PickleValue | undefined) => boolean
>([
  ["collections.deque", (given) => given === undefined || Array.isArray(given)],
  ["numpy.dtype", (given) => typeof given === "string" || isGlobal(given)],
]);

/** Objects that are equal only to themselves: the parameters that are keys of an optimizer, and devices. */
const ONLY_ITSELF = /^torch\.(?:device|_utils\._rebuild_(?:tensor|parameter)\w*)$/;

/** Nesting of tuples in a key. */
const MAX_KEY_DEPTH = 8;

/**
 * A dict's key, with keys that are equal in Python made equal here: True is 1, and so is numpy's 1. Which text the object of another class
 * equals is in its code (a UserString equals that in it, and takes its place): refused.
 */
export function dictKey(machine: Machine, key: PickleValue): PickleValue {
  if (typeof key === "boolean") return Number(key);
  if (typeof key === "bigint" || Number.isInteger(key))
    return Number.isSafeInteger(Number(key)) ? Number(key) : BigInt(key as bigint | number);
  if (isPlainKey(key)) return key;
  const number = machine.environment.numberOf(key);
  if (number !== undefined) return dictKey(machine, number);
  const { region, offset } = machine.cursor;
  throw unsupported(
    region,
    `a dict with a key of type ${typeName(key)}, before ${position(region, offset)}`,
    "keys that are text or numbers",
  );
}

function isPlainKey(key: PickleValue, depth = 0): boolean {
  if (typeof key !== "object" || key === null || key instanceof Set) return true;
  // Bytes beyond ASCII may be Python 2's text.
  if (key instanceof Uint8Array) return isAscii(key);
  if (Array.isArray(key))
    return isTuple(key) && depth < MAX_KEY_DEPTH && key.every((item) => isPlainKey(item, depth + 1));
  if (isGlobal(key)) return isClassLike(key.path) && /[a-z]\w*$/.test(key.path);
  return isObject(key) && (ONLY_ITSELF.test(key.path) || TENSOR_CLASS.test(key.path));
}

/** Records that a class or function was given values, with all containers in them: they must not change from now on. */
export function giveAway({ given }: Machine, values: Iterable<PickleValue>): void {
  const pending = [...values];
  for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
    if (isObject(value)) pending.push(...partsOf(value));
    else if (isContainer(value) && !given.has(value)) {
      given.add(value);
      for (const part of contentsOf(value)) pending.push(part);
    }
  }
}

/** The objects, names and storages in values, at any depth. */
export function within({ environment }: Machine, values: Iterable<PickleValue>): readonly PickleValue[] {
  const found: PickleValue[] = [];
  const seen = new Set<PickleValue>();
  const pending = [...values];
  for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
    environment.budget.build(MEMBER_BYTES);
    if (typeof value !== "object" || value === null || value instanceof Uint8Array || seen.has(value))
      continue;
    seen.add(value);
    if (isContainer(value)) for (const part of contentsOf(value)) pending.push(part);
    else {
      found.push(value);
      if (isObject(value)) pending.push(...partsOf(value));
    }
  }
  return found;
}

type Container = PickleValue[] | Map<PickleValue, PickleValue> | Set<PickleValue>;

function isContainer(value: PickleValue): value is Container {
  return Array.isArray(value) || value instanceof Map || value instanceof Set;
}

function* contentsOf(value: Container): Iterable<PickleValue> {
  if (value instanceof Map) yield* value.keys();
  yield* value.values();
}

function partsOf({ args, state, items, entries }: InertObject): PickleValue[] {
  return [args as PickleValue[], state ?? null, items, entries];
}

/** Objects of torch and numpy without tensors in them. */
const WITHOUT_TENSORS: ReadonlySet<string> = new Set(["torch.device", "numpy.dtype"]);

/** Whether what is found in values may be a tensor, or an object that gets one afterwards. */
export function mayHaveTensors(part: PickleValue): boolean {
  if (!isObject(part)) return isStorage(part);
  const isOpen = part.args.length === 0 && part.state === undefined;
  return !WITHOUT_TENSORS.has(part.path) && (isOpen || /^(?:torch|numpy)\./.test(part.path));
}

/** Types whose `__new__` ignores its arguments: only `__init__`, which it does not call, uses them. */
const FILLED_BY_INIT: ReadonlySet<string> = new Set([
  "builtins.bytearray",
  "builtins.dict",
  "builtins.list",
  "builtins.set",
  "collections.Counter",
  "collections.OrderedDict",
  "collections.defaultdict",
]);

/**
 * The value of `type.__new__(type, *args, **keywords)`: as `call`, for a class of any name. Keywords are refused
 * where they could matter: an inert record of a class ignores them.
 */
export function construct(
  machine: Machine,
  type: PickleValue,
  args: Arguments,
  keywords: PickleValue = null,
): PickleValue {
  const path = calleePath(machine, type);
  const computation = COMPUTATIONS.get(path);
  const isPlain = keywords === null || (keywords instanceof Map && keywords.size === 0);
  if (!isPlain && (computation !== undefined || /^(?:torch|numpy)\./.test(path)))
    throw refusedArguments(machine, path, [...args, keywords]);
  if (FILLED_BY_INIT.has(path) && args.length > 0) throw refusedArguments(machine, path, args);
  if (computation !== undefined) return compute(machine, path, computation, args);
  if (isAttackName(path)) throw refusedCall(machine, path);
  expectHarmless(machine, path, args, true);
  return inertObject(path, args);
}

/**
 * `copyreg._reconstructor(type, base, value)`, which protocols 0 and 1 write: for a base other than object, the value
 * is the object's content.
 */
function reconstruct([type, base, value]: Arguments, machine: Machine): PickleValue | undefined {
  const isBare = isGlobal(base) && base.path === "builtins.object" && (value ?? null) === null;
  if (isBare) return construct(machine, type ?? null, []);
  const path = calleePath(machine, type ?? null);
  const computation = COMPUTATIONS.get(path);
  if (computation !== undefined) return computation([value ?? null], machine);
  if (isAttackName(path)) throw refusedCall(machine, path);
  expectHarmless(machine, path, [value ?? null], true);
  return inertObject(path, [value ?? null]);
}

function compute(machine: Machine, path: string, computation: Computation, args: Arguments): PickleValue {
  const value = computation(args, machine);
  if (value !== undefined) return value;
  throw refusedArguments(machine, path, args);
}

function refusedArguments(machine: Machine, path: string, args: Arguments): Error {
  const { region, offset } = machine.cursor;
  return corrupt(
    region,
    `${path}(${args.map(typeName).slice(0, 4).join(", ")}) before ${position(region, offset)}`,
    `arguments that ${path} takes`,
  );
}

function calleePath({ cursor }: Machine, callee: PickleValue): string {
  if (isGlobal(callee)) return callee.path;
  throw unsupported(
    cursor.region,
    `a call to a value of type ${typeName(callee)}, before ${position(cursor.region, cursor.offset)}`,
    "data that can be read without running code",
  );
}

/** The error for a name that the reader does not know. */
export function refusedCall({ cursor }: Machine, path: string): Error {
  return unsupported(
    cursor.region,
    `a pickle that would run ${quote(path)}, before ${position(cursor.region, cursor.offset)} (nothing was run)`,
    "data that can be read without running code",
  );
}

/** `dict()`, `dict(mapping)` or `dict([(key, value), …])`. */
function dictOfPairs([source]: Arguments, machine: Machine): PickleValue | undefined {
  if (source === undefined) return new Map();
  if (!(source instanceof Map || Array.isArray(source))) return undefined;
  machine.environment.budget.spend(
    ELEMENT_BYTES * (source instanceof Map ? source.size : source.length),
    "copies of a dict",
  );
  if (source instanceof Map) return new Map(source);
  const dict = new Map<PickleValue, PickleValue>();
  for (const pair of source) {
    if (!Array.isArray(pair) || pair.length !== 2) return undefined;
    dict.set(dictKey(machine, pair[0] ?? null), pair[1] ?? null);
  }
  return dict;
}

function setOfItems([source]: Arguments, { environment }: Machine): PickleValue | undefined {
  if (source === undefined) return new Set();
  if (!(source instanceof Set || Array.isArray(source))) return undefined;
  environment.budget.spend(
    ELEMENT_BYTES * (source instanceof Set ? source.size : source.length),
    "copies of a set",
  );
  return new Set(source);
}

/** An independent list of the same items. */
function copyOf([source]: Arguments, { environment }: Machine): PickleValue[] | undefined {
  if (source === undefined) return [];
  if (!Array.isArray(source)) return undefined;
  environment.budget.spend(ELEMENT_BYTES * source.length, "copies of a list");
  return [...source];
}

function asTuple(items: PickleValue[] | undefined): PickleValue[] | undefined {
  return items && tuple(items);
}

function bytesOf([source, encoding]: Arguments, machine: Machine): PickleValue | undefined {
  if (source === undefined) return new Uint8Array(0);
  return source instanceof Uint8Array ? source : encode([source, encoding ?? null], machine);
}

/** A member of an enumeration. Any other use of getattr is refused. */
function enumMember(args: Arguments, machine: Machine): PickleValue {
  const [type, name] = args;
  const isMember =
    isGlobal(type) && isClassLike(type.path) && !isKnownCode(type.path) && typeof name === "string";
  if (!isMember || args.length !== 2) throw refusedCall(machine, ENUM_MEMBER);
  return inertObject(ENUM_MEMBER, args);
}

/** Bytes in protocol 2: text, one character for each byte. */
function encode([text, encoding]: Arguments, { environment }: Machine): PickleValue | undefined {
  if (typeof text !== "string" || (encoding !== "latin1" && encoding !== "latin-1")) return undefined;
  environment.budget.spend(text.length, "byte strings");
  return encodeLatin1(text);
}
