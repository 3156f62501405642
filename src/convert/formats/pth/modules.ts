import { printable } from "../refusals.js";
import {
  type InertObject,
  isDict,
  isGlobal,
  isObject,
  isStorage,
  isTuple,
  type PickleDict,
  type PickleValue,
  typeName,
} from "./pickle/values.js";
import { isTensor } from "./tensor-ref.js";

/**
 * State dicts of pickled modules, as in `module.state_dict()`. Source: torch/nn/modules/module.py
 * (`_save_to_state_dict`, `state_dict`) for `torch.save(model)`; torch/csrc/jit/serialization for TorchScript, where a
 * module is an object whose attributes are its parameters, buffers and submodules.
 */

const MAX_PATH = 1024;

/**
 * Limit on modules' entries and the characters of their paths: an OSNet pickled whole has 250,000. Those of a hostile file may contain themselves, or
 * share children and dicts so that every path to one multiplies the work.
 */
export interface ModuleAllowance {
  left: number;
}

export function createModuleAllowance(): ModuleAllowance {
  return { left: 1 << 23 };
}

/** The cost of an entry besides its path. */
const ENTRY_COST = 16;

/** TorchScript's namespace for generated classes. */
export const TORCHSCRIPT_MODULE = "__torch__.";

/** The attributes of an object, as in its `__dict__`. Objects with slots have a tuple of two dicts. */
export function attributesOf({ state }: InertObject): PickleDict | undefined {
  const dict = isTuple(state) ? (state as PickleValue[])[0] : state;
  return isDict(dict) ? dict : undefined;
}

/** Whether an object is a torch.nn.Module or a TorchScript module. */
export function isModule(object: InertObject): boolean {
  const attributes = attributesOf(object);
  if (attributes === undefined) return false;
  if (object.path.startsWith(TORCHSCRIPT_MODULE)) return true;
  return attributes.has("_parameters") || attributes.has("_modules");
}

/**
 * The tensors of a module by path, in the order of its state dict. A module reached by two paths is listed under both,
 * as in PyTorch. Undefined if the module contains itself or is larger than any network.
 */
export function moduleTensors(
  root: InertObject,
  allowance: ModuleAllowance,
): ReadonlyMap<string, PickleValue> | undefined {
  const tensors = new Map<string, PickleValue>();
  const pending = [{ module: root, prefix: "" }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { module, prefix } = next;
    allowance.left -= ENTRY_COST * entryCount(module);
    if (allowance.left < 0) return undefined;
    for (const [name, tensor] of ownTensors(module)) {
      allowance.left -= prefix.length + name.length;
      if (prefix.length + name.length > MAX_PATH || allowance.left < 0) return undefined;
      tensors.set(prefix + name, tensor);
    }
    // A stack returns the last pushed item first.
    for (const [name, child] of childModules(module).toReversed()) {
      allowance.left -= prefix.length + name.length;
      if (prefix.length + name.length > MAX_PATH || allowance.left < 0) return undefined;
      pending.push({ module: child, prefix: `${prefix}${name}.` });
    }
  }
  return tensors;
}

/** The cost of visiting one module, without its children. */
function entryCount(module: InertObject): number {
  const attributes = attributesOf(module);
  const parts = ["_parameters", "_buffers", "_modules"].map((name) => attributes?.get(name));
  return parts.reduce<number>(
    (count, part) => count + (isDict(part) ? part.size : 0),
    1 + (attributes?.size ?? 0),
  );
}

/** Parameters, then the buffers that a state dict keeps. */
function ownTensors(module: InertObject): readonly (readonly [string, PickleValue])[] {
  const attributes = attributesOf(module);
  if (module.path.startsWith(TORCHSCRIPT_MODULE))
    return named(attributes).filter(([, value]) => isTensor(value));
  const buffers = named(attributes?.get("_buffers")).filter(([name]) => !isTransient(attributes, name));
  // Any other value than None is a tensor, or refused when it is read.
  return [...named(attributes?.get("_parameters")), ...buffers].filter(([, value]) => value !== null);
}

function isTransient(attributes: PickleDict | undefined, buffer: string): boolean {
  const names = attributes?.get("_non_persistent_buffers_set");
  return names instanceof Set && names.has(buffer);
}

/** The direct children of a module, in their order. */
function childModules(module: InertObject): readonly (readonly [string, InertObject])[] {
  const attributes = attributesOf(module);
  const modules = module.path.startsWith(TORCHSCRIPT_MODULE) ? attributes : attributes?.get("_modules");
  return named(modules).flatMap(([name, value]) => (isChild(value) ? [[name, value] as const] : []));
}

function isChild(value: PickleValue): value is InertObject {
  return isObject(value) && !isTensor(value) && isModule(value);
}

function named(dict: PickleValue | undefined): (readonly [string, PickleValue])[] {
  if (!isDict(dict)) return [];
  return [...dict].flatMap(([name, value]) => (typeof name === "string" ? [[name, value] as const] : []));
}

