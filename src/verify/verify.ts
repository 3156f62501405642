import { ancestors, type LayerGraph, type LayerNode, type ParameterRole } from "../arch/index.js";
import { isModelFormat } from "../convert/formats/registry.js";
import { ANOMALIES, isUntrained } from "../convert/inspect/anomalies.js";
import type { Checkpoint } from "../convert/open/checkpoint.js";
import type { NamedBytes } from "../core/bytes.js";
import { InputError } from "../core/errors.js";
import type { StateDict } from "../core/tensor.js";
import { toReal } from "../core/tensor-cast.js";
import { plural, someOf } from "../core/text.js";
import { referenceBackend } from "./backends/references.js";
import {
  type Candidate,
  makesImages,
  recordedCandidate,
  type Side,
  usualTolerance,
  type Verification,
} from "./candidate/candidate.js";
import { type Comparison, compareLayers } from "./judge/compare-layers.js";
import { findFaults, mergeFaults } from "./judge/find-faults.js";
import { faultOnOtherImages } from "./judge/other-images.js";
import { keptLoaded } from "./judge/reruns.js";
import { endThreads } from "./judge/threads.js";
import { openVerification } from "./open.js";
import { type Fault, faultName, holds, type ParityReport } from "./outcome/report.js";
import { openProof, unreadCode } from "./proof/index.js";
import type { Located } from "./weights/located.js";

/**
 * Compares a candidate with a reference, layer by layer and gate by gate. A difference is a result, never an exception.
 *
 * Every layer that the candidate's results depend on must be found on both sides by exact name. A recording, which may
 * have fewer, determines what is compared, and the report says how much that was.
 *
 * @throws InputError if a side cannot run on the images
 */
export async function verify(verification: Verification): Promise<ParityReport> {
  const { candidate } = verification;
  const kept = candidate.program && keptLoaded(candidate.program);
  try {
    return await judged(
      kept ? { ...verification, candidate: { ...candidate, program: kept.program } } : verification,
    );
  } finally {
    await kept?.close();
    await candidate.backend.close?.();
    await endThreads(verification.threads);
  }
}

async function judged(verification: Verification): Promise<ParityReport> {
  const { graph, candidate, reference, images, weights } = verification;
  const tolerance = verification.tolerance ?? usualTolerance(verification);
  const expected = expectedLayers(graph, candidate, reference);
  const wanted = expected.filter(({ name }) => !candidate.folded.has(name));
  const proving = openProof(verification);
  const compared = await compareLayers(verification, tolerance, wanted, proving.prepare).catch(
    (cause: unknown) => {
      const reason = reasonNotToRun(cause, candidate);
      if (reason === undefined) throw cause;
      return { ...NOTHING_RUN, reason };
    },
  );
  const { layers, gates, vacuity } = compared;
  const { output, further, notJudged, quantization } = compared.outputs;
  const { faults: found, missing } =
    "reason" in compared
      ? { faults: knownFaults(candidate), missing: [] }
      : findFaults(verification, tolerance, wanted, compared);
  const others = tolerance.rule === "relative-to-max" ? await recordedOtherwise(verification, found) : [];
  const runtime = candidate.backend.facts?.();
  const faults = mergeFaults(graph, others.length > 0 ? others : found, compared.explanations);
  const verdict = {
    faults,
    layers: graph.nodes.flatMap(({ name }) => layers.get(name) ?? []),
    gates: graph.gates.flatMap(({ layer }) => gates.get(layer) ?? []),
    output,
  };
  const report: ParityReport = {
    schema: "osnet-parity/1",
    candidate: candidate.party,
    reference: reference.party,
    backend: candidate.backend.name,
    ...(runtime ? { runtime } : {}),
    tolerance,
    input: {
      source: verification.imagesSource,
      shape: images.shape,
      ...(candidate.pixels ? { pixels: candidate.pixels } : {}),
    },
    passed: holds(verdict),
    ...verdict,
    ...(further.length > 0 ? { furtherOutputs: further } : {}),
    ...(notJudged.length > 0 ? { notJudged } : {}),
    weights: weights?.result ?? null,
    vacuity,
    ...(quantization ? { quantization } : {}),
    coverage: {
      expected: expected.length,
      compared: layers.size,
      folded: expected.filter(({ name }) => candidate.folded.has(name)).map(({ name }) => name),
      missing: missing.map(({ name }) => name),
    },
  };
  const warnings = [
    ...("reason" in compared ? [`no value was compared: found ${compared.reason}`] : []),
    ...(verification.unread ?? []).map(unreadCode),
    ...(verification.parameters && isUntrained(graph, verification.parameters)
      ? [ANOMALIES.untrained.explanation]
      : []),
    ...unjudgedParameters(verification),
  ];
  const proof = proving.of(report);
  if (proof.status !== "proven" && isOfOneColour(images)) warnings.push(ONE_COLOUR);
  const all = { ...report, ...(warnings.length > 0 ? { warnings } : {}) };
  const fault =
    report.passed && proof.status !== "proven" && report.output && verification.parameters
      ? await faultOnOtherImages(verification, report.output)
      : undefined;
  if (!fault) return { ...all, proof };
  const failed = { ...all, passed: false, faults: [fault] };
  return { ...failed, proof: proving.of(failed) };
}

