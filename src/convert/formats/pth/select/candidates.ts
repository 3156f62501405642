/**
 * Finds the state dicts in whatever was pickled: dicts from names to tensors, and modules, at any depth of dicts,
 * lists and objects.
 */

import {
  type InertObject,
  isDict,
  isObject,
  keyText,
  type PickleDict,
  type PickleValue,
} from "../pickle/values.js";
import { isTensor } from "../tensors/tensor-ref.js";
import {
  attributesOf,
  createModuleAllowance,
  isModule,
  type ModuleAllowance,
  moduleTensors,
} from "./modules.js";

/** A place in the file that may hold the weights. */
export interface Candidate {
  /** Keys from the top of the file, joined by dots; empty for the top itself. */
  readonly path: string;
  readonly holder: PickleDict | InertObject;
  /** How many tensors are there. */
  readonly tensors: number;
}

/** Longer than any path in use; a shared string nested in itself could otherwise grow a path without bound. */
const MAX_PATH = 1024;

/** Every dict with names for tensors and every module below `root`, nearest to it first. */
export function findCandidates(root: PickleValue, rootPath: string): readonly Candidate[] {
  const candidates: Candidate[] = [];
  const allowance = createModuleAllowance();
  const queue: { readonly path: string; readonly value: PickleValue }[] = [{ path: rootPath, value: root }];
  // Breadth first. What is reachable twice is visited once, so that neither cycles nor sharing multiply the work.
  const seen = new Set<PickleValue>([root]);
  const visit = (path: string, value: PickleValue) => {
    if (seen.has(value)) return;
    seen.add(value);
    queue.push({ path, value });
  };
  for (let index = 0; index < queue.length; index++) {
    const { path, value } = queue[index] ?? { path: "", value: null };
    const candidate = candidateAt(path, value, allowance);
    if (candidate !== undefined) candidates.push(candidate);
    if (isObject(value) && !isModule(value)) for (const dict of dictsOf(value)) visit(path, dict);
    else {
      for (const [name, child] of childrenOf(value)) {
        if (mayHoldTensors(child) && path.length + name.length <= MAX_PATH)
          visit(joinPath(path, name), child);
      }
    }
  }
  return candidates;
}

/** The candidate that a value itself is, if it is one. */
export function candidateAt(
  path: string,
  value: PickleValue,
  allowance: ModuleAllowance = createModuleAllowance(),
): Candidate | undefined {
  if (!(isDict(value) || isObject(value))) return undefined;
  const tensors = countTensors(value, allowance);
  return tensors > 0 ? { path, holder: value, tensors } : undefined;
}

/** The named tensors of a candidate, still only described, and the names of its entries that are none. */
export function candidateEntries({ holder }: Pick<Candidate, "holder">): {
  readonly tensors: ReadonlyMap<string, PickleValue>;
  readonly others: readonly string[];
} {
  if (!isDict(holder))
    return { tensors: moduleTensors(holder, createModuleAllowance()) ?? new Map(), others: [] };
  const tensors = new Map<string, PickleValue>();
  const others: string[] = [];
  for (const [key, value] of holder) {
    if (typeof key === "string" && isTensor(value)) tensors.set(key, value);
    else others.push(keyText(key));
  }
  return { tensors, others };
}

/** The values a value holds, by name; list items by index. */
export function childrenOf(value: PickleValue): Iterable<readonly [string, PickleValue]> {
  if (isDict(value)) return dictChildren(value);
  if (Array.isArray(value)) return listChildren(value);
  if (!isObject(value) || isModule(value)) return [];
  return dictsOf(value).flatMap((dict) => [...dictChildren(dict)]);
}

/** What an object that is no module holds: what was set by key, and its attributes. */
function dictsOf(object: InertObject): readonly PickleDict[] {
  return [object.entries, attributesOf(object)].flatMap((dict) => dict ?? []);
}

/** Whether it is worth looking into a value. Hostile files hold many that it is not. */
function mayHoldTensors(value: PickleValue): boolean {
  if (Array.isArray(value)) return value.length > 0;
  return isDict(value) ? value.size > 0 : isObject(value) && !isTensor(value);
}

export function joinPath(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}

function countTensors(value: PickleValue, allowance: ModuleAllowance): number {
  if (isObject(value)) return isModule(value) ? (moduleTensors(value, allowance)?.size ?? 0) : 0;
  if (!isDict(value)) return 0;
  let count = 0;
  for (const [key, item] of value) if (typeof key === "string" && isTensor(item)) count++;
  return count;
}

function* listChildren(list: readonly PickleValue[]): Generator<readonly [string, PickleValue]> {
  for (const [index, item] of list.entries()) yield [String(index), item];
}

function* dictChildren(dict: PickleDict): Generator<readonly [string, PickleValue]> {
  for (const [key, value] of dict) {
    if (typeof key === "string" || typeof key === "number") yield [String(key), value];
  }
}
