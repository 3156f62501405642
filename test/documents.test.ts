import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import manifest from "../package.json" with { type: "json" };
import { readSuiteFile } from "../src/cli/suite/file.js";
import { planSuite } from "../src/verify/suite/plan.js";
import { type CommandName, run } from "./cli/command.js";
import { fixturePath } from "./fixtures.js";
import { text } from "./support/markdown.js";
import { tinyBytes } from "./support/tiny-file.js";

/**
 * What the guides show: every sample is run, compiled or held against what it is about. Those of the README and of
 * docs/library.md print what they say (readme.test.ts); its page is opened in Chromium (test/browser).
 */
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const GUIDES: readonly string[] = readdirSync(join(ROOT, "docs"))
  .filter((name) => name.endsWith(".md"))
  .map((name) => `docs/${name}`);
const DOCUMENTS: readonly string[] = [...GUIDES, "README.md", "CONTRIBUTING.md", "bench/README.md"];

/** Samples that no test runs, by their first line, and why. */
const EXCERPTS: Readonly<Record<string, string>> = {
  "osnet_x0_25.onnx in onnxruntime, against osnet_x0_25.64x32.npz (osnet_x0_25): features":
    "held against what it shortens below",
  "spec (plain JSON)  ──expand──▶  layer graph  ──▶  parameter names and shapes     identify(stateDict) ──▶ spec":
    "a drawing",
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; connect-src 'self'; img-src blob: data:; style-src 'self'; base-uri 'none'; form-action 'none'":
    "held against the page's by test/browser/web.test.ts",
  "Content-Security-Policy: (the policy above); frame-ancestors 'none'": "headers of a server",
};

interface Sample {
  readonly document: string;
  readonly language: string;
  readonly body: string;
}

const samples: readonly Sample[] = DOCUMENTS.flatMap((document) =>
  [...text(document).matchAll(/^```(\w*)\n([\s\S]*?)^```/gm)].map(([, language = "", body = ""]) => ({
    document,
    language,
    body,
  })),
);

