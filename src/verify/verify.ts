import { ancestors, type LayerGraph, type LayerNode, parametersOf } from "../arch/index.js";
import type { PixelOrder } from "../convert/lower/preprocess.js";
import { InputError } from "../errors.js";
import type { StateDict } from "../state-dict.js";
import { formatShape, type RealTensor, sameShape, type Tensor } from "../tensor.js";
import type { FloatDType } from "../tensor-cast.js";
import type { Backend } from "./backend.js";
import type { Explanation } from "./explain/index.js";
import { layerFault, localFaults, numericFaults, outputFaults, withCauses } from "./faults.js";
import { joinByName } from "./join.js";
import { gateResult, judgeLayer, judgeLocally, judgeOutput } from "./judge.js";
import { type LocalJudge, localJudge } from "./local.js";
import { proofOf } from "./proof.js";
import { type QuantizedWeights, quantizationLoss } from "./quantization.js";
import { float64Parameters } from "./reference/index.js";
import type {
  Fault,
  GateResult,
  LayerResult,
  OutputResult,
  ParityReport,
  Party,
  QuantizationResult,
  RelativeTolerance,
  Tolerance,
  WeightsResult,
} from "./report.js";
import { observeVacuity } from "./vacuity.js";

/** What judges where there is no checkpoint to recompute layers with, and nobody chooses: a constant. */
export const DEFAULT_TOLERANCE: RelativeTolerance = { rule: "relative-to-max", value: 1e-4 };

/** `--tolerance auto`. */
export const DERIVED_BOUNDS: Tolerance = { rule: "derived-bounds" };

/** One side of a comparison, ready to run. */
export interface Side {
  readonly party: Party;
  readonly backend: Backend;
}

/** The side under test. */
export interface Candidate extends Side {
  /** The layers that are the model's results: everything they are computed from must be there. */
  readonly results: readonly string[];
  /** Layers that the candidate computes only as part of the next one, because it absorbed a batch norm. */
  readonly folded: ReadonlySet<string>;
  /** Of a model that is fed raw pixels and normalises them itself: their order of channels. */
  readonly pixels?: PixelOrder;
  /** Of a model that normalises its input itself, and is given what becomes the images. */
  readonly preprocess?: {
    readonly description: string;
    /** The images nearest to these that the model can be given: others only if it takes whole numbers. */
    readonly nearest: (images: Tensor<"float32">) => Tensor<"float32">;
  };
  /** How the candidate's graph departs from the network, where its layers were found by structure. */
  readonly structure?: readonly Fault[];
  /** Whether its graph was walked, and every operator found to be the network's by what it means. */
  readonly isMatched?: boolean;
  /** What its weights and values are stored in; default: what its outputs are. */
  readonly precision?: FloatDType;
  /**
   * Runs the model as it is used, without inner values as outputs, and gives its first result under its layer name.
   */
  readonly untapped?: (
    images: Tensor<"float32">,
  ) => Promise<{ readonly name: string; readonly tensor: RealTensor }>;
}

export interface Verification {
  readonly graph: LayerGraph;
  readonly candidate: Candidate;
  readonly reference: Side;
  readonly images: Tensor<"float32">;
  /** Where the images come from, for the report: `seed:0`, a file, `recorded`. */
  readonly imagesSource: string;
  /** Default: derived bounds where `parameters` are given, else `DEFAULT_TOLERANCE`. */
  readonly tolerance?: Tolerance;
  /** The checkpoint, which layers are recomputed with for derived bounds. */
  readonly parameters?: StateDict;
  /** The comparison of parameters, made before. */
  readonly weights?: { readonly result: WeightsResult; readonly faults: readonly Fault[] };
  /**
   * Of a candidate whose weights are stored in fewer bits, on which the reference runs: the network as it was before.
   */
  readonly quantized?: { readonly summary: QuantizedWeights["summary"]; readonly original: Backend };
  /** Called after each layer. */
  readonly onProgress?: (compared: number, total: number) => void;
}

