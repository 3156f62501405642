import { attributesOf, childModules, type ModuleAllowance } from "./modules.js";
import {
  type InertObject,
  isGlobal,
  isObject,
  isStorage,
  type PickleValue,
  typeName,
} from "./pickle/values.js";

/**
 * What a pickled model says of its modules besides their tensors: class and attributes of each. Source:
 * torch/nn/modules/module.py (`__getstate__`: a module's pickle is its `__dict__`).
 */

/** An attribute as plain data; anything else is named by its type. */
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
  /** Attributes that are no parameters, buffers or modules; empty dicts and sets, such as those of hooks, are left out. */
  readonly attributes: ReadonlyMap<string, AttributeValue>;
  /** Names of its children in their order, which for a Sequential is that of its computation. */
  readonly children: readonly string[];
}

/** Where a module keeps what is listed elsewhere. */
const CONTENTS: ReadonlySet<string> = new Set([
  "_buffers",
  "_modules",
  "_non_persistent_buffers_set",
  "_parameters",
]);

/** The longest list that an attribute may be: kernel sizes have two numbers, shapes three. */
const MAX_ITEMS = 8;

/** The modules of a pickled model by path, its own under the empty one; undefined when it is larger than any network. */
export function pickledModules(
  root: InertObject,
  allowance: ModuleAllowance,
): ReadonlyMap<string, PickledModule> | undefined {
  const modules = new Map<string, PickledModule>();
  const pending = [{ module: root, path: "" }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { module, path } = next;
    const children = childModules(module);
    const attributes = plainAttributes(module);
    allowance.entries -= 1 + children.length + attributes.size;
    if (allowance.entries < 0) return undefined;
    modules.set(path, { className: module.path, attributes, children: children.map(([name]) => name) });
    for (const [name, child] of children)
      pending.push({ module: child, path: path === "" ? name : `${path}.${name}` });
  }
  return modules;
}

function plainAttributes(module: InertObject): ReadonlyMap<string, AttributeValue> {
  const plain = new Map<string, AttributeValue>();
  for (const [name, value] of attributesOf(module) ?? []) {
    if (typeof name !== "string" || CONTENTS.has(name)) continue;
    if ((value instanceof Map || value instanceof Set) && value.size === 0) continue;
    plain.set(name, plainValue(value));
  }
  return plain;
}

function plainValue(value: PickleValue): AttributeValue {
  if (value === null || typeof value === "boolean" || typeof value === "number" || typeof value === "string")
    return value;
  if (Array.isArray(value) && value.length <= MAX_ITEMS && value.every((item) => !Array.isArray(item)))
    return value.map(plainValue);
  return { type: isObject(value) || isGlobal(value) || isStorage(value) ? "an object" : typeName(value) };
}
