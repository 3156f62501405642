/** Opcodes for lists, tuples, dictionaries, sets, the stack and the memo. Source: CPython's Lib/pickletools.py. */

import { corrupt, position } from "../../refusals.js";
import { ITEM_BYTES, MEMBER_BYTES, PAIR_BYTES, SLOT_BYTES } from "./memory.js";
import type { Machine, OpcodeTable } from "./opcode.js";
import { parseIndexLine } from "./text.js";
import { isObject, type PickleValue, typeName } from "./values.js";

export const CONTAINER_OPCODES: OpcodeTable = {
  "]": ({ stack }) => stack.pushNew([]), // EMPTY_LIST
  l: ({ stack }) => stack.pushNew(stack.popToMark()), // LIST
  a: (machine) => append(machine, machine.stack.popMany(1)), // APPEND
  e: (machine) => append(machine, machine.stack.popToMark()), // APPENDS

  ")": ({ stack }) => stack.pushNew([]), // EMPTY_TUPLE
  "\x85": ({ stack }) => stack.pushNew(stack.popMany(1)), // TUPLE1
  "\x86": ({ stack }) => stack.pushNew(stack.popMany(2)), // TUPLE2
  "\x87": ({ stack }) => stack.pushNew(stack.popMany(3)), // TUPLE3
  t: ({ stack }) => stack.pushNew(stack.popToMark()), // TUPLE

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
};

/** Adds to the list on top of the stack. */
function append(machine: Machine, values: readonly PickleValue[]): void {
  const target = machine.stack.top();
  if (isObject(target)) target.items ??= [];
  const items = isObject(target) ? target.items : target;
  if (!Array.isArray(items)) throw wrongTarget(machine, "items added", target);
  machine.environment.budget.build(ITEM_BYTES * values.length);
  for (const value of values) items.push(value);
}

/** Sets keys of the dictionary on top of the stack; `values` holds keys and values in turn. */
function setItems(machine: Machine, values: readonly PickleValue[]): void {
  const target = machine.stack.top();
  if (isObject(target)) target.entries ??= new Map();
  const entries = isObject(target) ? target.entries : target;
  if (!(entries instanceof Map)) throw wrongTarget(machine, "keys set", target);
  if (values.length % 2 !== 0) throw wrongTarget(machine, "a key without a value set", target);
  machine.environment.budget.build((PAIR_BYTES * values.length) / 2);
  for (let index = 0; index < values.length; index += 2) {
    entries.set(values[index] ?? null, values[index + 1] ?? null);
  }
}

function addItems(machine: Machine, values: readonly PickleValue[]): void {
  const target = machine.stack.top();
  if (!(target instanceof Set)) {
    append(machine, values);
    return;
  }
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
      `memo entry ${index} used before it was made, before ${position(cursor.region, cursor.offset)}`,
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
