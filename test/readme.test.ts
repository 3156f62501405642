import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

/** What the README shows runs, as written. */
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const README = readFileSync(join(ROOT, "README.md"), "utf8");

function blocks(language: string): string[] {
  return [...README.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, "gm"))].map(
    ([, text = ""]) => text,
  );
}

/** Commands of the console blocks that use bundled files, each with the output that the README shows for it. */
const COMMANDS = blocks("console").flatMap((block) =>
  block
    .split(/^\$ /m)
    .slice(1)
    .map((part) => {
      const [command = "", ...output] = part.trimEnd().split("\n");
      return { command, output: output.join("\n") };
    })
    .filter(({ command }) => command.includes("fixtures/")),
);

/** Rounding differs from one processor to the next: which layer is worst, and by how much. */
function masked(output: string): string {
  return output.replace(/the worst, \S+, uses [\d.e+-]+ %/, "the worst, …, uses … %");
}

describe("README.md", () => {
  const folder = mkdtempSync(join(tmpdir(), "osnet-readme-"));
  beforeAll(() => {
    symlinkSync(join(ROOT, "fixtures"), join(folder, "fixtures"));
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  it("has commands to run", () => {
    expect(COMMANDS.length).toBeGreaterThanOrEqual(3);
  });

  // In order: later commands read what earlier ones wrote.
  it.each(COMMANDS)("$command", ({ command, output }) => {
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

  it.each(blocks("ts").map((text) => [text]))("the library example prints what it says", (text) => {
    // Inside the package, so that it is found by its own name.
    const file = join(ROOT, "demo", "readme-example.mjs");
    writeFileSync(file, text);
    try {
      const expected = [...text.matchAll(/console\.log\(.*\); \/\/ (.*)$/gm)]
        .map(([, comment]) => comment)
        .join("\n");
      expect(execFileSync(process.execPath, [file], { cwd: ROOT, encoding: "utf8" }).trimEnd()).toBe(
        expected,
      );
    } finally {
      rmSync(file);
    }
  });
});
