import type { Candidate } from "./candidate/candidate.js";
import type { Fault, Proof, WeightsResult } from "./report.js";

/**
 * Whether agreement was proven, or seen on some images. It is proven where the candidate's graph is the network's by the
 * meaning of its operators, and its constants are the checkpoint's: then both compute one function in exact arithmetic,
 * whatever the images, and what the run shows is the runtime's rounding.
 *
 * @param images how many the run had
 */
export function proofOf(
  { isMatched, backend }: Pick<Candidate, "isMatched" | "backend">,
  weights: WeightsResult | undefined,
  faults: readonly Fault[],
  images: number,
): Proof {
  const broken = faults.some(({ kind }) => kind !== "numeric");
  const lacking = [
    ...(isMatched ? [] : [UNMATCHED[backend.name] ?? "the candidate's graph was not walked"]),
    ...(weights ? [] : ["there were no constants to compare with a checkpoint's"]),
    ...(weights ? unequal(weights) : []),
    ...(broken ? ["the structure or the weights have faults"] : []),
  ];
  if (lacking.length > 0) return { status: "sampled", grounds: lacking, images };
  const folded = weights?.folded ?? 0;
  return {
    status: "proven",
    grounds: [
      "every operator of the graph is the network's, by what it means and where its values come from",
      `all ${weights?.compared} constants are the checkpoint's, bit for bit${folded > 0 ? ` or to the rounding of folding ${folded} batch norms` : ""}`,
      "the images test that the runtime computes them as they are defined",
    ],
    images,
  };
}

function unequal({ compared, identical, rounded = 0, quantised = 0 }: WeightsResult): readonly string[] {
  const narrow = rounded + quantised;
  const other = compared - identical - narrow;
  return [
    ...(other > 0 ? [`${other} of ${compared} constants are not the checkpoint's`] : []),
    ...(narrow > 0 ? [`${narrow} of ${compared} constants are in fewer bits than the checkpoint's`] : []),
  ];
}

const UNMATCHED: Readonly<Record<string, string>> = {
  recorded: "a recording has values and no graph",
  reference: "a checkpoint has no graph of its own",
  onnxruntime: "the file's graph was not found to be the network's, operator by operator",
};