/** The layers to compare, in network order: all that the candidate's results depend on, or those of a recording. */
function expectedLayers(graph: LayerGraph, candidate: Candidate, reference: Side): readonly LayerNode[] {
  const recorded = [reference, candidate].find(({ backend }) => backend.name === "recorded");
  const needed = ancestors(graph, ...candidate.results);
  // A recording may have layers that a model lacks, such as the probabilities of an attribute model.
  const isNeeded = (name: string): boolean => candidate.program === undefined || needed.has(name);
  const names = recorded ? new Set(recorded.backend.layers.filter(isNeeded)) : needed;
  const compares = ({ op }: LayerNode): boolean => op.kind !== "input" || makesImages(candidate);
  const layers = graph.nodes.filter((node) => compares(node) && names.has(node.name));
  if (layers.length === 0)
    throw new InputError({
      code: "tensor",
      subject: (recorded ?? candidate).party.name,
      found: "no layer of the network",
      expected: "layer outputs under torchreid module paths",
      remedy: "record them with python/record_activations.py",
    });
  return layers;
}

/** Of two checkpoints, the layers that differ but have no part in the results: the classifier of an embedding. */
function unjudgedParameters({ graph, candidate, parameters }: Verification): readonly string[] {
  const { located, results } = candidate;
  if (!located?.isExact || !parameters) return [];
  const needed = ancestors(graph, ...results);
  const others = graph.nodes.filter((node) => !needed.has(node.name) && differs(node, located, parameters));
  const names = others.map(({ name }) => name);
  return names.length > 0
    ? [
        `${someOf(names)}: the parameters of the two differ, which is not judged, since ${[...new Set(results)].join(" and ")} does not depend on them`,
      ]
    : [];
}

/** Whether a layer's parameters, which both sides have, are different numbers. */
function differs(node: LayerNode, located: Located, parameters: StateDict): boolean {
  const roles = Object.keys(node.parameters) as ParameterRole[];
  return [...located.constants(node, roles)].some(([role, found]) => {
    const wanted = parameters.get(node.parameters[role] ?? "");
    const [a, b] = [found, wanted].map((tensor) => tensor && toReal(tensor, node.name).data);
    return a !== undefined && b !== undefined && !a.every((value, at) => value === b[at]);
  });
}

const ONE_COLOUR =
  "every image has one colour, which tests only the sums of the first convolution's weights; use pictures, or seeded images";

/** Whether each channel of each image has one value. */
function isOfOneColour({ shape, data }: Verification["images"]): boolean {
  const [count = 1, channels = 1] = shape;
  const plane = data.length / count / channels;
  return data.every((value, index) => value === data[index - (index % plane)]);
}

/** The faults of a file that was not run, from its structure and names. */
function knownFaults({ structure = [], deviations = [] }: Candidate): readonly Fault[] {
  return [...structure, ...deviations];
}

