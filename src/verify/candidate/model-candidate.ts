import { ancestors, type LayerGraph } from "../../arch/index.js";
import { declaredPixels, statesSpec } from "../../convert/export/metadata.js";
import { IMAGENET, type PixelOrder } from "../../convert/export/options.js";
import { VALUE_NAMES } from "../../convert/export/tfjs-names.js";
import { encodeOnnx } from "../../convert/formats/onnx/encode.js";
import { fedInputs, type OnnxModel } from "../../convert/formats/onnx/model.js";
import type { TfjsFiles, TfjsModel } from "../../convert/formats/tfjs/model.js";
import { type GraphMatch, matchGraph } from "../../convert/import/match.js";
import { fromBlocks, isBlocked } from "../../convert/import/nchwc.js";
import { hasLoop, runHazard } from "../../convert/import/normalise.js";
import { weightsOfHalf } from "../../convert/import/operators/constants.js";
import type { Preprocess, Reading } from "../../convert/import/operators/foreign.js";
import { towardsNchw } from "../../convert/import/operators/layouts.js";
import { withoutBranches } from "../../convert/import/passes.js";
import { describePreprocess, type ImageInput, imageInput } from "../../convert/import/preprocess.js";
import { isStep } from "../../convert/import/tfjs/draft.js";
import { matchTfjs } from "../../convert/import/tfjs/translate.js";
import { isBeyondWasm, type Model, tfjsFiles, weightFiles } from "../../convert/open/open-file.js";
import { type NamedBytes, toBytes } from "../../core/bytes.js";
import { InputError } from "../../core/errors.js";
import { filled } from "../../core/functions.js";
import { formatShape, permute, type RealTensor, type Shape, type Tensor } from "../../core/tensor.js";
import { quoted, someOf } from "../../core/text.js";
import type { BackendName, ModelBackend, RuntimeName } from "../backends/backend.js";
import { isCopied, type OnnxFile, onnxruntimeBackend } from "../backends/onnxruntime.js";
import { engineOf, runtimeFor } from "../backends/registry.js";
import { type TfjsTaps, tfjsBackend } from "../backends/tfjs.js";
import { inOrder, nearestImages, pixelsOf, rawImages } from "../inputs/images.js";
import type { Party } from "../outcome/report.js";
import { type Located, locate, onnxNames, tfjsNames } from "../weights/located.js";
import { withComputed, withConditions } from "./assumptions.js";
import { type Candidate, halfPrecision, PART_ELEMENTS, RUN_ELEMENTS, segmentsOf } from "./candidate.js";
import { accountForOutputs, misnamedOutputs } from "./outputs.js";
import { accountedFaults, deviationsOf, inputFaults, quantisedFaults, structureFaults } from "./structure.js";

/** The user's choices about a model's interface. */
export interface InterfaceOptions {
  /** The output to judge. Default: the first as the embedding. */
  readonly output?: string;
  /** The channel order of the model's input; `own`: what its graph takes. Default: as in the file's metadata, else RGB. */
  readonly inputOrder?: PixelOrder | "own";
}

interface ModelOptions extends InterfaceOptions {
  /** The runtime, if it runs the model's format. Default: the first, but tfjs-cpu for what tfjs-wasm does not support. */
  readonly backend?: BackendName | undefined;
}

/**
 * A model of any format and exporter as a candidate that a runtime runs. It is given the input that it takes: images or
 * raw pixels.
 *
 * @param file the file that `model` was decoded from
 * @throws InputError (`unsupported`) if no runtime loads the file, if it is not the network, or if none of its outputs
 * is computed from a layer of it; (`argument`) if it has no output with the chosen name
 */
export function modelCandidate(
  model: Model,
  file: NamedBytes,
  graph: LayerGraph,
  party: Party,
  { backend, ...options }: ModelOptions = {},
): Candidate {
  const { document } = model;
  const usual = runtimeFor(document.format, backend);
  const isBeyond = usual === "tfjs-wasm" && document.format === "tfjs" && isBeyondWasm(document.model);
  const runtime = isBeyond && usual !== backend ? "tfjs-cpu" : usual;
  return { ...runnableCandidate(inRuntime(model, file, graph, runtime), party, options), document };
}

/** A model of each format in a runtime that runs it. */
function inRuntime(model: Model, file: NamedBytes, graph: LayerGraph, runtime: RuntimeName): RunnableModel {
  const { document } = model;
  switch (document.format) {
    case "onnx":
      return openOnnx(model, document.model, file, graph, runtime);
    case "tfjs":
      return openTfjs(model, document.model, file, graph, runtime);
  }
}