/** Commands in blocks, in workflows' steps and between backquotes, a line each and without their comments. */
const commands: readonly (readonly [document: string, command: string])[] = [
  ...samples
    .filter(({ language }) => ["sh", "console", "yaml"].includes(language))
    .flatMap(({ document, body }) =>
      body.split("\n").map((line) => [document, line.replace(/^(\$|\s*- run:|\s*-)\s+/, "").trim()] as const),
    ),
  ...DOCUMENTS.flatMap((document) =>
    [
      ...text(document)
        .replace(/^```[\s\S]*?^```/gm, "")
        .matchAll(/`([^`\n]+)`/g),
    ].map(([, code = ""]) => [document, code] as const),
  ),
].map(([document, command]) => [document, command.replace(/\s+#.*$/, "").replace(/^npx /, "")] as const);

/** Options that a command's help defines. */
const helps = new Map<string, Promise<ReadonlySet<string>>>();
function optionsOf(name: CommandName, words: readonly string[]): Promise<ReadonlySet<string>> {
  const key = [name, ...words].join(" ");
  const known = helps.get(key);
  if (known) return known;
  const found = run(name, [...words, "--help"], { cwd: ROOT }).then(({ status, stdout }) => {
    expect(status, key).toBe(0);
    const lines = stdout
      .toString()
      .split("\n")
      .filter((line) => /^\s+(-\w, )?--/.test(line));
    const flags = lines.flatMap((line) => /^\s+((?:-\w, )?--[a-z0-9-]+)/.exec(line)?.[1]?.split(", ") ?? []);
    const negated = lines.flatMap((line) =>
      [...line.matchAll(/--(?:no-)?[a-z0-9-]+/g)].map(([flag]) => flag),
    );
    return new Set([...flags, ...negated, "--help", "--version"]);
  });
  helps.set(key, found);
  return found;
}

const VERBS =
  /^(inspect|suite|merge|rank|embed|(pth|safetensors|npz|onnx|tfjs)2(pth|safetensors|npz|onnx|tfjs))$/;

describe("the guides", () => {
  const ours = commands.filter(([, command]) => /^osnet-(convert|verify) /.test(command));

  it("show more than a few commands", () => {
    expect(ours.length).toBeGreaterThan(20);
    expect(samples.length).toBeGreaterThan(20);
  });

  it.each(ours)("%s: %s has options that there are", async (_, command) => {
    const [name = "", ...words] = command.match(/"[^"]*"|\S+/g) ?? [];
    const [verb = ""] = words;
    const isVerb = VERBS.test(verb);
    const options = await optionsOf(name as CommandName, isVerb ? [verb] : []);
    // A conversion without a command takes the options of the output that its name says.
    const output = /\.(onnx|tfjs|pth|safetensors|npz)$/.exec(words[words.indexOf("-o") + 1] ?? "")?.[1];
    const all =
      isVerb || output === undefined ? options : await optionsOf(name as CommandName, [`pth2${output}`]);
    const used = words.flatMap((word) => /^-{1,2}[a-z][a-z0-9-]*/.exec(word)?.[0] ?? []);
    expect(used.filter((option) => !options.has(option) && !all.has(option))).toEqual([]);
  });

  it("name scripts that there are", () => {
    const named = commands.flatMap(([document, command]) => {
      const [, script] = /^npm (?:run )?(?:--silent )?([a-z][a-z:]*)/.exec(command) ?? [];
      return script === undefined || /^npm (ci|install|pack|exec|config)\b/.test(command)
        ? []
        : [[document, script]];
    });
    expect(named.length).toBeGreaterThan(10);
    expect(named.filter(([, script]) => !(String(script) in manifest.scripts))).toEqual([]);
  });

  it("run Python files that there are, by options that they have", () => {
    const named = commands.filter(([, command]) => /^python3? \S+\.py/.test(command));
    for (const [document, command] of named) {
      const [, name = "", ...words] = command.split(/\s+/);
      const path = existsSync(join(ROOT, name)) ? name : join("python", name);
      expect(existsSync(join(ROOT, path)), `${document}: ${path}`).toBe(true);
      const source = readFileSync(join(ROOT, path), "utf8");
      for (const option of words.filter((word) => word.startsWith("--")))
        expect(source, `${document}: ${command}`).toContain(`"${option}"`);
    }
  });

  it("have no sample that nothing looks at", () => {
    const kinds = new Set(["sh", "console", "ts", "js", "javascript", "html", "yaml"]);
    const left = samples.filter(
      ({ language, body }) => !kinds.has(language) && EXCERPTS[body.split("\n")[0] ?? ""] === undefined,
    );
    expect(left).toEqual([]);
    const elsewhere = samples.filter(
      ({ document, language }) =>
        ["ts", "js", "javascript", "html"].includes(language) &&
        !["README.md", "docs/library.md"].includes(document),
    );
    expect(elsewhere).toEqual([]);
  });

  it("show workflows whose steps give the action inputs that it has", () => {
    const inputs = Object.keys((parse(text("action.yml")) as { inputs: object }).inputs);
    const steps = samples
      .filter(({ language }) => language === "yaml")
      .flatMap(({ body }) => Object.values((parse(body) as { jobs?: object }).jobs ?? {}))
      .flatMap(({ steps }: { steps: readonly { uses?: string; with?: object }[] }) => steps);
    const ours = steps.filter(({ uses }) => uses?.endsWith("/osnet-convert"));
    expect(ours.length).toBeGreaterThan(0);
    for (const { with: given = {} } of ours)
      expect(Object.keys(given).filter((name) => !inputs.includes(name))).toEqual([]);
  });

  it("show suites that are planned as they say", async () => {
    const suites = samples.filter(({ language, body }) => language === "yaml" && /^models:/m.test(body));
    expect(suites.length).toBeGreaterThan(0);
    const folder = mkdtempSync(join(tmpdir(), "osnet-guides-"));
    try {
      for (const { body } of suites) {
        writeFileSync(join(folder, "s.yaml"), body);
        expect(planSuite(await readSuiteFile(join(folder, "s.yaml")), "s.yaml").length).toBeGreaterThan(3);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("shorten what the demo prints, and change nothing", async () => {
    const folder = mkdtempSync(join(tmpdir(), "osnet-guides-"));
    try {
      const recording = fixturePath("osnet_x0_25.64x32.npz") ?? "";
      const made = [
        "pth2onnx",
        fixturePath("osnet_x0_25.pth") ?? "",
        "-o",
        "osnet_x0_25.onnx",
        "--size",
        "64x32",
      ];
      await run("osnet-convert", [...made, "--no-verify"], { cwd: folder });
      const { stdout } = await run("osnet-verify", ["osnet_x0_25.onnx", "--reference", recording], {
        cwd: folder,
      });
      // Rounding differs from one processor to the next: figures, and which layers are worst.
      const masked = (line: string): string =>
        /^ {2}pass/.test(line) ? "a layer" : line.replace(/\d[\d.e−-]*/g, "#").replace(/\s+/g, " ");
      const printed = stdout.toString().trimEnd().split("\n").map(masked);
      const [shown = ""] = samples.flatMap(({ document, language, body }) =>
        document === "README.md" && language === "text" ? [body.trimEnd()] : [],
      );
      let at = 0;
      for (const line of shown.split("\n").map(masked)) {
        // What is left out ends where the next line is.
        if (line === " …") at = printed.indexOf("", at);
        else expect(printed[at++]).toBe(line);
      }
      expect(at).toBe(printed.length);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("show commands of docs/ci.md that work", async () => {
    const folder = mkdtempSync(join(tmpdir(), "osnet-guides-"));
    try {
      writeFileSync(join(folder, "checkpoint.pth"), tinyBytes("block"));
      writeFileSync(
        join(folder, "parity.yaml"),
        "models: { m: { checkpoint: checkpoint.pth } }\ncandidates: { c: { file: model.onnx } }\ndefaults: { size: 64x32 }\n",
      );
      const shown = samples
        .filter(({ document, language }) => document === "docs/ci.md" && language === "sh")
        .flatMap(({ body }) => body.trim().split("\n"));
      expect(shown).toHaveLength(2);
      const made = ["osnet-convert pth2onnx checkpoint.pth -o model.onnx --size 64x32 --no-verify"];
      for (const command of [...made, ...shown]) {
        const [name, ...args] = command.split(" ");
        const { status, stderr } = await run(name as CommandName, args, { cwd: folder });
        expect([command, status, stderr]).toEqual([command, 0, ""]);
      }
      for (const path of [
        "parity.md",
        "parity.html",
        "parity.xml",
        "parity/suite.sarif",
        "parity/entries/m--c.md",
      ])
        expect(existsSync(join(folder, path)), path).toBe(true);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