/**
 * Compares a candidate with a reference, layer by layer and gate by gate. A difference is a result, never an exception.
 *
 * Every layer that the candidate's results depend on must be found on both sides by exact name; a recording, which may
 * hold fewer, sets what is compared, and the report says how much that was.
 *
 * @throws InputError if a side cannot run on the images
 */
export async function verify(verification: Verification): Promise<ParityReport> {
  const { graph, candidate, reference, images } = verification;
  const { parameters } = verification;
  const tolerance = verification.tolerance ?? (parameters ? DERIVED_BOUNDS : DEFAULT_TOLERANCE);
  const nodes = new Map(graph.nodes.map((node) => [node.name, node]));
  const gateLayers = new Map(graph.gates.map((gate) => [gate.layer, gate]));
  const reachable = expectedLayers(graph, candidate, reference);
  const wanted = reachable.filter(({ name }) => !candidate.folded.has(name));
  const outputLayer = [graph.outputs.features, graph.outputs[graph.outputs.evaluation]].find((layer) =>
    wanted.some(({ name }) => name === layer),
  );
  const results = new Map<string, LayerResult>();
  const gates = new Map<string, GateResult>();
  const structure: Fault[] = [...(candidate.structure ?? [])];
  let output: OutputResult | null = null;
  let quantization: QuantizationResult | undefined;

  const judge = judgeOf(verification, tolerance);
  const observer = observeVacuity(graph, { images });
  const layers = joinByName(
    reference.backend.run(images),
    candidate.backend.run(images),
    new Set(wanted.map(({ name }) => name)),
  );
  for await (const { name, expected, actual } of layers) {
    const node = nodes.get(name);
    if (!node) continue;
    if (!sameShape(expected.shape, actual.shape)) {
      const shapes = `shape ${formatShape(actual.shape)}, expected ${formatShape(expected.shape)}`;
      structure.push(layerFault(node, "structure", null, shapes));
      continue;
    }
    observer.observe(name, actual);
    const result = judge.judge(node, expected, actual);
    results.set(name, result);
    const gate = gateLayers.get(name);
    if (gate) gates.set(name, gateResult(gate, expected, actual, result));
    if (name === outputLayer) {
      const plain = await candidate.untapped?.(images);
      output = judgeOutput(
        name,
        expected,
        actual,
        plain?.name === name ? plain.tensor : undefined,
        tolerance,
      );
      const { quantized } = verification;
      const loss =
        quantized && (await quantizationLoss(quantized.original, images, name, plain?.tensor ?? actual));
      if (loss) quantization = { ...quantized.summary, ...loss };
    }
    verification.onProgress?.(results.size, wanted.length);
  }

  const explained = explainedBy(structure, nodes);
  const missing = wanted.filter((node) => !results.has(node.name) && !explained(node));
  const known = [
    ...(verification.weights?.faults ?? []),
    ...missing.map((node) => layerFault(node, "missing", null, "one side holds no value of this name")),
    ...structure,
  ];
  const judged =
    tolerance.rule === "relative-to-max"
      ? [...known, ...numericFaults(graph, results, tolerance, structure)]
      : withCauses(graph, known, localFaults(graph, results, judge.explanations()));
  const faults =
    judged.length > 0 && tolerance.rule === "derived-bounds"
      ? judged
      : [...judged, ...outputFaults(output, results)];
  return {
    schema: "osnet-parity/1",
    candidate: candidate.party,
    reference: reference.party,
    backend: candidate.backend.name,
    tolerance,
    input: {
      source: verification.imagesSource,
      shape: images.shape,
      ...(candidate.pixels ? { pixels: candidate.pixels } : {}),
    },
    passed: faults.length === 0 && results.size > 0,
    faults,
    layers: graph.nodes.flatMap(({ name }) => results.get(name) ?? []),
    gates: graph.gates.flatMap(({ layer }) => gates.get(layer) ?? []),
    output,
    weights: verification.weights?.result ?? null,
    vacuity: observer.finish(),
    proof: proofOf(candidate, verification.weights?.result, faults, images.shape[0] ?? 0),
    ...(quantization ? { quantization } : {}),
    coverage: {
      expected: reachable.length,
      compared: results.size,
      folded: reachable.filter(({ name }) => candidate.folded.has(name)).map(({ name }) => name),
      missing: missing.map(({ name }) => name),
    },
  };
}

