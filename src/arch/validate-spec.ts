import { InputError } from "../errors.js";
import type { OsnetSpec } from "./spec.js";

/**
 * A block of T streams has T(T+1)/2 light convolutions, and expands to several layers for each. osnet_x1_0 has 60 of
 * them; a few bytes of a hostile spec could ask for billions.
 */
const MAX_CONVOLUTIONS = 10_000;

/**
 * Checks that a network can follow a spec: whole positive widths, blocks that join up, bottlenecks and gates that keep
 * at least one channel.
 *
 * @throws InputError (`spec`) that lists every problem.
 */
export function validateSpec(spec: OsnetSpec): void {
  const problems = specProblems(spec);
  const [first] = problems;
  if (first === undefined) return;
  throw new InputError({
    code: "spec",
    subject: "architecture description",
    found: problems.length === 1 ? first : `${problems.length} values no network can have`,
    expected: "an OSNet spec that expands",
    remedy: "correct the values named",
    details: problems.length === 1 ? [] : problems,
  });
}

function specProblems(spec: OsnetSpec): string[] {
  const problems: string[] = [];
  const positive = (name: string, value: number): void => {
    if (!Number.isSafeInteger(value) || value < 1)
      problems.push(`${name} ${value}, not a whole number above 0`);
  };
  positive("stem.channels", spec.stem.channels);
  positive("gate.reduction", spec.gate.reduction);
  for (const width of spec.embedding) positive("embedding width", width);
  if (spec.head) positive("head.classes", spec.head.classes);
  if (spec.stages.length === 0) problems.push("no stages");
  const convolutions = spec.stages
    .flatMap(({ blocks }) => blocks)
    .reduce((count, { streams }) => count + (streams * (streams + 1)) / 2, 0);
  if (!(convolutions <= MAX_CONVOLUTIONS))
    problems.push(`${convolutions} convolutions in all streams, above ${MAX_CONVOLUTIONS}`);
  let channels = spec.stem.channels;
  spec.stages.forEach((stage, stageIndex) => {
    const stageName = `stages[${stageIndex}]`;
    if (stage.blocks.length === 0) problems.push(`${stageName} without blocks`);
    stage.blocks.forEach((block, blockIndex) => {
      const name = `${stageName}.blocks[${blockIndex}]`;
      positive(`${name}.outChannels`, block.outChannels);
      positive(`${name}.reduction`, block.reduction);
      positive(`${name}.streams`, block.streams);
      if (spec.dialect === "osnet" && block.streams > 26)
        problems.push(
          `${name}.streams ${block.streams}, but the osnet dialect names streams by letters a to z`,
        );
      if (block.inChannels !== channels)
        problems.push(`${name}.inChannels ${block.inChannels} after a layer of ${channels} channels`);
      const hidden = Math.floor(Math.floor(block.outChannels / block.reduction) / spec.gate.reduction);
      if (hidden < 1)
        problems.push(`${name} whose gate has no hidden unit (outChannels / reduction / gate.reduction < 1)`);
      channels = block.outChannels;
    });
  });
  return problems;
}