/** A model that a runtime can run, and the location of its layers. */
export interface RunnableModel {
  /** The model that the runtime runs, as ONNX operators. */
  readonly onnx: OnnxModel;
  readonly located: Located;
  /** A backend that outputs these values, by their layers. */
  readonly backend: (values: ReadonlyMap<string, string>, subject: string) => ModelBackend;
  /** Whether values are read from a rewritten copy of the file. */
  readonly isCopied?: boolean;
  /** The names that programs use for outputs, if not those in the file. */
  readonly calledBy?: (output: string) => string;
  /** The file's name for the value of a layer, if layers are named. */
  readonly nameOf?: (layer: string) => string;
}

function openOnnx(
  opened: Model,
  decoded: OnnxModel,
  source: NamedBytes,
  graph: LayerGraph,
  runtime: RuntimeName,
): RunnableModel {
  const { name: subject, path } = source;
  expectImagesOnly(decoded, subject);
  const original = toBytes(source.bytes);
  const { model, conditions } = withoutBranches(decoded, subject);
  // Values inside a function or a branch cannot become outputs, and a file with added outputs is passed as bytes.
  const whole = decoded.sidecars ? encodeOnnx(decoded) : original;
  const isUnfolded = model !== decoded || model.inlined !== undefined;
  const beside = new Map(
    [...weightFiles(opened, source)].map(([name, found]) => [name, found ?? new Uint8Array()]),
  );
  const names = statesSpec(model.metadata) ? onnxNames(model) : undefined;
  const isRewritten = (match: GraphMatch): boolean =>
    isUnfolded ||
    isBlocked(model.graph) ||
    match.quantised !== undefined ||
    takesPixels(match, model, subject);
  const located = locate(graph, () => matchGraph(model, { subject, graph }), names, isRewritten);
  const runnable = runnableOnnx(
    {
      bytes: isUnfolded ? encodeOnnx(model) : whole,
      whole,
      ...(path === undefined ? {} : { path }),
      ...(beside.size > 0 ? { external: { bytes: original, beside } } : {}),
    },
    model,
    located,
    runtime,
  );
  return conditions
    ? {
        ...runnable,
        backend: (layers, subject) =>
          withConditions(runnable.backend(layers, subject), conditions, subject, runtime),
      }
    : runnable;
}

/** onnxruntime runs nothing, not even an output that does not need them, without all inputs. */
function expectImagesOnly({ graph }: OnnxModel, subject: string): void {
  const inputs = fedInputs(graph);
  if (inputs.length < 2) return;
  throw new InputError({
    code: "unsupported",
    subject,
    found: `the inputs ${someOf(inputs.map(({ name }) => quoted(name)))}`,
    expected: "one input, which takes images",
    remedy: "export it without the others, and without what is computed from them",
  });
}

/** Another tool may have added a normalisation of pixels without renaming anything. */
function takesPixels({ preprocess }: GraphMatch, { metadata }: OnnxModel, subject: string): boolean {
  return imageInput(preprocess)?.white === 255 && declaredPixels(metadata, subject) === undefined;
}

/** An ONNX file in a runtime. */
export function runnableOnnx(
  file: OnnxFile,
  onnx: OnnxModel,
  located: Located,
  runtime: RuntimeName = "onnxruntime",
): RunnableModel {
  return {
    onnx,
    located,
    backend(values, subject) {
      const backend = withComputed(
        onnxruntimeBackend(file, onnx, values, subject, runtime),
        located.match?.computed ?? new Map(),
        subject,
      );
      // A faithful file has the network's windows, which fit if the reference runs.
      if (located.match?.differences.length === 0 && !hasLoop(onnx.graph)) return backend;
      return guarded(backend, onnx, subject);
    },
    isCopied: isCopied(file),
  };
}

function openTfjs(
  { onnx, isRunnable }: Model,
  model: TfjsModel,
  file: NamedBytes,
  graph: LayerGraph,
  runtime: RuntimeName,
): RunnableModel {
  const { name: subject } = file;
  if (!isRunnable)
    throw new InputError({
      code: "unsupported",
      subject,
      found: "a Keras 3 topology, which tfjs cannot load",
      expected: "a Keras 2 topology",
      remedy: "convert it with osnet-convert tfjs2tfjs",
    });
  const names = statesSpec(onnx.metadata) ? tfjsNames(model, graph, subject) : undefined;
  const isRewritten = (match: GraphMatch): boolean => takesPixels(match, onnx, subject);
  const located = locate(graph, () => matchTfjs(onnx, { subject, graph }), names, isRewritten);
  return runnableTfjs(tfjsFiles(file), model, onnx, located, runtime);
}

/** tfjs's backends compute 1 / √x differently: it is rounded once or twice, and approximate on a GPU. */
const TFJS_ROUNDING = 2 ** -20;