/**
 * The reason why a runtime cannot run a candidate that is known to be another network; undefined for other errors.
 */
function reasonNotToRun(cause: unknown, candidate: Candidate): string | undefined {
  if (!(cause instanceof InputError) || knownFaults(candidate).length === 0) return undefined;
  const { code, subject, found } = cause.problem;
  return code === "tensor" && subject === candidate.party.name ? found : undefined;
}

/** The comparison if the candidate cannot be run. */
const NOTHING_RUN: Comparison = {
  layers: new Map(),
  gates: new Map(),
  outputs: { output: null, further: [], quantization: undefined, notJudged: [], faults: [] },
  misshapen: [],
  vacuity: { untested: [], collapsed: [] },
  explanations: new Map(),
};

/** Whether a recording that differs was made with other weights, judged by its own inputs. */
async function recordedOtherwise(
  { graph, candidate, reference, images, imagesSource, ownParameters }: Verification,
  found: readonly Fault[],
): Promise<readonly Fault[]> {
  const isValues = found.length > 0 && found.every(({ kind }) => kind === "numeric" || kind === "missing");
  const parameters =
    isValues && reference.backend.name === "recorded" && candidate.backend.name !== "recorded"
      ? ownParameters?.()
      : undefined;
  if (!parameters) return [];
  // A folded product in the candidate belongs to two layers.
  const layers = reference.backend.layers.filter((name) => !candidate.folded.has(name));
  const recording = { backend: { ...reference.backend, layers } };
  const { faults } = await judged({
    graph,
    candidate: recordedCandidate(recording, reference.party),
    reference: { party: candidate.party, backend: referenceBackend(graph, parameters) },
    images,
    imagesSource,
    parameters,
  });
  const [first, ...others] = faults;
  return first?.kind === "weights" && others.length === 0 ? [first] : [];
}

/** A model whose weights were imported. */
export interface LiftedSource extends NamedBytes {
  /** The imported weights. */
  readonly checkpoint: Checkpoint;
  /** Whether a runtime can load it. Default true. */
  readonly isRunnable?: boolean;
}

interface LiftedOptions extends Pick<Verification, "onProgress"> {
  /** Whether the conversion drops outputs beyond the network's own, so that they need not agree. */
  readonly dropExtra?: boolean;
}

/**
 * Runs a model whose weights were imported, and compares it with the network of these weights, layer by layer.
 * Undefined if there is nothing to run, it does not run, or it is quantised and therefore computes something else.
 *
 * @throws InputError (`unsupported`) if the two do not agree: then the model was misread, or is broken
 */
export async function verifyLifted(
  { isRunnable = true, checkpoint, ...model }: LiftedSource,
  { dropExtra = false, onProgress }: LiftedOptions = {},
): Promise<ParityReport | undefined> {
  if (!isModelFormat(checkpoint.decoded.format) || !isRunnable) return undefined;
  const verification = await openVerification(model, { ...model, checkpoint }, { inputOrder: "own" });
  const report = await verify({ ...verification, ...(onProgress ? { onProgress } : {}) });
  if (report.passed) return report;
  // Graphs that differ from their network were refused before, so that the remaining faults are at outputs,
  // which the user drops.
  if (dropExtra && report.faults.every(({ kind }) => kind === "structure")) return undefined;
  // Quantised activations are rounded, which weights do not show: a run only shows that the structure is
  // right.
  const isQuantised = (report.weights?.quantised ?? 0) > 0;
  const quantiser = verification.candidate.located?.match?.quantised?.layer;
  const isOfRounding = ({ kind, layer }: Fault): boolean =>
    kind === "numeric" || kind === "weights" || (kind === "structure" && layer === quantiser);
  if (isQuantised && report.faults.every(isOfRounding)) return undefined;
  throw new InputError({
    code: "unsupported",
    subject: model.name,
    found: `${plural(report.faults.length, "fault")} when compared with the network read from its graph`,
    expected: "a model that computes what its graph says",
    remedy: "verify it against the checkpoint it came from, or skip this check with --no-verify",
    details: report.faults.map((fault) => `${faultName(fault)}: ${fault.explanation}`),
  });
}
