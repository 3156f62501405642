/**
 * What calling a named class or function comes to. A closed table computes the few values that are pure data (dicts,
 * sets, byte strings); other constructions and a closed list of functions become inert records; the rest is refused.
 */

import { encodeLatin1 } from "../../encodings.js";
import { corrupt, position, quote, unsupported } from "../../refusals.js";
import { isAttackName, isClassLike, isRecordedFunction } from "./globals.js";
import type { Machine } from "./opcode.js";
import { inertObject, isGlobal, type PickleValue, typeName } from "./values.js";

type Arguments = readonly PickleValue[];

/** Computes a value from arguments; undefined when they are not what the function takes. */
type Computation = (args: Arguments, machine: Machine) => PickleValue | undefined;

/** An upper estimate of the memory for one element of a copied list, set or dict. */
const ELEMENT_BYTES = 40;

const COMPUTATIONS: ReadonlyMap<string, Computation> = new Map<string, Computation>([
  ["collections.OrderedDict", dictOfPairs],
  ["collections.Counter", dictOfPairs],
  ["collections.defaultdict", (args, machine) => dictOfPairs(args.slice(1), machine)],
  ["builtins.dict", dictOfPairs],
  ["builtins.set", setOfItems],
  ["builtins.frozenset", setOfItems],
  ["builtins.list", itself],
  ["builtins.tuple", itself],
  ["builtins.bytes", bytesOf],
  ["builtins.bytearray", bytesOf],
  ["_codecs.encode", encode],
  ["builtins.getattr", enumMember],
  ["torch.Size", itself],
  [
    "torch.storage._load_from_bytes",
    ([file], { environment, cursor }) =>
      file instanceof Uint8Array ? environment.loadStorage(file, cursor.region) : undefined,
  ],
  [
    "copyreg._reconstructor",
    ([type, _base, value], machine) => construct(machine, type ?? null, [value ?? null]),
  ],
  ["copyreg.__newobj__", ([type, ...args], machine) => construct(machine, type ?? null, args)],
  [
    "copyreg.__newobj_ex__",
    ([type, args], machine) => (Array.isArray(args) ? construct(machine, type ?? null, args) : undefined),
  ],
]);

/** The value of `callee(*args)`: computed, an inert record, or an `InputError` of code `unsupported`. */
export function call(machine: Machine, callee: PickleValue, args: Arguments): PickleValue {
  const path = calleePath(machine, callee);
  const computation = COMPUTATIONS.get(path);
  if (computation !== undefined) return compute(machine, path, computation, args);
  if (isRecordedFunction(path) && !isAttackName(path)) return inertObject(path, args);
  throw refusedCall(machine, path);
}

/** The value of `type.__new__(type, *args)`: as `call`, but any class will do, whatever its name looks like. */
export function construct(machine: Machine, type: PickleValue, args: Arguments): PickleValue {
  const path = calleePath(machine, type);
  const computation = COMPUTATIONS.get(path);
  if (computation !== undefined) return compute(machine, path, computation, args);
  if (isAttackName(path)) throw refusedCall(machine, path);
  return inertObject(path, args);
}

function compute(machine: Machine, path: string, computation: Computation, args: Arguments): PickleValue {
  const value = computation(args, machine);
  if (value !== undefined) return value;
  const { region, offset } = machine.cursor;
  throw corrupt(
    region,
    `${path}(${args.map(typeName).slice(0, 4).join(", ")}) before ${position(region, offset)}`,
    `arguments that ${path} takes`,
  );
}

function calleePath({ cursor }: Machine, callee: PickleValue): string {
  if (isGlobal(callee)) return callee.path;
  throw unsupported(
    cursor.region,
    `a call of a value of type ${typeName(callee)}, before ${position(cursor.region, cursor.offset)}`,
    "data that needs no code to read",
  );
}

function refusedCall({ cursor }: Machine, path: string): Error {
  return unsupported(
    cursor.region,
    `a pickle that asks to run ${quote(path)}, before ${position(cursor.region, cursor.offset)} (nothing was run)`,
    "data that needs no code to read",
  );
}

/** `dict()`, `dict(mapping)` or `dict([(key, value), …])`. */
function dictOfPairs([source]: Arguments, { environment }: Machine): PickleValue | undefined {
  if (source === undefined || source === null) return new Map();
  if (!(source instanceof Map || Array.isArray(source))) return undefined;
  environment.budget.spend(
    ELEMENT_BYTES * (source instanceof Map ? source.size : source.length),
    "copies of a dict",
  );
  if (source instanceof Map) return new Map(source);
  const dict = new Map<PickleValue, PickleValue>();
  for (const pair of source) {
    if (!Array.isArray(pair) || pair.length !== 2) return undefined;
    dict.set(pair[0] ?? null, pair[1] ?? null);
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

/** A list of a list is that list: sharing it costs nothing, and nothing here tells the two apart. */
function itself([source]: Arguments): PickleValue | undefined {
  if (source === undefined) return [];
  return Array.isArray(source) ? source : undefined;
}

function bytesOf([source, encoding]: Arguments, machine: Machine): PickleValue | undefined {
  if (source === undefined) return new Uint8Array(0);
  return source instanceof Uint8Array ? source : encode([source, encoding ?? null], machine);
}

/** A member of an enumeration as the first releases of Python 3.11 spell it. Any other use of getattr is refused. */
function enumMember(args: Arguments, machine: Machine): PickleValue {
  const [type, name] = args;
  const isMember =
    isGlobal(type) && isClassLike(type.path) && !isAttackName(type.path) && typeof name === "string";
  if (!isMember || args.length !== 2) throw refusedCall(machine, "builtins.getattr");
  return inertObject("builtins.getattr", args);
}

/** How protocol 2 spells bytes: text, one character for each byte. */
function encode([text, encoding]: Arguments, { environment }: Machine): PickleValue | undefined {
  if (typeof text !== "string" || (encoding !== "latin1" && encoding !== "latin-1")) return undefined;
  environment.budget.spend(text.length, "byte strings");
  return encodeLatin1(text);
}
