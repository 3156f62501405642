/** Opcodes for lists, tuples, dictionaries, sets, the stack and the memo. Source: CPython's Lib/pickletools.py. */

import { corrupt, position } from "../refusals.js";
import type { Machine, Opcode } from "./machine.js";
import { parseIndexLine } from "./text.js";
import { isObject, type PickleDict, type PickleValue, typeName } from "./values.js";

export const CONTAINER_OPCODES: Readonly<Partial<Record<number, Opcode>>> = {
  93: ({ stack }) => stack.pushObject([]), // EMPTY_LIST
  108: ({ stack }) => stack.pushObject(stack.popToMark()), // LIST
  97: ({ stack, ...machine }) => append(machine, stack.popMany(1), stack.top()), // APPEND
  101: ({ stack, ...machine }) => append(machine, stack.popToMark(), stack.top()), // APPENDS

  41: ({ stack }) => stack.pushObject([]), // EMPTY_TUPLE
  133: ({ stack }) => stack.pushObject(stack.popMany(1)), // TUPLE1
  134: ({ stack }) => stack.pushObject(stack.popMany(2)), // TUPLE2
  135: ({ stack }) => stack.pushObject(stack.popMany(3)), // TUPLE3
  116: ({ stack }) => stack.pushObject(stack.popToMark()), // TUPLE

  125: ({ stack }) => stack.pushObject(new Map()), // EMPTY_DICT
  115: ({ stack, ...machine }) => setItems(machine, stack.popMany(2), stack.top()), // SETITEM
  117: ({ stack, ...machine }) => setItems(machine, stack.popToMark(), stack.top()), // SETITEMS
  // DICT
  100: ({ stack, ...machine }) => {
    const dict: PickleDict = new Map();
    setItems(machine, stack.popToMark(), dict);
    stack.pushObject(dict);
  },

  143: ({ stack }) => stack.pushObject(new Set()), // EMPTY_SET
  144: ({ stack, ...machine }) => addItems(machine, stack.popToMark(), stack.top()), // ADDITEMS
  145: ({ stack }) => stack.pushObject(new Set(stack.popToMark())), // FROZENSET

  40: ({ stack }) => stack.mark(), // MARK
  48: ({ stack }) => stack.discard(), // POP
  49: ({ stack }) => void stack.popToMark(), // POP_MARK
  50: ({ stack }) => stack.push(stack.top()), // DUP

  103: (machine) => recall(machine, parseIndexLine(machine.cursor)), // GET
  104: (machine) => recall(machine, machine.cursor.uint8()), // BINGET
  106: (machine) => recall(machine, machine.cursor.uint32()), // LONG_BINGET
  112: ({ memo, stack, cursor }) => void memo.set(parseIndexLine(cursor), stack.top()), // PUT
  113: ({ memo, stack, cursor }) => void memo.set(cursor.uint8(), stack.top()), // BINPUT
  114: ({ memo, stack, cursor }) => void memo.set(cursor.uint32(), stack.top()), // LONG_BINPUT
  148: ({ memo, stack }) => void memo.set(memo.size, stack.top()), // MEMOIZE
};

type Place = Pick<Machine, "cursor">;

function append(place: Place, values: readonly PickleValue[], target: PickleValue): void {
  if (isObject(target)) target.items ??= [];
  const items = isObject(target) ? target.items : target;
  if (!Array.isArray(items)) throw wrongTarget(place, "items added", target);
  for (const value of values) items.push(value);
}

/** `values` holds keys and values in turn. */
function setItems(place: Place, values: readonly PickleValue[], target: PickleValue): void {
  if (isObject(target)) target.entries ??= new Map();
  const entries = isObject(target) ? target.entries : target;
  if (!(entries instanceof Map)) throw wrongTarget(place, "keys set", target);
  if (values.length % 2 !== 0) throw wrongTarget(place, "a key without a value set", target);
  for (let index = 0; index < values.length; index += 2) {
    entries.set(values[index] ?? null, values[index + 1] ?? null);
  }
}

function addItems(place: Place, values: readonly PickleValue[], target: PickleValue): void {
  if (target instanceof Set) for (const value of values) target.add(value);
  else append(place, values, target);
}

function recall({ memo, stack, cursor }: Machine, index: number): void {
  const value = memo.get(index);
  if (value === undefined) {
    throw corrupt(
      cursor.region,
      `memo entry ${index} used before it was made, before ${position(cursor.region, cursor.offset)}`,
      "a complete pickle",
    );
  }
  stack.push(value);
}

function wrongTarget({ cursor }: Place, what: string, target: PickleValue): Error {
  return corrupt(
    cursor.region,
    `${what} on a value of type ${typeName(target)}, before ${position(cursor.region, cursor.offset)}`,
    "a container",
  );
}
