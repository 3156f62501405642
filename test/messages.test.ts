import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAst } from "rolldown/parseAst";
import { describe, expect, it } from "vitest";

/**
 * The catalogue of messages: every string of the source that has more than one word, with its place. `npm run messages` writes
 * it to messages.txt for review. The phrases that are not idiomatic English must not come back, in messages, comments or
 * documents.
 */
const ROOT = fileURLToPath(new URL("..", import.meta.url));

interface Message {
  /** File and line. */
  readonly place: string;
  /** The property or function that the string is given to, such as `found`. */
  readonly role: string;
  /** The text, with code in braces. */
  readonly text: string;
}

/** An `InputError` that is made of an object literal: the names of its parts. */
interface Thrown {
  readonly place: string;
  readonly parts: readonly string[];
}

interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
}

const isNode = (value: unknown): value is Node =>
  typeof value === "object" && value !== null && typeof (value as Node).type === "string";

/** Types, and names of modules, are no messages. */
const SILENT = new Set([
  "ImportDeclaration",
  "ExportAllDeclaration",
  "ExportNamedDeclaration",
  "TSLiteralType",
]);

function readSource(file: string): {
  readonly messages: readonly Message[];
  readonly thrown: readonly Thrown[];
} {
  const source = readFileSync(join(ROOT, file), "utf8");
  const place = ({ start }: Node): string => `${file}:${source.slice(0, start).split("\n").length}`;
  const messages: Message[] = [];
  const thrown: Thrown[] = [];

  const nameOf = (node: unknown): string => {
    if (!isNode(node)) return "";
    if (typeof node.name === "string") return node.name;
    return typeof node.value === "string" ? node.value : nameOf(node.property);
  };
  const textOf = (node: Node): string | undefined => {
    if (node.type === "Literal") return typeof node.value === "string" ? node.value : undefined;
    if (node.type !== "TemplateLiteral") return undefined;
    const [quasis, expressions] = [node.quasis, node.expressions] as [Node[], Node[]];
    return quasis
      .map((quasi, at) => {
        const code = expressions[at];
        const { cooked } = quasi.value as { cooked: string };
        return code ? `${cooked}{${source.slice(code.start, code.end).replace(/\s+/g, " ")}}` : cooked;
      })
      .join("");
  };
  const visit = (value: unknown, role: string): void => {
    if (Array.isArray(value)) for (const one of value) visit(one, role);
    if (!isNode(value)) return;
    if (SILENT.has(value.type) && !isNode(value.declaration)) return;
    const text = textOf(value);
    // Letters and a blank; markup and styles of pages have words of their own.
    if (text !== undefined && /\p{L}.* .*\p{L}/su.test(text) && !/<\w+[ >]|^[⏎\s]*[.*:@].*\{/s.test(text))
      messages.push({ place: place(value), role, text });
    if (value.type === "NewExpression" && nameOf(value.callee) === "InputError") {
      const [object] = value.arguments as Node[];
      const properties = object?.type === "ObjectExpression" ? (object.properties as Node[]) : [];
      if (properties.length > 0 && !properties.some(({ type }) => type === "SpreadElement"))
        thrown.push({ place: place(value), parts: properties.map(({ key }) => nameOf(key)) });
    }
    for (const [key, child] of Object.entries(value)) {
      if (value.type === "Property" && key === "value") visit(child, nameOf(value.key));
      else if (key === "arguments") visit(child, `${nameOf(value.callee)}()`);
      else if (key !== "key") visit(child, role);
    }
  };
  visit(parseAst(source, { lang: "ts" }), "");
  return { messages, thrown };
}

function typescript(folder: string): readonly string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(folder, name));
}

const files = ["src", "web"].flatMap(typescript);
const sources = files.sort().map(readSource);
const messages = sources.flatMap((source) => source.messages);
const thrown = sources.flatMap((source) => source.thrown);

/** Phrases that are not idiomatic English, each with what to write instead. */
const FOREIGN: readonly (readonly [RegExp, string])[] = [
  [/\b(ours|theirs)\b/, "name whose"],
  [/(?<!\bthere )\b(is|are|was) none\b/, "is not one, is missing"],
  [/\bnone such\b|\bsuch a one\b/, "name the noun"],
  [
    /(?<!\bthere )\b(is|are) no (plain )?(?!longer|wider|larger|smaller|more|less|fewer|better|slower|faster|nearer|farther|other|room|need|way)[\w-]+(?= ?[,;.:)]|$)/i,
    "is not a …",
  ],
  [/\b(tells|told) (of|by)\b/, "reports, shows"],
  [/\bheld against\b|\bhold(s|ing)? (it|them|the \w+) against\b/, "compared with"],
  [/\bcannot hold\b|\bholds (a|the|all|no) (value|tensor|weights?)\b/, "has, contains, represents"],
  [/\bto rounding\b/, "to within rounding"],
  [/\bas (it|they) stands?\b/, "unchanged"],
  [/\bwhat messages call\b/, "name of … in messages"],
  [/\bbut for\b/, "except for"],
  [/\bnobody knows\b/, "is unknown"],
  [/\bhonest (\w+ )?(files?|pickles?|pickler|writers?|roundings?|arithmetic)\b/, "correct, ordinary"],
  [/\b(gives?|given) back\b/, "returns, releases"],
  [/\bspelled out\b|\bspells? (it|a|an|the)\b/, "decomposed, written as"],
  [/\bdeparts?\b|\bdepartures?\b/, "differs, difference"],
  [/\bmends?\b/, "fixes"],
  [/\banew\b/, "again"],
  [/\bone after the other\b/, "one after another, in sequence"],
  [/\bhands? (it |them |values? )?on\b/, "passes on"],
  [/\bhanded on\b/, "passed on"],
  [/\bis of other (weights|networks?)\b/, "was made with other …"],
  [/\bfolded into the next\b(?! layer)/, "folded into the next layer"],
  [/\bright models?\b/, "correct models"],
  [/\b(is|are|were) others\b(?! (of|than|in|that)\b)/, "differs"],
  [/\botherwise than\b/, "differently from"],
  [/\btakes? (\w+ ){1,2}for (a|an|what|missing|another)\b/, "treats as, mistakes for"],
  [/\bwhoever\b(?! (can|opened)\b)/, "the first to"],
  [/\bso (read|rewritten|made)\b/, "in this way"],
  [/\b([a-z]{2,}) \1\b/, "not twice"],
];

