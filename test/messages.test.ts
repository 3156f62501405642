import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAst } from "rolldown/parseAst";
import { describe, expect, it } from "vitest";

/**
 * The catalogue of what users read: every string of the source that is more than a word, where it stands in the code. Messages
 * stand where they are thrown, beside the numbers that they report; this test is what they are reviewed with. `npm run messages`
 * writes the catalogue to messages.txt, to be read as a whole.
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

const files = ["src", "web"].flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(folder, name)),
);
const sources = files.sort().map(readSource);
const messages = sources.flatMap((source) => source.messages);
const thrown = sources.flatMap((source) => source.thrown);

/** Words and phrases that nobody else writes so, each with what to write. */
const FOREIGN: readonly (readonly [RegExp, string])[] = [
  [/\b(ours|theirs|of ours)\b/, "name who or what"],
  [/\b(is|are|was) none\b|\bnone of them\b/, "is not one, is missing"],
  [/\b(tells|told) (of|apart|by)\b/, "reports, distinguishes"],
  [/\bcannot hold\b|\bholds (a|the|all|no) (value|tensor|weights?)\b/, "has, contains, represents"],
  [/\bwas meant\b/, "did you mean …?"],
  [/\bto rounding\b/, "to within rounding"],
  [/\bthe one .* the other\b/, "name both"],
  [/\bgive one( such)?\b/, "use a value such as …"],
  [/\bleave(s)? (it )?out\b/, "omit, drop"],
  [/\bthat it does\b/, "say what failed"],
];

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

  it.each(FOREIGN)("have no %s: %s", (foreign) => {
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
