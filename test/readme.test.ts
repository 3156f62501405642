import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { transformWithOxc } from "vite";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type CommandName, run } from "./cli/command.js";
import { blocks } from "./support/markdown.js";
import { pictureSet } from "./support/picture-set.js";

/** What the README and the guides show runs, as written. */
const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Each document, and how many commands it has at the least. */
const DOCUMENTS = [
  ["README.md", 3],
  ["docs/library.md", 1],
] as const;

it("TypeScript examples compile under strict, as do the package's declarations", () => {
  // Inside the package, so that it is found by its own name.
  const folder = mkdtempSync(join(ROOT, "demo", "examples-"));
  try {
    const options = {
      strict: true,
      skipLibCheck: false,
      noEmit: true,
      module: "nodenext",
      target: "es2022",
      lib: ["es2023"],
      types: ["node"],
    };
    writeFileSync(
      join(folder, "tsconfig.json"),
      JSON.stringify({ compilerOptions: options, include: ["*.ts"] }),
    );
    for (const [document] of DOCUMENTS)
      blocks(document, "ts").forEach((text, index) => {
        writeFileSync(join(folder, `${document.replace(/\W/g, "-")}-${index}.ts`), text);
      });
    for (const part of ["", "/arch", "/convert", "/verify", "/web"])
      writeFileSync(join(folder, `all${part.slice(1)}.ts`), `export * from "osnet-convert${part}";\n`);
    const { stdout } = spawnSync(join(ROOT, "node_modules/.bin/tsc"), ["-p", folder, "--pretty", "false"], {
      cwd: ROOT,
      encoding: "utf8",
    });
    // TensorFlow.js's own declarations need the DOM's.
    const errors = stdout
      .split("\n")
      .filter((line) => /error TS/.test(line) && !/@(tensorflow|webgpu)\//.test(line));
    expect(errors).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

/** Commands of the console blocks that use bundled files, each with the output that the document shows for it. */
function commandsOf(document: string): readonly { readonly command: string; readonly output: string }[] {
  return blocks(document, "console").flatMap((block) =>
    block
      .split(/^\$ /m)
      .slice(1)
      .map((part) => {
        const [command = "", ...output] = part.trimEnd().split("\n");
        return { command, output: output.join("\n") };
      })
      .filter(({ command }) => command.includes("fixtures/")),
  );
}

/** Rounding differs from one processor to the next: which layer is worst, and by how much. */
function masked(output: string): string {
  return output
    .replace(/the worst, \S+, uses [\d.e+-]+ %/, "the worst, …, uses … %")
    .replace(/is within [\d.e+-]+ of the/, "is within … of the");
}

describe("the documents", () => {
  const folder = mkdtempSync(join(tmpdir(), "osnet-readme-"));
  beforeAll(async () => {
    symlinkSync(join(ROOT, "fixtures"), join(folder, "fixtures"));
    mkdirSync(join(folder, "crops"));
    for (const [path, bytes] of [...(await pictureSet())].slice(0, 10))
      writeFileSync(join(folder, "crops", basename(path)), bytes);
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  describe.each(DOCUMENTS)("%s", (document, least) => {
    it("has commands to run", () => {
      expect(commandsOf(document).length).toBeGreaterThanOrEqual(least);
    });

    // In order: later commands read what earlier ones wrote.
    it.each(commandsOf(document))("$command", async ({ command, output }) => {
      const [name, ...args] = command.split(" ");
      const { status, stdout, stderr } = await run(name as CommandName, args, { cwd: folder });
      expect(stderr).toBe("");
      expect(status).toBe(0);
      if (output) expect(masked(stdout.toString().trimEnd())).toBe(masked(output));
    });
  });

  it("have examples that print what they say, one after the other in one process", async () => {
    // Inside the package, so that it is found by its own name.
    const examples = mkdtempSync(join(ROOT, "demo", "examples-"));
    try {
      const expected: string[] = [];
      const imports: string[] = [];
      for (const [document] of DOCUMENTS)
        for (const [index, text] of blocks(document, "ts").entries()) {
          const name = `${document.replace(/\W/g, "-")}-${index + 1}.mjs`;
          writeFileSync(join(examples, name), (await transformWithOxc(text, "example.ts")).code);
          imports.push(`console.log("${name}"); await import("./${name}");`);
          const said = [...text.matchAll(/console\.log\(.*\); \/\/ (.*)$/gm)];
          expected.push(name, ...said.map(([, comment = ""]) => comment));
        }
      const all = join(examples, "all.mjs");
      writeFileSync(all, imports.join("\n"));
      const printed = execFileSync(process.execPath, [all], { cwd: folder, encoding: "utf8" });
      expect(printed.trimEnd().split("\n")).toEqual(expected);
    } finally {
      rmSync(examples, { recursive: true });
    }
  });
});
