import type { LayerGraph } from "../../arch/index.js";
import { IMAGE_BOUND } from "../../convert/export/activation-bounds.js";
import { printable } from "../../convert/formats/refusals.js";
import type { Document } from "../../convert/open/open-file.js";
import { once } from "../../core/functions.js";
import type { StateDict } from "../../core/tensor.js";
import type { UnreadCode, Verification } from "../candidate/candidate.js";
import type { ParityReport, Proof } from "../outcome/report.js";
import { allowedZeros } from "../weights/expected.js";
import { readOnnx } from "./onnx.js";
import { constantsOf, type ProofDocument, type Tail } from "./operations.js";
import { type InputForm, prover, type Refusal } from "./prover.js";
import { stepsOf } from "./steps.js";
import { readGraph } from "./tf-graph.js";
import { readLayers } from "./tf-layers.js";

/** The result of the proof: the layer of each output, or why it is unknown. */
export interface Finding {
  readonly outputs: readonly { readonly name: string; readonly layer: string; readonly tail?: string }[];
  readonly input: InputForm;
  readonly constants: { readonly exact: number; readonly folded: number };
  /** Number of weights that the document has as zeros because they have no effect. */
  readonly zeroed: number;
}

/**
 * Whether a document computes layers of the network, with the checkpoint's parameters, for every input: by following
 * each output back to the images, through operators that are known exactly (onnx.ts, tf-graph.ts, tf-layers.ts, steps.ts) and
 * constants that are compared. It shares no code with what finds the layers of a file for comparing their values.
 *
 * @returns what was proven, or a clause that says what was not
 */
export function proveDocument(document: Document, graph: LayerGraph, stateDict: StateDict): Finding | string {
  const forms = new Set<InputForm>();
  const { features, logits, probabilities } = graph.outputs;
  const all = [features, logits, probabilities].filter((layer) => layer !== undefined);
  const constants = constantsOf(graph, stateDict, allowedZeros(graph, stateDict, all));
  const opened = readDocument(document);
  if (typeof opened === "string") return opened;
  const prove = prover(graph, stepsOf(graph, opened, constants, forms));
  const outputs: Finding["outputs"][number][] = [];
  for (const { name, value } of opened.outputs) {
    const found = identify(value, outputs.length === 0, graph, prove, opened.tails(value));
    if (typeof found === "string") return `output ${JSON.stringify(name)}: ${found}`;
    outputs.push({ name, ...found });
  }
  const [input] = forms;
  if (outputs.length === 0 || forms.size !== 1 || !input)
    return "the network reads its images in several forms, or not at all";
  return { outputs, input, constants: constants.compared(), zeroed: constants.zeroed()?.count ?? 0 };
}

/** The operations of a document, or why the proof cannot read it. */
function readDocument({ format, model }: Document): ProofDocument | string {
  if (format === "onnx") return readOnnx(model);
  if (format !== "tfjs") return `the proof does not read ${format} files`;
  return model.format === "graph-model" ? readGraph(model) : readLayers(model, "the model");
}

/** The layer that an output is, or is a function of that the report names: the first one is a result of the network. */
function identify(
  name: string,
  isFirst: boolean,
  { outputs, nodes }: LayerGraph,
  prove: ReturnType<typeof prover>,
  tails: readonly Tail[],
): Omit<Finding["outputs"][number], "name"> | string {
  const results = [outputs.features, outputs.logits, outputs.probabilities].filter(
    (layer) => layer !== undefined,
  );
  const others = isFirst ? [] : nodes.map((node) => node.name).filter((layer) => !results.includes(layer));
  let deepest: Refusal | undefined;
  for (const { value, tail } of [{ value: name, tail: undefined }, ...tails])
    for (const layer of [...results, ...(tail === undefined ? others : [])]) {
      const refusal = prove(value, layer);
      if (!refusal) return { layer, ...(tail === undefined ? {} : { tail }) };
      if (refusal.depth > (deepest?.depth ?? -1)) deepest = refusal;
    }
  return deepest ? `${deepest.why} (at ${deepest.layer})` : "it is not a result of the network";
}

/** A proof that is made once, before the images are compared or after. */
interface OpenProof {
  /** Reads the file now, unless it is known to fail. */
  prepare(): void;
  /**
   * Whether agreement was proven for every input, or seen on the report's images. Only a report that has passed, with every
   * layer judged, can be proven: the kernel says what the file means, and the run that the runtime computes it so.
   */
  of(report: Pick<ParityReport, "passed" | "layers" | "coverage" | "input" | "weights">): Proof;
}

