import { InputError } from "../errors.js";
import type { StateDict } from "../state-dict.js";
import { removePrefix, removeWrapperPrefix } from "./formats/pth/select/prefix.js";
import { quote } from "./formats/refusals.js";

/** A state dict out of a file that is one list of tensors, and how its keys were changed. */
export interface FlatSelection {
  readonly stateDict: StateDict;
  readonly removedPrefix: string;
  readonly notes: readonly string[];
}

/**
 * The state dict in a file without any structure but its keys: those below `key` where given, without wrappers'
 * prefixes such as `module.`.
 *
 * @throws InputError (`argument`) if no key begins with `key`
 */
export function selectFlat(tensors: StateDict, key: string | undefined, subject: string): FlatSelection {
  const outer = key ? `${key}.` : "";
  const group = new Map([...tensors].filter(([name]) => name.startsWith(outer)));
  const stripped = outer === "" ? group : removePrefix(group, outer)?.entries;
  if (key && (group.size === 0 || !stripped))
    throw new InputError({
      code: "argument",
      subject: `--key ${key}`,
      found: `no tensors there in ${subject}`,
      expected: "what the keys of a state dict begin with",
      remedy: "leave out --key, or give another",
    });
  const { entries, prefix, others } = removeWrapperPrefix(stripped ?? group);
  const removedPrefix = outer + prefix;
  const left = tensors.size - group.size;
  return {
    stateDict: entries,
    removedPrefix,
    notes: [
      ...(left > 0 ? [`left out ${left} tensors outside ${quote(outer)}`] : []),
      ...(removedPrefix
        ? [`removed the prefix ${quote(removedPrefix)} from ${entries.size - others.length} keys`]
        : []),
      ...(others.length > 0 ? [`keys without it: ${others.slice(0, 8).map(quote).join(", ")}`] : []),
    ],
  };
}