/** Prefixes that wrappers put before every parameter's path: `module.` of DataParallel, `model.` of Lightning. */

/** Attribute names of the network in wrappers, as seen in published checkpoints. */
const WRAPPER_ATTRIBUTES: ReadonlySet<string> = new Set([
  "_orig_mod", // torch.compile
  "backbone", // FastReID, mmpretrain
  "base",
  "base_model",
  "encoder",
  "feature_extractor",
  "model", // Lightning
  "module", // DataParallel, DistributedDataParallel
  "net",
  "network",
  "osnet",
  "reid_model",
]);

/** A wrapper may have a few parameters of its own, such as a head beside `backbone.`; the network has most. */
const COMMON_SHARE = 0.9;

/** The longest chain seen is three, `module.model.backbone.`. */
const MAX_CHAIN = 6;

/** A state dict's entries without their common prefix. */
export interface Unprefixed<V> {
  readonly entries: ReadonlyMap<string, V>;
  /** The removed prefix, with its dot; empty if there was none. */
  readonly prefix: string;
  /** Keys without the prefix, which are unchanged. */
  readonly others: readonly string[];
}

/** Removes the wrappers' attribute names with which nearly all keys begin. */
export function removeWrapperPrefix<V>(entries: ReadonlyMap<string, V>): Unprefixed<V> {
  let prefix = "";
  for (let chain = 0; chain < MAX_CHAIN; chain++) {
    const next = [...WRAPPER_ATTRIBUTES].find((name) => isCommon(`${prefix}${name}.`, entries));
    if (next === undefined) break;
    prefix += `${next}.`;
  }
  const untouched = { entries, prefix: "", others: [] };
  return prefix === "" ? untouched : (removePrefix(entries, prefix) ?? untouched);
}

/** A path without the wrappers' attribute names that it begins with. */
export function withoutWrappers(path: string): string {
  const parts = path.split(".");
  return parts.slice(parts.findIndex((part) => !WRAPPER_ATTRIBUTES.has(part))).join(".");
}

/** Removes `prefix` from the keys that have it; undefined if two keys would become equal. */
export function removePrefix<V>(entries: ReadonlyMap<string, V>, prefix: string): Unprefixed<V> | undefined {
  const result = new Map<string, V>();
  const others: string[] = [];
  for (const [key, value] of entries) {
    const has = key.startsWith(prefix) && key.length > prefix.length;
    const name = has ? key.slice(prefix.length) : key;
    if (result.has(name)) return undefined;
    result.set(name, value);
    if (!has) others.push(key);
  }
  return { entries: result, prefix, others };
}

function isCommon(prefix: string, entries: ReadonlyMap<string, unknown>): boolean {
  let count = 0;
  for (const key of entries.keys()) if (key.startsWith(prefix)) count++;
  return count > 0 && count >= COMMON_SHARE * entries.size;
}

/** Smaller parts of a larger network are not tried. */
const MIN_SHARE = 0.1;

/**
 * Groups of keys with a common prefix of whole path segments, by that prefix, which is removed: those that are not a
 * small part of all.
 */
export function prefixGroups(keys: Iterable<string>): ReadonlyMap<string, readonly string[]> {
  const groups = new Map<string, string[]>();
  let count = 0;
  for (const key of keys) {
    count++;
    let end = key.indexOf(".");
    for (let depth = 0; depth < MAX_CHAIN && end >= 0; depth++) {
      const prefix = key.slice(0, end + 1);
      const group = groups.get(prefix) ?? [];
      group.push(key.slice(end + 1));
      groups.set(prefix, group);
      end = key.indexOf(".", end + 1);
    }
  }
  return new Map([...groups].filter(([, group]) => group.length >= MIN_SHARE * count));
}

/**
 * What a pickled model says about its modules besides their tensors: the class and attributes of each. Source:
 * torch/nn/modules/module.py (`__getstate__`: a module's pickle is its `__dict__`).
 */

/** An attribute as plain data; other values are represented by their type. */
export type AttributeValue =
  | null
  | boolean
  | number
  | string
  | readonly AttributeValue[]
  | { readonly type: string };

/** A module of a model that was pickled whole, as data: none of its code is loaded. */
export interface PickledModule {
  /** Module and name of its class, such as `torch.nn.modules.conv.Conv2d`. */
  readonly className: string;
  /**
   * Attributes that are not parameters, buffers or modules; empty dicts and sets, such as those of hooks, are omitted.
   */
  readonly attributes: ReadonlyMap<string, AttributeValue>;
  /** Names of its children in their order, which is the order of computation in a Sequential. */
  readonly children: readonly string[];
  /** Ambiguities: where its state dict, or the paths of its modules, may differ from what it computes with. */
  readonly ambiguities: readonly string[];
}

