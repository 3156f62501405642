import type { Budget } from "../../budget.js";
import type { Cursor } from "../../cursor.js";
import type { Region } from "../../refusals.js";
import type { Memo } from "./memo.js";
import type { PickleStack } from "./stack.js";
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
  readonly memo: Memo;
}

/** What one opcode does, after its own byte has been read. */
export type Opcode = (machine: Machine) => void;

/** Opcodes by the character that stands for them, as pickletools lists them. */
export type OpcodeTable = Readonly<Partial<Record<string, Opcode>>>;