/** Phrases that are wrong in a message only. */
const IN_MESSAGES: readonly (readonly [RegExp, string])[] = [
  [/\bnone of them\b/, "is missing"],
  [/\bwas meant\b/, "did you mean …?"],
  [/\bthe one .* the other\b/, "name both"],
  [/\bgive one( such)?\b/, "use a value such as …"],
  [/\bleave(s)? (it )?out\b|\bleft out\b/, "omit, drop"],
  [/\bthat it does\b/, "say what failed"],
  [/\bbehind (it|the|a)\b/, "after"],
];

/** Comments and documents, by place and without code. */
const prose: readonly (readonly [place: string, text: string])[] = [
  ...[...files, ...typescript("bench")].flatMap((file) =>
    [...readFileSync(join(ROOT, file), "utf8").matchAll(/\/\*\*?[\s\S]*?\*\/|(?:^\s*\/\/.*\n)+/gm)].map(
      ([comment]) => [file, comment.replace(/^\s*(\/\/|\/?\*+\/?)/gm, "")] as const,
    ),
  ),
  ...[
    ...readdirSync(join(ROOT, "docs"))
      .filter((name) => name.endsWith(".md"))
      .map((name) => `docs/${name}`),
    ...["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md", "python/README.md"],
  ].flatMap((file) =>
    readFileSync(join(ROOT, file), "utf8")
      .replace(/^```[\s\S]*?^```/gm, "")
      .split(/\n\s*\n/)
      .map((paragraph) => [file, paragraph] as const),
  ),
].map(([place, text]) => [place, text.replace(/`[^`]*`|"[^"]*"/g, "…").replace(/\s+/g, " ")] as const);

const list = (found: readonly Message[]): readonly string[] =>
  found.map(({ place, text }) => `${place}: ${text.slice(0, 200)}`);

describe("messages", () => {
  it("are found where they are", () => {
    expect(messages.length).toBeGreaterThan(1500);
    expect(thrown.length).toBeGreaterThan(60);
    if (process.env.WRITE_MESSAGES !== undefined)
      writeFileSync(
        join(ROOT, "messages.txt"),
        messages
          .map(({ place, role, text }) => `${place}\t${role}\t${text.replaceAll("\n", "⏎")}\n`)
          .join(""),
      );
  });

  it.each([...FOREIGN, ...IN_MESSAGES])("have no %s: %s", (foreign) => {
    expect(list(messages.filter(({ text }) => foreign.test(text.replace(/\{[^}]*\}/g, "{}"))))).toEqual([]);
  });

  it("in errors have all their parts", () => {
    const bad = thrown.filter(
      ({ parts }) => !["code", "subject", "found", "remedy"].every((part) => parts.includes(part)),
    );
    expect(bad).toEqual([]);
  });

  it("in errors are parts of a sentence: no capital begins them, and no full stop ends them", () => {
    const parts = messages.filter(({ role }) => /^(found|expected|remedy)$/.test(role));
    expect(parts.length).toBeGreaterThan(150);
    expect(list(parts.filter(({ text }) => /\s$|[.;,]$/.test(text)))).toEqual([]);
    const names = /^(PyTorch|ONNX|TensorFlow|Market|ORT_|OSNet|Node|HEIGHT|INDEX|NaN)/;
    expect(list(parts.filter(({ text }) => /^\p{Lu}/u.test(text) && !names.test(text)))).toEqual([]);
  });
});

describe("comments and documents", () => {
  it("are found", () => {
    expect(prose.length).toBeGreaterThan(3000);
  });

  it.each(FOREIGN)("have no %s: %s", (foreign) => {
    const found = prose.flatMap(([place, text]) => {
      const match = foreign.exec(text);
      return match ? [`${place}: …${text.slice(Math.max(0, match.index - 60), match.index + 60)}…`] : [];
    });
    expect(found).toEqual([]);
  });
});