/** A TensorFlow.js model in a runtime. */
export function runnableTfjs(
  files: TfjsFiles,
  model: TfjsModel,
  onnx: OnnxModel,
  located: Located,
  runtime: RuntimeName = "tfjs-wasm",
): RunnableModel {
  const { graph, by } = located;
  const isFaithful = located.match?.differences.length === 0;
  // Programs receive the outputs of a graph model under the signature's keys.
  const keys = new Map(
    model.format === "graph-model"
      ? [...model.signature.outputs].map(([key, { name }]) => [name.replace(/:0$/, ""), key] as const)
      : [],
  );
  // Values that a translation adds are not in the file; a layers model computes no constants.
  const isOwn = ([name]: readonly [string, Tensor]): boolean =>
    model.format === "graph-model" && !isStep(name);
  const computed = new Map([...(located.match?.computed ?? [])].filter(isOwn));
  const run = (taps: TfjsTaps, subject: string): ModelBackend =>
    withComputed(tfjsBackend(runtime, taps, subject), computed, subject, TFJS_ROUNDING);
  return {
    onnx,
    located,
    backend(nodes, subject) {
      const outputs = onnx.graph.outputs.length;
      if (by === "structure") {
        const tapped = { files, input: onnx.graph.inputs[0]?.name ?? "" };
        const backend = run({ files, outputs, tapped, nodes, asTheyAre: true }, subject);
        return isFaithful ? backend : guarded(backend, onnx, subject);
      }
      const names = tfjsNames(model, graph, subject);
      const tapped = { files: names.tapped(files), input: names.input ?? "" };
      const continues = model.format === "graph-model";
      const backend = run({ files, outputs, tapped, nodes, continues }, subject);
      if (isFaithful) return backend;
      return guarded(backend, onnx, subject, ([batch = 0, channels = 0, ...size]) => [
        batch,
        ...size,
        channels,
      ]);
    },
    calledBy: (output) => keys.get(output) ?? output,
    nameOf: VALUE_NAMES[model.format].of,
  };
}

/**
 * A model as a candidate. It is given the images, or the raw pixels if the file declares these or its structure shows
 * that it normalises them; the normalised images are then compared as a layer, the network's input. Values with other
 * axis orders, or quantised ones, are converted to activations. Differences between its graph and the network are
 * faults.
 */
export function runnableCandidate(
  { onnx, located, backend: open, isCopied = false, calledBy, nameOf }: RunnableModel,
  party: Party,
  { output, inputOrder }: InterfaceOptions = {},
): Candidate {
  const { graph, by, folded, match } = located;
  const structural = by === "structure" ? match : undefined;
  const declared = declaredPixels(onnx.metadata, party.name);
  const taken = imageInput(structural?.preprocess) ?? { white: undefined, order: "rgb" };
  const order = inputOrder === "own" ? (declared ?? taken.order) : (inputOrder ?? declared ?? "rgb");
  const half = halfPrecision(
    graph.nodes.flatMap((node) => located.constants(node, ["weight"]).get("weight") ?? []),
    weightsOfHalf(onnx.graph),
  );
  const accounted = accountForOutputs({
    subject: party.name,
    graph,
    model: onnx,
    values: located.values,
    match,
    ...half,
    chosen: output,
  });
  const results = accounted.outputs.map(({ layer }) => layer);
  const needed = ancestors(graph, ...results);
  const backend = open(new Map([...located.values].filter(([layer]) => needed.has(layer))), party.name);
  const preprocess =
    declared === undefined && structural?.preprocess
      ? asTaken(structural.preprocess, taken, order)
      : undefined;
  const [{ dtype = "float32" } = {}] = fedInputs(onnx.graph);
  const white = declared === undefined ? undefined : 255;
  const given = preprocess ?? asTaken({ ...AS_THEY_ARE, dtype }, { white, order }, order);
  const feed = (images: Tensor<"float32">): Tensor<"float32"> => {
    if (preprocess) return rawImages(images, preprocess);
    const ordered = declared === undefined ? inOrder(images, order) : pixelsOf(images, order);
    return structural?.layout ? permute(ordered, structural.layout) : ordered;
  };
  const { optimises = false } = engineOf(backend.name);
  const reading = (value = ""): Reading | undefined => structural?.readings.get(value);
  const structure = [
    ...(match ? inputFaults(match, order, declared, by) : []),
    ...(structural ? structureFaults(structural) : []),
    ...(match ? quantisedFaults(match) : []),
    ...accountedFaults(accounted, match),
    ...misnamedOutputs(graph, accounted.outputs.slice(accounted.isInner ? 1 : 0), calledBy, nameOf),
  ];
  const deviations = structural ? [] : deviationsOf(located, results);
  return {
    party,
    ...half,
    ...(structural ? { foldsNarrow: true } : {}),
    backend: {
      ...backend,
      async *run(images) {
        const whole = optimises ? undefined : RUN_ELEMENTS;
        const size = backend.continues ? PART_ELEMENTS : whole;
        const segments = segmentsOf(graph, backend.layers, images.shape, size);
        for await (const shown of backend.run(feed(images), segments))
          yield { ...shown, tensor: asRead(shown.tensor, reading(located.values.get(shown.name))) };
      },
    },
    results,
    folded,
    located,
    ...(declared === undefined ? {} : { pixels: order }),
    ...(structure.length > 0 ? { structure } : {}),
    ...(deviations.length > 0 ? { deviations } : {}),
    ...(preprocess
      ? {
          preprocess: {
            normalises: taken.white !== undefined,
            description: describePreprocess(structural?.preprocess ?? preprocess),
          },
        }
      : {}),
    ...(dtype === "float32"
      ? {}
      : {
          input: {
            isInteger: dtype !== "float16",
            nearest: (images) => nearestImages(images, given),
          },
        }),
    optimises,
    program: {
      ...accounted,
      isCopied,
      load(loading) {
        const loaded = backend.load(accounted.outputs, loading);
        return {
          async run(images) {
            const values = await loaded.run(feed(images));
            return values.map((value, index) => asRead(value, reading(accounted.outputs[index]?.name)));
          },
          release: loaded.release,
        };
      },
    },
  };
}

