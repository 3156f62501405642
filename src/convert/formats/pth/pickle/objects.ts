/** Opcodes that name, construct or fill objects. Source: CPython's Lib/pickletools.py. */

import { decodeUtf8 } from "../../encodings.js";
import { corrupt, position, quote, unsupported } from "../../refusals.js";
import { call, construct } from "./calls.js";
import { globalName } from "./globals.js";
import type { Machine, OpcodeTable } from "./opcode.js";
import { readLine } from "./text.js";
import { isObject, type PickleValue, typeName } from "./values.js";

export const OBJECT_OPCODES: OpcodeTable = {
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
  // NEWOBJ_EX: as NEWOBJ with keyword arguments, which an inert record has no use for
  "\x92": (machine) => {
    machine.stack.pop();
    const args = machine.stack.pop();
    machine.stack.pushNew(construct(machine, machine.stack.pop(), sequence(machine, args)));
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
  "\x95": ({ cursor }) => void cursor.uint64(), // FRAME: a hint for buffered reading

  "\x82": (machine) => extension(machine, machine.cursor.uint8()), // EXT1
  "\x83": (machine) => extension(machine, machine.cursor.uint16()), // EXT2
  "\x84": (machine) => extension(machine, machine.cursor.int32()), // EXT4
  "\x97": outOfBand, // NEXT_BUFFER
  "\x98": outOfBand, // READONLY_BUFFER
};

/** GLOBAL and INST: a line with the module, a line with the name. */
function readGlobal(machine: Machine): PickleValue {
  const module = decodeUtf8(machine.cursor.takeLine());
  const name = decodeUtf8(machine.cursor.takeLine());
  if (module === undefined || name === undefined) throw unnamed(machine);
  return globalName(module, name);
}

function unnamed({ cursor }: Machine): Error {
  return corrupt(
    cursor.region,
    `a class without a name before ${position(cursor.region, cursor.offset)}`,
    "a module and a name as text",
  );
}

function sequence({ cursor }: Machine, args: PickleValue): PickleValue[] {
  if (Array.isArray(args)) return args;
  throw corrupt(
    cursor.region,
    `arguments of type ${typeName(args)} before ${position(cursor.region, cursor.offset)}`,
    "a tuple",
  );
}

/**
 * Keeps the state of an object that has one. State of a built-in container is its attributes, such as the `_metadata`
 * of a state dict, which holds no weights.
 */
function setState({ cursor }: Machine, target: PickleValue, state: PickleValue): void {
  if (isObject(target)) target.state = state;
  else if (!(target instanceof Map || target instanceof Set || Array.isArray(target))) {
    throw unsupported(
      cursor.region,
      `a pickle that changes a value of type ${typeName(target)}, before ${position(cursor.region, cursor.offset)}`,
      "state set on objects only",
    );
  }
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