export function openProof(verification: Verification): OpenProof {
  const {
    graph,
    candidate,
    quantized,
    parameters,
    imported,
    referenceProgram,
    unread = [],
    weights,
  } = verification;
  const { document, backend } = candidate;
  const isKnownToFail = (weights?.faults.length ?? 0) > 0 || (candidate.structure?.length ?? 0) > 0;
  // The weights of a model as the reference are imported from operators that nothing proves, and the factors of folded norms are
  // the candidate's own.
  const find =
    document && parameters && !referenceProgram && !quantized && unread.length === 0
      ? once(() => proveDocument(document, graph, imported ?? parameters))
      : undefined;
  return {
    prepare() {
      if (!isKnownToFail) find?.();
    },
    of(report) {
      const images = report.input.shape[0] ?? 0;
      const sampled = (...grounds: readonly string[]): Proof => ({ status: "sampled", grounds, images });
      if (!report.passed) return sampled("the file failed the verification on images");
      const { expected, compared, folded } = report.coverage;
      const isJudged =
        report.layers.every(({ status }) => status === "pass") && compared + folded.length >= expected;
      if (!isJudged) return sampled("not every layer was judged on the images");
      const { compared: all = 0, rounded = 0, quantised = 0 } = report.weights ?? {};
      if (quantized || rounded + quantised > 0)
        return sampled(`${rounded + quantised} of ${all} constants have fewer bits than the checkpoint's`);
      if (!document) return sampled(UNREAD[backend.name] ?? "the candidate is not a model file");
      if (!parameters) return sampled("there is no checkpoint to compare constants with");
      if (referenceProgram)
        return sampled("the reference is a model, which is itself only sampled on images");
      if (!find) return sampled(...unread.map(unreadCode));
      const finding = find();
      if (typeof finding === "string") return sampled(finding);
      const within = finding.zeroed > 0 ? { within: IMAGE_BOUND } : {};
      return { status: "proven", grounds: groundsOf(finding), ...within, images };
    },
  };
}

/** Says that a side is a model pickled whole with custom code, which is not in the file. */
export function unreadCode({ side, classes }: UnreadCode): string {
  const named = classes.slice(0, MAX_CLASSES).map(printable).join(", ");
  const more = classes.length > MAX_CLASSES ? ` and ${classes.length - MAX_CLASSES} more` : "";
  return `the ${side} is a model pickled whole, and the code of ${named}${more} is not in the file: its weights were compared as if they were those of torchreid's network`;
}

/** Maximum number of classes in a sentence. */
const MAX_CLASSES = 8;

function groundsOf({ outputs, input, constants: { exact, folded }, zeroed }: Finding): readonly string[] {
  const named = outputs.map(
    ({ name, layer, tail }) => `${name} is ${layer}${tail === undefined ? "" : `, ${tail}`}`,
  );
  const shown = named.length > 4 ? [...named.slice(0, 4), `and ${named.length - 4} more are layers`] : named;
  const folding =
    folded > 0 ? `, or to within the rounding of folding where a batch norm is folded in (${folded})` : "";
  const zeros =
    zeroed > 0
      ? [
          `${zeroed} of these weights are zeros, which changes any value by less than a thousandth of a rounding error on such images`,
        ]
      : [];
  return [
    `every operator from the images to the outputs is the network's, for ${zeroed > 0 ? `images within ±${IMAGE_BOUND}, normalised` : "every finite input"}: ${shown.join("; ")}`,
    `the images are ${INPUTS[input]}`,
    `all ${exact + folded} constants are the checkpoint's, bit for bit${folding}`,
    ...zeros,
    "the images test that the runtime computes the operators as defined",
  ];
}

const INPUTS: Readonly<Record<InputForm, string>> = {
  normalised: "normalised RGB, as torchreid's transform produces them",
  rgb: "RGB pixels of 0 to 255, which the file normalises as torchreid does",
  bgr: "BGR pixels of 0 to 255, which the file normalises as torchreid does",
};

const UNREAD: Readonly<Record<string, string>> = {
  recorded: "a recording has values and no operators",
  reference: "a checkpoint has no operators of its own",
};
