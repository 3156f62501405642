import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { blocks } from "./support/markdown.js";

/** What the README and the guides show runs, as written. */
const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Each document, and how many commands it has at the least. */
const DOCUMENTS = [
  ["README.md", 3],
  ["docs/library.md", 1],
] as const;

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
    .replace(/is within [\d.e+-]+ of max/, "is within … of max");
}

describe.each(DOCUMENTS)("%s", (document, least) => {
  const folder = mkdtempSync(join(tmpdir(), "osnet-readme-"));
  beforeAll(() => {
    symlinkSync(join(ROOT, "fixtures"), join(folder, "fixtures"));
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  it("has commands to run", () => {
    expect(commandsOf(document).length).toBeGreaterThanOrEqual(least);
  });

  // In order: later commands read what earlier ones wrote.
  it.each(commandsOf(document))("$command", ({ command, output }) => {
    const [name, ...args] = command.split(" ");
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [join(ROOT, `dist/bin/${name}.js`), ...args],
      {
        cwd: folder,
        encoding: "utf8",
      },
    );
    expect(stderr).toBe("");
    expect(status).toBe(0);
    if (output) expect(masked(stdout.trimEnd())).toBe(masked(output));
  });

  it.each(blocks(document, "ts").map((text, index) => [index + 1, text] as const))(
    "example %i prints what it says",
    (_index, text) => {
      // Inside the package, so that it is found by its own name.
      const file = join(ROOT, "demo", "readme-example.mjs");
      writeFileSync(file, text);
      try {
        const expected = [...text.matchAll(/console\.log\(.*\); \/\/ (.*)$/gm)]
          .map(([, comment]) => comment)
          .join("\n");
        expect(execFileSync(process.execPath, [file], { cwd: folder, encoding: "utf8" }).trimEnd()).toBe(
          expected,
        );
      } finally {
        rmSync(file);
      }
    },
  );
});
