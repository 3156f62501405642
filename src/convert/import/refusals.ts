import { InputError } from "../../core/errors.js";
import { type ForeignGraph, isKind } from "./foreign.js";

/** Graphs that are no OSNet, and what they are like. */

export function notAnOsnet({ census, nodes }: ForeignGraph, subject: string): InputError {
  const count = (opType: string): number => census.get(opType) ?? 0;
  const quantised = ["QLinearConv", "ConvInteger", "MatMulInteger"].filter((opType) => count(opType) > 0);
  if (count("ReorderInput") > 0 || count("ReorderOutput") > 0)
    return new InputError({
      code: "unsupported",
      subject,
      found: `a network in onnxruntime's NCHWc layout, optimised for one kind of processor (${count("ReorderInput") + count("ReorderOutput")} reorderings, ${count("Conv")} Conv)`,
      expected: "operators on NCHW or NHWC",
      remedy: 'save the optimised model at level "extended", or give the one that it was made from',
    });
  const list = ["Conv", ...quantised, "Sigmoid", "MatMul"].filter(
    (type) => type !== "MatMul" || count(type) > 0,
  );
  const gates = nodes.filter((node) => isKind(node, "scale")).length;
  const undecided = count("If");
  return new InputError({
    code: "unsupported",
    subject,
    found: `${quantised.length > 0 ? "a quantised network" : "another network"} of ${list.map((type) => `${count(type)} ${type}`).join(", ")} and ${gates} gated values${undecided > 0 ? `, with ${undecided} If that choose while it runs` : ""}`,
    expected: "an OSNet, whose six blocks of T streams have 6 × T gates (osnet_x1_0: 187 Conv, 24 Sigmoid)",
    remedy:
      quantised.length > 0
        ? "give the float model that it was made from"
        : undecided > 0
          ? "export it for images, and a batch, of one size"
          : "give a model of an OSNet",
  });
}

export function noResult({ outputs }: ForeignGraph, subject: string): InputError {
  return new InputError({
    code: "unsupported",
    subject,
    found: `outputs ${outputs.map(({ name }) => name).join(", ")}, none of them a layer of the network`,
    expected: "an embedding or logits among them",
    remedy: "export the model with its embedding as the output",
  });
}

/** A graph that no runtime would run. */
export function malformed(subject: string, found: string, expected: string): InputError {
  return new InputError({ code: "format", subject, found, expected, remedy: "export the model again" });
}