/** With more constants than these different, the weights are another checkpoint's, and that explains all. */
const FEW_WEIGHTS = 32;

/** Three roundings of a pixel's share of white, which is at most its normalised value and twice the mean's; and a margin. */
const NORMALIZED_TOLERANCE: RelativeTolerance = { rule: "relative-to-max", value: 2 ** -20 };

interface Judge {
  judge(node: LayerNode, expected: RealTensor, actual: RealTensor): LayerResult;
  explanations(): ReadonlyMap<string, Explanation>;
}

/** Judges each layer against the reference network, or on the candidate's own inputs to it. */
function judgeOf(
  { graph, candidate, images, parameters, weights }: Verification,
  tolerance: Tolerance,
): Judge {
  if (tolerance.rule === "relative-to-max")
    return {
      judge: (node, expected, actual) => judgeLayer(node, expected, actual, tolerance),
      explanations: () => new Map(),
    };
  if (!parameters)
    throw new InputError({
      code: "argument",
      subject: "--tolerance auto",
      found: "no checkpoint to recompute layers with",
      expected: "a checkpoint as the reference",
      remedy: "give the checkpoint, or a number as the tolerance",
    });
  const source = float64Parameters(parameters);
  let local: LocalJudge | undefined;
  return {
    judge(node, expected, actual) {
      local ??= localJudge(graph, {
        shown: candidate.backend.layers,
        images,
        parameters: source,
        parameterShapes: new Map(parametersOf(graph).map(({ path, shape }) => [path, shape])),
        precision: candidate.precision ?? actual.dtype,
        mayHide: (layer) => candidate.backend.name === "recorded" || candidate.folded.has(layer),
        explains: (weights?.faults.length ?? 0) <= FEW_WEIGHTS,
        reusesMemory: candidate.backend.name === "reference",
      });
      const error = local.judge(node.name, actual);
      // Nothing of the network comes before the images that a model has normalised: the reference's are what they should be.
      if (node.op.kind === "input") return judgeLayer(node, expected, actual, NORMALIZED_TOLERANCE);
      return judgeLocally(node, expected, actual, error);
    },
    explanations: () => local?.explanations() ?? new Map(),
  };
}

/** Whether a layer that is not there needs no fault of its own: it has one, or its whole stream is gone. */
export function explainedBy(
  structure: readonly Pick<Fault, "layer" | "stream">[],
  nodes: ReadonlyMap<string, LayerNode>,
): (node: LayerNode) => boolean {
  const place = ({ block, stream }: Pick<LayerNode, "block" | "stream">): string => `${block} ${stream}`;
  const layers = new Set(structure.map(({ layer }) => layer));
  const streams = new Set(
    structure.flatMap(({ layer, stream }) => {
      const node = nodes.get(layer);
      return node && stream !== undefined ? [place(node)] : [];
    }),
  );
  return (node) => layers.has(node.name) || (node.stream !== undefined && streams.has(place(node)));
}

/** The layers to compare, in network order: all behind the candidate's results, or what a recording holds. */
function expectedLayers(graph: LayerGraph, candidate: Candidate, reference: Side): readonly LayerNode[] {
  const recorded = [reference, candidate].find(({ backend }) => backend.name === "recorded");
  const names = recorded ? new Set(recorded.backend.layers) : ancestors(graph, ...candidate.results);
  const compares = ({ op }: LayerNode): boolean => op.kind !== "input" || candidate.pixels !== undefined;
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
