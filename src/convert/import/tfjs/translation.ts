import { add, type Draft } from "./draft.js";

/** Where an operator of a model, or a layer of its, is written: what it reads, and the name of its result. */
export interface Site {
  readonly draft: Draft;
  readonly inputs: readonly string[];
  readonly output: string;
}

/** Writes an operator, and gives the name of its result; undefined if it is used in a way that has no meaning here. */
export type Translation<S extends Site> = (site: S) => string | undefined;

/** An operator that ONNX has too, on the same inputs. */
export function same(opType: string): Translation<Site> {
  return ({ draft, inputs, output }) => add(draft, opType, inputs, output);
}

/** Writes an operator; one that no translation knows keeps its own name, in a domain of which no operator is known. */
export function translate<S extends Site>(
  translations: Readonly<Record<string, Translation<S>>>,
  name: string,
  site: S,
  domain: string,
): void {
  const write = Object.hasOwn(translations, name) ? translations[name] : undefined;
  if (write?.(site) === undefined) add(site.draft, name, site.inputs, site.output, {}, domain);
}
