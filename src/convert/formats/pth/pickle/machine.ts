/**
 * A pickle machine that can only build data. Source: CPython's Lib/pickletools.py, protocols 0 to 5.
 *
 * The opcodes are a closed table. A class or function that a pickle names stays a name; what calling it would have
 * made becomes an inert record (`calls.ts`), so nothing in the file ever runs. Opcodes that need a registry outside
 * the file (EXT1, EXT2, EXT4, NEXT_BUFFER) are refused. One opcode consumes at least one byte and costs constant time
 * plus the values it consumes; what builds or copies values is charged to the budget: the machine cannot loop or explode.
 */

import type { Cursor } from "../../cursor.js";
import { corrupt, position } from "../../refusals.js";
import { CONTAINER_OPCODES } from "./containers.js";
import { Memo } from "./memo.js";
import { OBJECT_OPCODES } from "./objects.js";
import type { Machine, Opcode, OpcodeTable, PickleEnvironment } from "./opcode.js";
import { SCALAR_OPCODES } from "./scalars.js";
import { PickleStack } from "./stack.js";
import type { PickleValue } from "./values.js";

const STOP = 0x2e;

/** By byte. */
const OPCODES: readonly (Opcode | undefined)[] = opcodesByByte({
  ...SCALAR_OPCODES,
  ...CONTAINER_OPCODES,
  ...OBJECT_OPCODES,
});

function opcodesByByte(table: OpcodeTable): (Opcode | undefined)[] {
  return Array.from({ length: 256 }, (_, byte) => table[String.fromCharCode(byte)]);
}

/** Runs one pickle from the cursor's position to just after its STOP and returns what it built. */
export function runPickle(cursor: Cursor, environment: PickleEnvironment): PickleValue {
  const stack = new PickleStack(cursor, environment.budget);
  const machine: Machine = { cursor, environment, stack, memo: new Memo() };
  // Ends: every opcode takes a byte, and the cursor does not read beyond the last.
  for (;;) {
    const offset = cursor.offset;
    const code = cursor.uint8();
    if (code === STOP) return stack.pop();
    const opcode = OPCODES[code];
    if (opcode === undefined) {
      throw corrupt(
        cursor.region,
        `the byte 0x${code.toString(16).padStart(2, "0")} at ${position(cursor.region, offset)}`,
        "a pickle opcode",
      );
    }
    opcode(machine);
  }
}
