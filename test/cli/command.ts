import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { createFolder } from "../support/folder.js";

export type CommandName = "osnet-convert" | "osnet-verify";

/** How a command ended, and all that it said. */
export interface Finished {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd: string;
  readonly stdin?: Uint8Array;
  /** Of a process of its own. */
  readonly env?: NodeJS.ProcessEnv;
}

const MAINS = {
  "osnet-convert": async () => (await import("../../src/cli/commands/osnet-convert.js")).main,
  "osnet-verify": async () => (await import("../../src/cli/commands/osnet-verify.js")).main,
} as const;

const ROOT = process.cwd();
let previous: Promise<unknown> = Promise.resolve();

/** Runs a command in this process, in a folder: one at a time, as the working folder is the process's. */
export function run(command: CommandName, args: readonly string[], options: RunOptions): Promise<Finished> {
  const finished = previous.then(() => runHere(command, args, options));
  previous = finished.catch(() => undefined);
  return finished;
}

async function runHere(
  command: CommandName,
  args: readonly string[],
  { cwd, stdin = new Uint8Array() }: RunOptions,
): Promise<Finished> {
  const main = await MAINS[command]();
  const stdout: Uint8Array[] = [];
  const stderr: Uint8Array[] = [];
  const into = (chunks: Uint8Array[]) => ({
    write: (chunk: string | Uint8Array) => chunks.push(Buffer.from(chunk)),
  });
  process.chdir(cwd);
  try {
    const status = await main(args, {
      stdin: (async function* () {
        yield stdin;
      })(),
      stdout: into(stdout),
      stderr: into(stderr),
    });
    return { status, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() };
  } finally {
    process.chdir(ROOT);
  }
}

/** Runs a built command as a process of its own, in a folder. */
export async function spawnCommand(
  command: CommandName,
  args: readonly string[],
  options: RunOptions,
): Promise<Finished> {
  const script = fileURLToPath(new URL(`../../dist/bin/${command}.js`, import.meta.url));
  if (!existsSync(script)) throw new Error(`dist/bin/${command}.js is not there: run npm run build first`);
  return runProgram(process.execPath, [script, ...args], options);
}

/** Runs any program, and collects what it says. */
export async function runProgram(
  program: string,
  args: readonly string[],
  { cwd, stdin = new Uint8Array(), env = process.env }: RunOptions,
): Promise<Finished> {
  const child = spawn(program, args, { cwd, env });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  // A command that refuses its arguments never reads its input.
  child.stdin.on("error", () => undefined);
  child.stdin.end(stdin);
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  return { status, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() };
}

/**
 * Runs a command that must refuse: status 2, nothing on standard output, and a folder that holds afterwards exactly
 * what it held before. Gives what standard error says.
 */
export async function refusal(
  command: CommandName,
  args: readonly string[],
  files: Readonly<Record<string, Uint8Array | string>> = {},
): Promise<string> {
  const folder = await createFolder(files);
  try {
    const { status, stdout, stderr } = await run(command, args, { cwd: folder.path });
    expect({ status, stdout: stdout.toString() }, stderr).toEqual({ status: 2, stdout: "" });
    expect(await folder.names()).toEqual(Object.keys(files).sort());
    for (const [name, content] of Object.entries(files))
      expect(Buffer.from(content).equals(await folder.read(name)), `${name} is unchanged`).toBe(true);
    return stderr;
  } finally {
    await folder.remove();
  }
}
