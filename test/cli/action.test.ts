import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { type Folder, temporaryFolder } from "../support/folder.js";
import { mutant, SUITE, SUITE_FILES } from "../support/suite-files.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

describe("the GitHub Action", () => {
  const action = parse(readFileSync(`${ROOT}/action.yml`, "utf8"));

  const ARTIFACT = "https://github.com/o/r/actions/runs/1/artifacts/2";

  /** Runs the action's shell steps as a runner does: expressions become variables, files take outputs and summary. */
  async function runAction(folder: Folder, inputs: Readonly<Record<string, string>>) {
    await writeFile(folder.at("summary.md"), "");
    await writeFile(folder.at("output.txt"), "");
    const outputs: Record<string, string> = {};
    const value = (text: string): string =>
      text
        .replace(/\$\{\{ github\.action_path \}\}/, () => inputs.ACTION_PATH ?? ROOT)
        .replace(/\$\{\{ (inputs|steps\.\w+\.outputs)\.([\w-]+) \}\}/g, (_, scope, name) =>
          scope === "inputs" ? (inputs[name] ?? action.inputs[name].default) : (outputs[name] ?? ""),
        );
    let stdout = "";
    let status: number | null = 0;
    for (const step of action.runs.steps) {
      // The runner's own part: what it uploads has an address afterwards.
      if (step.id === "upload") outputs["artifact-url"] = ARTIFACT;
      if (!step.run) continue;
      expect(step.run).not.toContain("${{");
      const env = Object.fromEntries(
        Object.entries(step.env as Record<string, string>).map(([key, text]) => [key, value(text)]),
      );
      const done = spawnSync(
        "bash",
        ["--noprofile", "--norc", "-eo", "pipefail", "-c", `exec 2>&1\n${step.run}`],
        {
          cwd: folder.path,
          encoding: "utf8",
          env: {
            PATH: process.env.PATH ?? "",
            GITHUB_STEP_SUMMARY: folder.at("summary.md"),
            GITHUB_OUTPUT: folder.at("output.txt"),
            ...env,
          },
        },
      );
      stdout += done.stdout + done.stderr;
      status = done.status;
      for (const [, key = "", text = ""] of readFileSync(folder.at("output.txt"), "utf8").matchAll(
        /^(\w+)=(.*)$/gm,
      ))
        outputs[key] = text;
    }
    return { status, stdout, summary: readFileSync(folder.at("summary.md"), "utf8") };
  }
  const command = `${process.execPath} ${ROOT}/dist/bin/osnet-verify.js`;

  it("says what could not be used, or not be started, and never that parity does not hold", async () => {
    const folder = await temporaryFolder({ "w.pth": "no checkpoint" });
    // The default is the action's own checkout.
    const unusable = await runAction(folder, { model: "missing.onnx", reference: "w.pth" });
    expect(unusable.status).toBe(2);
    expect(unusable.stdout).toMatch(/^::error title=osnet-parity::.*no such file/m);
    expect(unusable.summary).toContain("Nothing was verified");
    for (const inputs of [{ command: "false" }, { ACTION_PATH: folder.at("nowhere") }]) {
      const broken = await runAction(folder, { model: "m.onnx", reference: "w.pth", ...inputs });
      expect(broken.status, broken.stdout).toBe(2);
      expect(broken.stdout).toMatch(/^::error title=osnet-parity::/m);
    }
  });

  it("fails on a mutant, annotates its fault and writes the summary", async () => {
    const folder = await temporaryFolder({ ...SUITE_FILES, "bad model.onnx": mutant() });
    const { status, stdout, summary } = await runAction(folder, {
      command,
      model: "bad model.onnx",
      reference: "w.pth",
    });
    expect(status, stdout).toBe(1);
    expect(stdout).toMatch(/^::error file=bad model\.onnx,title=osnet\/\w+::conv2\.0\.gate\[1–3\]\.fc2/m);
    expect(summary.startsWith("## ❌ Parity does not hold: `bad model.onnx`")).toBe(true);
    expect(summary).toContain(`\n[All reports, the HTML page among them](${ARTIFACT})\n`);
    expect((await folder.names()).includes("osnet-parity")).toBe(true);
  });

  it("runs a suite, and says 2 where there is nothing to use", async () => {
    const folder = await temporaryFolder({ ...SUITE_FILES, "s.yaml": SUITE.replace(/ {2}shipped.*\n/, "") });
    const good = await runAction(folder, { command, suite: "s.yaml" });
    expect([good.status, good.summary.split("\n")[0]]).toEqual([0, "## ✅ Parity holds: small"]);
    const bad = await runAction(folder, { command, model: "$(touch owned)", reference: "; touch owned" });
    expect(bad.status).toBe(2);
    expect(await folder.names()).not.toContain("owned");
    const named = await runAction(folder, { command, model: "::error::owned", reference: "w.pth" });
    const [, token] = /^::stop-commands::(\S+)$/m.exec(named.stdout) ?? [];
    const heard = named.stdout.split(new RegExp(`^::(?:stop-commands::)?${token}(?:::)?$`, "m"));
    expect(heard).toHaveLength(3);
    expect(heard[1]).toMatch(/^\\u003a:error::owned: no such file/m);
    expect(`${heard[0]}${heard[2]}`).not.toMatch(/^::error::/m);
  });
});
