import { InputError } from "../../core/errors.js";

/**
 * Names in the order of their computation, each after all that it reads. Names that nothing computes are left out.
 *
 * @throws InputError (`format`) if a name depends on itself
 */
export function inOrder<T>(
  items: ReadonlyMap<string, T>,
  reads: (item: T) => readonly string[],
  subject: string,
): readonly T[] {
  const done = new Set<string>();
  const open = new Set<string>();
  const order: T[] = [];
  for (const start of items.keys()) {
    // Depth first without recursion: a graph may be a chain of any length.
    const pending = [{ name: start, inputs: inputsOf(start), next: 0 }];
    for (let top = pending.at(-1); top; top = pending.at(-1)) {
      const { name } = top;
      if (top.next === 0 && done.has(name)) {
        pending.pop();
        continue;
      }
      open.add(name);
      const input = top.inputs[top.next++];
      if (input === undefined) {
        pending.pop();
        open.delete(name);
        done.add(name);
        const item = items.get(name);
        if (item !== undefined) order.push(item);
      } else if (open.has(input))
        throw new InputError({
          code: "format",
          subject,
          found: `${JSON.stringify(input.slice(0, 80))}, which depends on itself`,
          expected: "an acyclic graph",
          remedy: "export the model again",
        });
      else if (!done.has(input)) pending.push({ name: input, inputs: inputsOf(input), next: 0 });
    }
  }
  return order;

  function inputsOf(name: string): readonly string[] {
    const item = items.get(name);
    return item === undefined ? [] : reads(item);
  }
}