/** The input with which a file's network reads the given images: the inverse of the file's normalisation. */
function asTaken(
  found: Omit<Preprocess, "scale" | "shift" | "order">,
  { white }: ImageInput,
  order: PixelOrder,
): Preprocess {
  const { mean, deviation } = IMAGENET;
  const channels = order === "rgb" ? [0, 1, 2] : [2, 1, 0];
  return {
    ...found,
    order: channels,
    scale: deviation.map((value) => (white === undefined ? 1 : 1 / (value * white))),
    shift: mean.map((value, channel) => (white === undefined ? 0 : -value / (deviation[channel] ?? 1))),
  };
}

/** No preprocessing. */
const AS_THEY_ARE = { layout: [0, 1, 2, 3], isHalf: false, unknown: [] } as const;

/** A value of the file as an activation of the network. */
function asRead(value: RealTensor, { blocks, layout, isFlat, isLine, quantised }: Reading = {}): RealTensor {
  const tensor = blocks ? fromBlocks(value, blocks) : value;
  const isSpread = isFlat && tensor.shape.length === 2;
  const isNarrow = isLine && tensor.shape.length > 2;
  const shape = isSpread ? [...tensor.shape, 1, 1] : isNarrow ? tensor.shape.slice(0, 2) : tensor.shape;
  const whole = isSpread || isNarrow ? { ...tensor, shape } : tensor;
  const moved =
    layout && whole === tensor && tensor.shape.length === layout.length
      ? permute(tensor, towardsNchw(layout))
      : whole;
  if (!quantised) return moved;
  const { scale, zero } = quantised;
  return {
    dtype: "float64",
    shape: moved.shape,
    data: filled(new Float64Array(moved.data.length), (i) => ((moved.data[i] as number) - zero) * scale),
  };
}

/**
 * A backend that throws `InputError` (`tensor`) instead of running images that it may not survive. The graph is read once
 * for each shape: a verification runs a model several times.
 *
 * @param onnx the model that the backend runs
 * @param taken the shape in the graph's layout. Default: as the backend is given it
 */
function guarded(
  backend: ModelBackend,
  onnx: OnnxModel,
  subject: string,
  taken: (shape: Shape) => Shape = (shape) => shape,
): ModelBackend {
  const known = new Map<string, string | undefined>();
  function expectSafe({ shape }: { readonly shape: Shape }): void {
    const key = formatShape(shape);
    const found = known.has(key) ? known.get(key) : runHazard(onnx, taken(shape), subject);
    known.set(key, found);
    if (found === undefined) return;
    throw new InputError({
      code: "tensor",
      subject,
      found,
      expected: "windows within their maps, maps of about the images' size, and no control flow",
      remedy: "use images of the size the model was exported for, or export it again",
    });
  }
  return {
    ...backend,
    run(images, segments) {
      expectSafe(images);
      return backend.run(images, segments);
    },
    load(places, options) {
      const loaded = backend.load(places, options);
      return {
        ...loaded,
        async run(images) {
          expectSafe(images);
          return loaded.run(images);
        },
      };
    },
  };
}
