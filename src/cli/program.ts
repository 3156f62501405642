import { Command } from "commander";
import { badArgument } from "./options.js";
import { type Io, printableIo } from "./terminal.js";
import { VERSION } from "./versions.js";

/** 0: parity holds, or the file is written. 1: parity does not hold. 2: unusable input. */
export type ExitStatus = 0 | 1 | 2;

/** A command whose help goes to `io`, and which throws what it does not understand. */
export function createProgram(name: string, description: string, io: Io): Command {
  const width = (stream: Io["stdout"]): number => (stream.isTTY && stream.columns) || 80;
  return new Command(name)
    .description(description)
    .version(VERSION)
    .configureOutput({
      writeOut: (text) => void io.stdout.write(text),
      writeErr: (text) => void io.stderr.write(text),
      outputError() {},
      getOutHelpWidth: () => width(io.stdout),
      getErrHelpWidth: () => width(io.stderr),
      getOutHasColors: () => io.stdout.isTTY ?? false,
      getErrHasColors: () => io.stderr.isTTY ?? false,
    })
    .exitOverride()
    .hook("preSubcommand", (program, command) => {
      const given = program.options.find(
        (option) => program.getOptionValueSource(option.attributeName()) === "cli",
      );
      if (given)
        throw badArgument(
          given.long ?? given.flags,
          `an option before the command ${command.name()}`,
          "its options behind it",
          `write ${command.name()} first`,
        );
    });
}

/**
 * Runs a program on its arguments. An error is one sentence on standard error, with its findings below it.
 *
 * @param define makes the program; its actions pass their exit status to `end`
 */
export async function runProgram(
  define: (io: Io, end: (status: ExitStatus) => void) => Command,
  argv: readonly string[],
  streams: Io,
): Promise<ExitStatus> {
  const io = printableIo(streams);
  let status: ExitStatus = 0;
  let program: Command | undefined;
  try {
    program = define(io, (ended) => {
      status = ended;
    });
    await program.parseAsync(argv, { from: "user" });
    await io.settled?.();
    return status;
  } catch (error) {
    const { describeError, isHelp } = await import("./failure.js");
    if (!isHelp(error)) {
      const command = program?.commands.find((sub) => sub.name() === argv[0]) ?? program;
      io.stderr.write(describeError(error, command));
      return 2;
    }
    const problem = await io.settled?.().catch((cause: unknown) => cause);
    if (problem !== undefined) io.stderr.write(describeError(problem));
    return problem === undefined ? 0 : 2;
  }
}
