import { fileURLToPath } from "node:url";
import {
  API,
  type Checker,
  type Symbol as Declared,
  ObjectFlags,
  SignatureKind,
  SymbolFlags,
  type Type,
  type TypeReference,
} from "typescript/unstable/sync";
import { describe, expect, it } from "vitest";
import manifest from "../package.json" with { type: "json" };
import { temporaryFolder } from "./support/folder.js";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Words that add nothing to a name: "The shape." is no docstring of `shape`. */
const FILLERS = new Set(["a", "an", "the", "of", "its", "this", "is", "in", "for", "to"]);

/** Whether a docstring says what its name does not. */
function says(doc: string, name: string): boolean {
  const words = (text: string): readonly string[] =>
    text
      .replaceAll(/([a-z0-9])([A-Z])/g, "$1 $2")
      .toLowerCase()
      .split(/[^\p{L}\p{N}\p{S}]+/u)
      .filter((word) => word !== "" && !FILLERS.has(word));
  const named = new Set(words(name).flatMap((word) => [word, `${word}s`, word.replace(/s$/, "")]));
  return words(doc).some((word) => !named.has(word));
}

/**
 * What a user of a module sees of one folder of sources: its exports, their members, and the named types in their signatures.
 * Members of object types without a name belong to what they stand in, and are described there.
 */
class Surface {
  readonly #checker: Checker;
  readonly #folder: string;
  readonly #seen = new Set<string>();
  /** Every name that was looked at, `Interface.member` for members, with its docstring. */
  readonly docs = new Map<string, string>();

  constructor(checker: Checker, folder: string) {
    this.#checker = checker;
    this.#folder = folder.toLowerCase();
  }

  visit(symbol: Declared, owner?: string): void {
    if (this.#knows(`symbol ${symbol.id}`) || !this.#isHere(symbol)) return;
    // Members that have no name (call signatures, indices) and type parameters are described by what has them.
    if (symbol.name.startsWith("__") || symbol.flags & SymbolFlags.TypeParameter) return;
    const name = owner === undefined ? symbol.name : `${owner}.${symbol.name}`;
    this.docs.set(name, symbol.getDocumentationComment(this.#checker));
    if (symbol.flags & (SymbolFlags.Interface | SymbolFlags.Class | SymbolFlags.TypeAlias)) {
      for (const member of symbol.getMembers().values()) this.visit(member, symbol.name);
      this.#visitType(this.#checker.getDeclaredTypeOfSymbol(symbol), symbol);
    } else this.#visitType(this.#checker.getTypeOfSymbol(symbol));
  }

  /** Whether it was asked for before. */
  #knows(key: string): boolean {
    const isKnown = this.#seen.has(key);
    this.#seen.add(key);
    return isKnown;
  }

  #isHere({ declarations }: Declared): boolean {
    return declarations.some(({ path }) => path.toLowerCase().includes(this.#folder));
  }

  /** @param of what the type declares, if it is not only used */
  #visitType(type: Type | undefined, of?: Declared): void {
    if (!type || this.#knows(`type ${type.id} ${of?.id ?? ""}`)) return;
    const symbol = type.getAliasSymbol() ?? type.getSymbol();
    if (symbol && symbol.id !== of?.id && !symbol.name.startsWith("__")) this.visit(symbol);
    else if (symbol && (of || this.#isHere(symbol)))
      for (const member of this.#checker.getPropertiesOfType(type))
        this.#visitType(this.#checker.getTypeOfSymbol(member));
    const parts = type.isUnionType() || type.isIntersectionType() ? type.getTypes() : [];
    for (const part of [...parts, ...type.getAliasTypeArguments(), ...this.#argumentsOf(type)])
      this.#visitType(part);
    for (const kind of [SignatureKind.Call, SignatureKind.Construct])
      for (const signature of this.#checker.getSignaturesOfType(type, kind)) {
        for (const parameter of signature.getParameters())
          this.#visitType(this.#checker.getTypeOfSymbol(parameter));
        this.#visitType(this.#checker.getReturnTypeOfSignature(signature));
      }
  }

  #argumentsOf(type: Type): readonly Type[] {
    const isReference = type.isObjectType() && (type.objectFlags & ObjectFlags.Reference) !== 0;
    return isReference ? this.#checker.getTypeArguments(type as TypeReference) : [];
  }
}

/** The docstring of everything that users see of modules: `read` gives the sources' names from the folder of the project. */
function docsOf(config: string, modules: readonly string[], folder: string): ReadonlyMap<string, string> {
  const api = new API({ cwd: ROOT });
  try {
    const project = api.updateSnapshot({ openProject: config }).getProject(config);
    if (!project) throw new Error(`no project ${config}`);
    const { checker, program } = project;
    const surface = new Surface(checker, folder);
    for (const path of modules) {
      const source = program.getSourceFile(path);
      const module = source && checker.getSymbolAtLocation(source);
      if (!module) throw new Error(`no module ${path}`);
      for (const symbol of checker.getExportsOfModule(module))
        surface.visit(symbol.flags & SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol);
    }
    return surface.docs;
  } finally {
    api.close();
  }
}

const undocumented = (docs: ReadonlyMap<string, string>): readonly string[] =>
  [...docs].flatMap(([name, doc]) => (says(doc, name.replace(/^.*\./, "")) ? [] : [name]));

describe("docstrings", () => {
  it("are on every export of the package, its members, and the types in its signatures", () => {
    const modules = Object.values(manifest.exports).flatMap((entry) =>
      typeof entry === "string" ? [] : [entry.types.replace("./dist/", ROOT).replace(/\.d\.ts$/, ".ts")],
    );
    expect(modules.length).toBeGreaterThan(3);
    const docs = docsOf(`${ROOT}tsconfig.build.json`, modules, `${ROOT}src/`);
    // Of functions, of interfaces, of types that only signatures name.
    for (const name of ["verify", "ParityReport.faults", "Vacuity.untested", "StripProduct.depth"])
      expect(docs.has(name), name).toBe(true);
    expect(undocumented(docs)).toEqual([]);
  });

  it("are missed where they are missing, and where they say no more than the name", async () => {
    const folder = await temporaryFolder({
      "tsconfig.json": JSON.stringify({ files: ["index.ts"] }),
      "index.ts": `export { double } from "./inner.js";`,
      "inner.ts": `
        /** A shape and its dtype. */ export interface Inner {
          /** The shape. */
          readonly shape: number[];
        }
        export interface Used {
          readonly none: number;
          /** In seconds. */
          readonly time: number;
        }
        export type Pair = readonly [Used, string];
        /** Neither exported nor used. */ interface Hidden { readonly none: number; }
        /** Makes two of one. */ export function double(of: { readonly pair?: Pair }): Promise<Inner | undefined>;`,
    });
    const docs = docsOf(folder.at("tsconfig.json"), [folder.at("index.ts")], folder.at(""));
    expect([...docs.keys()].sort()).toEqual(
      ["double", "Inner", "Inner.shape", "Pair", "Used", "Used.none", "Used.time"].sort(),
    );
    expect(undocumented(docs)).toEqual(["Pair", "Used", "Used.none", "Inner.shape"]);
  });
});