/** A module that contains the network. */
export interface PickledWrapper extends PickledModule {
  /** The child that is the network or contains it. */
  readonly inner: string;
  /** Its other children. */
  readonly beside: readonly PickledModule[];
}

/** Where a module stores what is listed elsewhere. */
const CONTENTS: ReadonlySet<string> = new Set([
  "_buffers",
  "_modules",
  "_non_persistent_buffers_set",
  "_parameters",
]);

/** Maximum length of a list attribute: kernel sizes have two numbers, shapes three. */
const MAX_ITEMS = 8;

/**
 * The modules of a pickled model by path, the model itself under the empty one; undefined if it is larger than any
 * network.
 */
export function pickledModules(
  root: InertObject,
  allowance: ModuleAllowance,
): ReadonlyMap<string, PickledModule> | undefined {
  const modules = new Map<string, PickledModule>();
  const pending = [{ module: root, path: "" }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { module, path } = next;
    allowance.left -= ENTRY_COST * entryCount(module) + path.length;
    if (allowance.left < 0) return undefined;
    const children = childModules(module);
    const attributes = attributeValues(module);
    const namesake = modules.get(path);
    const ambiguities = [
      ...(namesake ? [...namesake.ambiguities, "a second module with the same path"] : []),
      ...ambiguitiesOf(module),
    ];
    const names = children.map(([name]) => name);
    modules.set(path, { className: module.path, attributes, children: names, ambiguities });
    for (const [name, child] of children)
      pending.push({ module: child, path: path === "" ? name : `${path}.${name}` });
  }
  return modules;
}

/**
 * torch looks up a name among the parameters, then the buffers, then the modules, and lists them all in a state dict,
 * in which the last one wins. It calls everything in a Sequential's modules, and does not allow dots in names.
 */
function ambiguitiesOf(module: InertObject): readonly string[] {
  const attributes = attributesOf(module);
  const seen = new Set<PickleValue>();
  // The effect of other state depends on the class's code: torch's constructors set further attributes, and a
  // Sequential takes items.
  const beside = [
    ...(module.args.length > 0 ? ["arguments of its class"] : []),
    ...(module.items || module.entries ? ["items of its own"] : []),
    ...(isDict(module.state) ? [] : ["a state that is not a dict"]),
    ...(isSetOfNames(attributes?.get("_non_persistent_buffers_set"))
      ? []
      : ["something other than names in _non_persistent_buffers_set"]),
  ];
  const names = ["_parameters", "_buffers", "_modules"].flatMap((kind) => {
    const entries = attributes?.get(kind);
    if (!isDict(entries)) return [`${kind} that is not a dict`];
    return [...entries].flatMap(([name, value]) => {
      const isTwice = seen.has(name);
      seen.add(name);
      const shown = typeof name === "string" ? printable(name) : "an entry without a name";
      if (typeof name !== "string" || name === "" || name.includes("."))
        return [`${shown || "an empty name"} in ${kind}`];
      if (isTwice) return [`${shown} twice`];
      if (kind === "_buffers" && value !== null && isTransient(attributes, name))
        return [`${shown}, which its state dict omits`];
      return kind === "_modules" && value !== null && !isChild(value)
        ? [`${shown}, which is not a module`]
        : [];
    });
  });
  return [...beside, ...names];
}

function isSetOfNames(names: PickleValue = new Set()): boolean {
  return names instanceof Set && [...names].every((name) => typeof name === "string");
}

/** The modules from the whole model down to the network in it. */
export function wrappersOf(
  modules: ReadonlyMap<string, PickledModule>,
  network: string,
): readonly PickledWrapper[] {
  return [...modules].flatMap(([path, module]) => {
    const prefix = path === "" ? "" : `${path}.`;
    if (path === network || !network.startsWith(prefix)) return [];
    const inner = network.slice(prefix.length).split(".", 1)[0] ?? "";
    const others = module.children.filter((name) => name !== inner);
    return [{ ...module, inner, beside: others.flatMap((name) => modules.get(prefix + name) ?? []) }];
  });
}

function attributeValues(module: InertObject): ReadonlyMap<string, AttributeValue> {
  const values = new Map<string, AttributeValue>();
  for (const [name, value] of attributesOf(module) ?? []) {
    if (typeof name !== "string" || CONTENTS.has(name)) continue;
    if ((value instanceof Map || value instanceof Set) && value.size === 0) continue;
    values.set(name, attributeValue(value));
  }
  return values;
}

function attributeValue(value: PickleValue): AttributeValue {
  if (value === null || typeof value === "boolean" || typeof value === "number" || typeof value === "string")
    return value;
  if (Array.isArray(value) && value.length <= MAX_ITEMS && value.every((item) => !Array.isArray(item)))
    return value.map(attributeValue);
  return { type: isObject(value) || isGlobal(value) || isStorage(value) ? "an object" : typeName(value) };
}
