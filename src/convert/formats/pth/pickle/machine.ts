/**
 * A pickle machine that can only build data. Source: CPython's Lib/pickletools.py, protocols 0 to 5.
 *
 * The opcodes are a closed table. A class or function that a pickle names stays a name; what calling it would have
 * made becomes an inert record (`calls.ts`), so nothing in the file ever runs. Opcodes that need a registry outside
 * the file (EXT1, EXT2, EXT4, NEXT_BUFFER) are refused. One opcode consumes at least one byte and costs constant time
 * plus the values it consumes; what copies values is charged to the budget: the machine cannot loop or explode.
 */

import type { Budget } from "../budget.js";
import type { Cursor } from "../cursor.js";
import { corrupt, position, printable, type Region, unsupported } from "../refusals.js";
import { CONTAINER_OPCODES } from "./containers.js";
import { OBJECT_OPCODES } from "./objects.js";
import { SCALAR_OPCODES } from "./scalars.js";
import { PickleStack } from "./stack.js";
import type { PickleValue, Storage } from "./values.js";

/** What a pickle depends on: its container gives meaning to persistent ids. */
export interface PickleEnvironment {
  readonly budget: Budget;
  /** The value of a persistent id; throws `InputError` for one that the container does not know. */
  readonly persistentLoad: (id: PickleValue, region: Region) => PickleValue;
  /** The storage in a file of its own inside the pickle, which is how pickle.dump, without PyTorch, writes tensors. */
  readonly loadStorage: (file: Uint8Array, region: Region) => Storage;
}

/** The state of one run. */
export interface Machine {
  readonly cursor: Cursor;
  readonly environment: PickleEnvironment;
  readonly stack: PickleStack;
  readonly memo: Map<number, PickleValue>;
}

/** What one opcode does, after its own byte has been read. */
export type Opcode = (machine: Machine) => void;

/** Opcodes by the character that stands for them, as pickletools lists them. */
export type OpcodeTable = Readonly<Partial<Record<string, Opcode>>>;

/**
 * A memo entry or stack slot takes up to 40 bytes for one byte of pickle. The largest OSNet checkpoint seen, with
 * optimizer state, has 150,000 opcodes.
 */
const MAX_OPCODES = 1 << 21;

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
  const machine: Machine = { cursor, environment, stack: new PickleStack(cursor), memo: new Map() };
  for (let count = 0; count < MAX_OPCODES; count++) {
    const offset = cursor.offset;
    const code = cursor.uint8();
    if (code === STOP) return machine.stack.pop();
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
  throw unsupported(
    cursor.region,
    `a pickle of more than ${MAX_OPCODES} opcodes in ${printable(cursor.region.part)}`,
    "a checkpoint",
  );
}
