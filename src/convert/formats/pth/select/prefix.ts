/** Prefixes that wrappers put before every parameter's path: `module.` of DataParallel, `model.` of Lightning. */

/** Attribute names under which wrappers keep the network itself, as seen in published checkpoints. */
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

/** A wrapper may bring a few parameters of its own, such as a head beside `backbone.`; the network has most. */
const COMMON_SHARE = 0.9;

/** The longest chain seen is three, `module.model.backbone.`. */
const MAX_CHAIN = 6;

/** A state dict's entries after the prefix they had in common was taken off. */
export interface Unprefixed<V> {
  readonly entries: ReadonlyMap<string, V>;
  /** What was taken off, with its dot; empty when there was nothing. */
  readonly prefix: string;
  /** Keys that did not have it and are as they were. */
  readonly others: readonly string[];
}

/** Takes off the wrappers' attribute names that nearly all keys begin with. */
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

/** Takes `prefix` off the keys that have it; undefined when two keys would become the same. */
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

/** A part of a larger network that is smaller than this is not tried. */
const LEAST_SHARE = 0.1;

/** The first prefix of whole path segments such that the keys that have it, without it, are accepted. */
export function findPrefix(
  keys: readonly string[],
  accepts: (keys: readonly string[]) => boolean,
): string | undefined {
  const groups = new Map<string, string[]>();
  for (const key of keys) {
    let end = key.indexOf(".");
    for (let depth = 0; depth < MAX_CHAIN && end >= 0; depth++) {
      const prefix = key.slice(0, end + 1);
      const group = groups.get(prefix) ?? [];
      group.push(key.slice(end + 1));
      groups.set(prefix, group);
      end = key.indexOf(".", end + 1);
    }
  }
  for (const [prefix, group] of groups) {
    if (group.length >= LEAST_SHARE * keys.length && accepts(group)) return prefix;
  }
  return undefined;
}
