import { plural } from "../../../core/text.js";
import { printable } from "../refusals.js";
import {
  createModuleAllowance,
  isModule,
  type ModuleAllowance,
  moduleTensors,
  removePrefix,
  removeWrapperPrefix,
  type Unprefixed,
} from "./modules.js";
import {
  type InertObject,
  isDict,
  isObject,
  isTuple,
  keyText,
  type PickleDict,
  type PickleValue,
} from "./pickle/values.js";
import { isTensor } from "./tensor-ref.js";

/**
 * Finds the state dicts in whatever was pickled: dicts from names to tensors, and modules, at any depth of dicts,
 * lists and objects.
 */

/** A place in the file that may contain the weights. */
interface Candidate {
  /** Keys from the top of the file, joined by dots; empty for the top itself. */
  readonly path: string;
  readonly holder: PickleDict | InertObject;
  /** How many tensors are there, without the counters of batch norms, which older versions of PyTorch do not have. */
  readonly tensors: number;
}

/** Longer than any path in use; a string nested in itself could otherwise grow a path without limit. */
const MAX_PATH = 1024;

/** Every dict with names for tensors and every module below `root`, nearest first. */
function findCandidates(root: PickleValue, rootPath: string): readonly Candidate[] {
  const candidates: Candidate[] = [];
  const allowance = createModuleAllowance();
  const queue: { readonly path: string; readonly value: PickleValue }[] = [{ path: rootPath, value: root }];
  // Breadth first. Values reachable twice are visited once, so that neither cycles nor sharing multiply the work.
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

/** The candidate that a value itself is, if any. */
function candidateAt(
  path: string,
  value: PickleValue,
  allowance: ModuleAllowance = createModuleAllowance(),
): Candidate | undefined {
  if (!(isDict(value) || isObject(value))) return undefined;
  const tensors = countTensors(value, allowance);
  return tensors > 0 ? { path, holder: value, tensors } : undefined;
}

/** The named tensors of a candidate, not yet read, and the names of its other entries. */
function candidateEntries({ holder }: Pick<Candidate, "holder">): {
  readonly tensors: ReadonlyMap<string, PickleValue>;
  readonly others: readonly string[];
} {
  if (!isDict(holder))
    return { tensors: moduleTensors(holder, createModuleAllowance()) ?? new Map(), others: [] };
  const tensors = new Map<string, PickleValue>();
  const others: string[] = [];
  for (const [key, value] of holder) {
    if (typeof key === "string" && (isTensor(value) || isParameter(key, value))) tensors.set(key, value);
    else others.push(keyText(key));
  }
  return { tensors, others };
}

/**
 * Whether a value must be a tensor by its name, which is a path of modules: of an unknown class it may be one to
 * PyTorch, and it is refused when it is read. Batch norms may count in plain numbers, and `_extra_state` is anything.
 */
function isParameter(key: string, value: PickleValue): boolean {
  return key.includes(".") && !key.endsWith("._extra_state") && typeof value !== "number";
}

/** The values inside a value, by name; list items by index. */
function childrenOf(value: PickleValue): Iterable<readonly [string, PickleValue]> {
  if (isDict(value)) return dictChildren(value);
  if (Array.isArray(value)) return listChildren(value);
  if (!isObject(value) || isModule(value)) return [];
  return dictsOf(value).flatMap((dict) => [...dictChildren(dict)]);
}

/** What an object that is not a module contains: its items by key, and its attributes. */
function dictsOf(object: InertObject): readonly PickleDict[] {
  const state = isTuple(object.state) ? (object.state as PickleValue[]) : [object.state ?? null];
  return [object.entries, ...state].filter(isDict);
}

/** Whether a value may contain tensors. Hostile files have many that do not. */
function mayHoldTensors(value: PickleValue): boolean {
  if (Array.isArray(value)) return value.length > 0;
  return isDict(value) ? value.size > 0 : isObject(value) && !isTensor(value);
}

function joinPath(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}

function countTensors(value: PickleValue, allowance: ModuleAllowance): number {
  const entries =
    isObject(value) && isModule(value) ? moduleTensors(value, allowance) : isDict(value) ? value : [];
  let count = 0;
  for (const [key, item] of entries ?? [])
    if (typeof key === "string" && !key.endsWith(".num_batches_tracked") && isTensor(item)) count++;
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

/** Chooses one state dict if a checkpoint has several: the raw weights and their average, a network and its loss. */

/** The state dict to use, its tensors not yet read. */
export interface Choice {
  readonly wrapperPath: string;
  readonly prefix: string;
  readonly entries: ReadonlyMap<string, PickleValue>;
  readonly holder: Candidate["holder"];
  readonly notes: readonly string[];
}

/**
 * Names under which training scripts keep the weights to use, best first; averaged weights only if there are no others.
 */
const WRAPPER_NAMES: readonly string[] = [
  "",
  "state_dict",
  "model_state_dict",
  "model_state",
  "model",
  "net",
  "network",
  "module",
  "backbone",
  "weights",
  "params",
];
const AVERAGED = /(?:^|[._])(?:ema|swa|shadow|averaged?)(?:[._]|$)/i;

/** An optimizer's state has parameters' shapes but is not weights. */
const TRAINING_STATE = /optim|sched|scaler|criterion|loss/i;

/**
 * Candidates of nearly the largest size count as equal: an average has an extra counter, a plain network a buffer less.
 */
const SIMILAR_SIZE = 0.9;

/** Maximum number of candidates examined closely; an optimizer has one small dict for each parameter. */
const MAX_EXAMINED = 64;

/** Chooses by structure. */
export function chooseStateDict(root: PickleValue, rootPath = ""): Choice | undefined {
  const candidates = findCandidates(root, rootPath)
    .toSorted((a, b) => b.tensors - a.tensors)
    .slice(0, MAX_EXAMINED);
  const largest = candidates[0]?.tensors ?? 0;
  const similar = candidates.filter(({ tensors }) => tensors >= SIMILAR_SIZE * largest);
  const [chosen, ...rest] = similar.toSorted((a, b) => preference(a) - preference(b));
  if (chosen === undefined) return undefined;
  return choice(chosen, removeWrapperPrefix(candidateEntries(chosen).tensors), [
    ...(rest.length > 0 ? [alternatives(chosen, rest)] : []),
  ]);
}

/** The state dicts at `--key`, one if it is clear: each is at a place in the file, or at a place and a key prefix. */
export function keyedStateDicts(root: PickleValue, key: string): readonly Choice[] {
  const choices: Choice[] = [];
  const add = (found: Choice | undefined): void => {
    const isKnown = choices.some(({ holder, prefix }) => holder === found?.holder && prefix === found.prefix);
    if (found !== undefined && !isKnown) choices.push(found);
  };
  for (const { path, value } of placesAlong(root, key)) {
    const place = path === key ? undefined : candidateAt(path, value);
    if (path === key) add(chooseStateDict(value, path));
    else if (place) add(prefixGroup(place, `${path === "" ? key : key.slice(path.length + 1)}.`));
  }
  return choices;
}

/** The places whose paths `key` begins with, the longest path last. Keys may contain dots themselves. */
function placesAlong(root: PickleValue, key: string): readonly { path: string; value: PickleValue }[] {
  const places: { path: string; value: PickleValue }[] = [{ path: "", value: root }];
  for (let index = 0; index < places.length && index < MAX_EXAMINED; index++) {
    const { path, value } = places[index] ?? { path: "", value: null };
    for (const [name, child] of childrenOf(value)) {
      const childPath = joinPath(path, name);
      if (childPath === key || key.startsWith(`${childPath}.`))
        places.push({ path: childPath, value: child });
    }
  }
  return places;
}

/** The entries whose keys begin with `prefix`, without it; undefined if there are none. */
function prefixGroup(place: Candidate, prefix: string): Choice | undefined {
  const { tensors } = candidateEntries(place);
  const group = new Map([...tensors].filter(([name]) => name.startsWith(prefix)));
  const stripped = removePrefix(group, prefix);
  if (group.size === 0 || stripped === undefined) return undefined;
  const inner = removeWrapperPrefix(stripped.entries);
  const notes =
    group.size < tensors.size
      ? [`ignored ${tensors.size - group.size} tensors outside ${printable(prefix)}`]
      : [];
  return choice(place, { ...inner, prefix: prefix + inner.prefix }, notes);
}

function choice(place: Candidate, unprefixed: Unprefixed<PickleValue>, notes: readonly string[]): Choice {
  const { prefix, entries, others } = unprefixed;
  const notTensors = candidateEntries(place).others;
  return {
    wrapperPath: place.path,
    prefix,
    entries,
    holder: place.holder,
    notes: [
      ...notes,
      ...(prefix === ""
        ? []
        : [`removed the prefix ${printable(prefix)} from ${entries.size - others.length} keys`]),
      ...(others.length > 0
        ? [`${plural(others.length, "key does", "keys do")} not have it: ${list(others)}`]
        : []),
      ...(notTensors.length > 0 ? [`ignored values that are not tensors: ${list(notTensors)}`] : []),
    ],
  };
}

/** Smaller is better. */
function preference({ path }: Candidate): number {
  if (TRAINING_STATE.test(path)) return 300;
  if (AVERAGED.test(path)) return 200;
  const rank = WRAPPER_NAMES.indexOf(path.slice(path.lastIndexOf(".") + 1));
  return rank < 0 ? 100 : rank;
}

function alternatives(chosen: Candidate, rest: readonly Candidate[]): string {
  const others = list(rest.map(placeName));
  return `used ${placeName(chosen)}; select another with --key: ${others}`;
}

function placeName({ path }: Candidate): string {
  return path === "" ? "the top" : printable(path);
}

function list(names: readonly string[]): string {
  const shown = names.slice(0, 8).map(printable).join(", ");
  return names.length > 8 ? `${shown} and ${names.length - 8} more` : shown;
}
