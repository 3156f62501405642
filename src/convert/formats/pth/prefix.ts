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
  let result: Unprefixed<V> = { entries, prefix: "", others: [] };
  for (let chain = 0; chain < MAX_CHAIN; chain++) {
    const attribute = [...WRAPPER_ATTRIBUTES].find((name) => isCommon(`${name}.`, result.entries));
    if (attribute === undefined) break;
    const next = removePrefix(result.entries, `${attribute}.`);
    if (next === undefined) break;
    result = {
      entries: next.entries,
      prefix: result.prefix + next.prefix,
      others: [...result.others, ...next.others],
    };
  }
  return result;
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
