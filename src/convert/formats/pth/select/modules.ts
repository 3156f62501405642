/**
 * State dicts of pickled modules, as `module.state_dict()` would list them. Source: torch/nn/modules/module.py
 * (`_save_to_state_dict`, `state_dict`) for `torch.save(model)`; torch/csrc/jit/serialization for TorchScript, where a
 * module is an object whose attributes are its parameters, buffers and submodules.
 */

import { type InertObject, isDict, isObject, type PickleDict, type PickleValue } from "../pickle/values.js";
import { isTensor } from "../tensors/tensor-ref.js";

const MAX_PATH = 1024;

/**
 * How many more entries of modules may be looked at. A network's modules have a few thousand; those of a hostile file
 * may contain themselves, or share children and dicts so that every path to one multiplies the work.
 */
export interface ModuleAllowance {
  entries: number;
}

export function createModuleAllowance(): ModuleAllowance {
  return { entries: 1 << 20 };
}

/** Where TorchScript puts its generated classes. */
const TORCHSCRIPT_MODULE = "__torch__.";

/** The attributes of an object: what its `__dict__` would hold. Objects with slots have a pair of dicts. */
export function attributesOf({ state }: InertObject): PickleDict | undefined {
  const dict = Array.isArray(state) ? state[0] : state;
  return isDict(dict) ? dict : undefined;
}

/** Whether an object is a torch.nn.Module or a TorchScript module. */
export function isModule(object: InertObject): boolean {
  const attributes = attributesOf(object);
  if (attributes === undefined) return false;
  if (object.path.startsWith(TORCHSCRIPT_MODULE)) return true;
  return isDict(attributes.get("_parameters")) && isDict(attributes.get("_modules"));
}

/**
 * The tensors of a module by path, in the order of its state dict. A module reached by two paths is listed under both,
 * as PyTorch does. Undefined when the module contains itself or is larger than any network.
 */
export function moduleTensors(
  root: InertObject,
  allowance: ModuleAllowance,
): ReadonlyMap<string, PickleValue> | undefined {
  const tensors = new Map<string, PickleValue>();
  const pending = [{ module: root, prefix: "" }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { module, prefix } = next;
    allowance.entries -= entryCount(module);
    if (allowance.entries < 0) return undefined;
    for (const [name, tensor] of ownTensors(module)) {
      if (prefix.length + name.length > MAX_PATH) return undefined;
      tensors.set(prefix + name, tensor);
    }
    // A stack gives back last what is pushed first.
    for (const [name, child] of children(module).toReversed()) {
      if (prefix.length + name.length > MAX_PATH) return undefined;
      pending.push({ module: child, prefix: `${prefix}${name}.` });
    }
  }
  return tensors;
}

/** What looking at one module, without its children, costs. */
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
  const transient = attributes?.get("_non_persistent_buffers_set");
  const buffers = named(attributes?.get("_buffers")).filter(
    ([name]) => !(transient instanceof Set && transient.has(name)),
  );
  return [...named(attributes?.get("_parameters")), ...buffers].filter(([, value]) => isTensor(value));
}

function children(module: InertObject): readonly (readonly [string, InertObject])[] {
  const attributes = attributesOf(module);
  const modules = module.path.startsWith(TORCHSCRIPT_MODULE) ? attributes : attributes?.get("_modules");
  return named(modules).flatMap(([name, value]) =>
    isObject(value) && !isTensor(value) && isModule(value) ? [[name, value] as const] : [],
  );
}

function named(dict: PickleValue | undefined): (readonly [string, PickleValue])[] {
  if (!isDict(dict)) return [];
  return [...dict].flatMap(([name, value]) => (typeof name === "string" ? [[name, value] as const] : []));
}
