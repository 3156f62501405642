import type { TfjsFiles } from "../../convert/formats/tfjs/model.js";
import { firstLine, InputError } from "../../core/errors.js";
import { formatShape, permute, type Tensor } from "../../core/tensor.js";
import type { LayerOutput, ModelBackend, RuntimeFacts, RuntimeName, RuntimeValue } from "./backend.js";
import { chromiumFor, closeChromium } from "./registry.js";
import type { TfjsProgram, TfjsSegment, TfjsValue } from "./runtime-api.js";
import { predictTfjs, runTfjs, tfjsFacts } from "./tfjs-runtime.js";

/** What to run, and which values to output. */
export interface TfjsTaps {
  /** The files as they are. */
  readonly files: TfjsFiles;
  /** The number of outputs that a program receives. */
  readonly outputs: number;
  /** The same program with every intermediate value in a separate node. */
  readonly tapped: TfjsProgram;
  /** The layers that it computes, in network order, each with the node of its value. */
  readonly nodes: ReadonlyMap<string, string>;
  /** Whether images and values are in the model's own layout. Default: NHWC there, NCHW here. */
  readonly asTheyAre?: boolean;
  /**
   * Whether a segment may continue from the values of those before it: for graph models whose nodes each have one
   * output. Otherwise each is computed from the images, and repeats the values that it reads from others. Default
   * false.
   */
  readonly continues?: boolean;
}

/** NCHW to NHWC, and back. */
const TO_CHANNELS_LAST = [0, 2, 3, 1];
const TO_CHANNELS_FIRST = [0, 3, 1, 2];

/** Runs a TensorFlow.js model in one of tfjs's backends. The runtime is loaded on the first run. */
export function tfjsBackend(
  name: RuntimeName,
  { files, outputs, tapped, nodes, asTheyAre = false, continues = false }: TfjsTaps,
  subject: string,
): ModelBackend {
  let facts: RuntimeFacts | undefined;

  async function* execute(
    program: TfjsProgram,
    images: Tensor<"float32">,
    segments: readonly TfjsSegment[],
  ): AsyncGenerator<TfjsValue> {
    try {
      const chromium = await chromiumFor(name);
      facts = chromium?.facts ?? (await tfjsFacts(name));
      if (chromium) yield* chromium.runTfjs(program, laidOut(images), segments);
      else yield* runTfjs(name, program, laidOut(images), segments);
    } catch (cause) {
      throw refused(images, cause);
    }
  }

  async function predict(images: Tensor<"float32">): Promise<readonly TfjsValue[]> {
    const chromium = await chromiumFor(name);
    facts = chromium?.facts ?? (await tfjsFacts(name));
    return chromium
      ? chromium.predictTfjs(files, laidOut(images))
      : predictTfjs(name, files, laidOut(images));
  }

  const laidOut = (images: Tensor<"float32">): Tensor<"float32"> =>
    asTheyAre ? images : permute(images, TO_CHANNELS_LAST);

  function refused({ shape }: Tensor<"float32">, cause: unknown): InputError {
    if (cause instanceof InputError) return cause;
    if (cause instanceof Error && cause.name === "LoadedOtherwise")
      return new InputError(
        {
          code: "unsupported",
          subject,
          found: `values in ${name} that differ from the file's, for ${firstLine(cause)}`,
          expected: "the same values",
          remedy: "convert the model again",
        },
        { cause },
      );
    const error = firstLine(cause);
    if (cause instanceof Error && cause.name === "NotLoaded")
      return new InputError(
        {
          code: "tensor",
          subject,
          found: `${name} does not load it (${error})`,
          remedy: loadableBy(error),
        },
        { cause },
      );
    return new InputError(
      {
        code: "tensor",
        subject,
        found: `${name} failed on images ${formatShape(shape)} (${error})`,
        remedy: runnableBy(error),
      },
      { cause },
    );
  }

  const read = ({ shape, data }: TfjsValue): Tensor<"float32"> => {
    const tensor: Tensor<"float32"> = { dtype: "float32", shape, data };
    return shape.length === 4 && !asTheyAre ? permute(tensor, TO_CHANNELS_FIRST) : tensor;
  };

  return {
    name,
    layers: [...nodes.keys()],
    facts: () => facts,
    close: () => closeChromium(name),
    async *run(images, segments = [{ layers: [...nodes.keys()], others: [] }]): AsyncGenerator<LayerOutput> {
      const shown = segments.flatMap(({ layers, others }) => [
        ...(continues ? [] : others.map((name) => ({ name, again: true }))),
        ...layers.map((name) => ({ name })),
      ]);
      const valuesOf = (layers: readonly string[]): string[] => layers.map((layer) => nodes.get(layer) ?? "");
      const runs = segments.map(({ layers, others }): TfjsSegment => {
        const [own, needed] = [valuesOf(layers), valuesOf(others)];
        return continues ? { values: own, from: needed } : { values: [...needed, ...own], from: [] };
      });
      let index = 0;
      for await (const value of execute(tapped, images, runs)) {
        const output = shown[index++];
        if (output) yield { ...output, tensor: read(value) };
      }
    },
    async valuesOf(names, images) {
      const values: [string, RuntimeValue][] = [];
      const program = { files, input: tapped.input };
      for await (const { data } of execute(program, images, [{ values: [...names], from: [] }]))
        values.push([names[values.length] ?? "", { type: "float32", data }]);
      return new Map(values);
    },
    load: (places) => ({
      async run(images) {
        const values = await predict(images).catch((cause: unknown) => {
          throw refused(images, cause);
        });
        if (values.length !== outputs)
          throw new InputError({
            code: "unsupported",
            subject,
            found: `${values.length} outputs in ${name}, ${outputs} in the model's signature`,
            expected: "the same outputs",
            remedy: "convert the model again",
          });
        return places.flatMap(({ index }) => {
          const value = values[index];
          return value ? [read(value)] : [];
        });
      },
      // It is loaded for each run.
      release: async () => undefined,
    }),
  };
}

/** What the user can do about a model that is not loaded, by tfjs's words. */
function loadableBy(error: string): string {
  return /\b(loss|optimizer|metric)/i.test(error)
    ? "save it without its training configuration"
    : "convert it again";
}

/** What the user can do about a model that fails, by tfjs's words, and those of tfjs-wasm's kernels for what they lack. */
function runnableBy(error: string): string {
  if (/only supports/.test(error)) return "use another backend with --backend, such as tfjs-cpu";
  return /dtype/.test(error)
    ? "convert it again, with an input of float32"
    : "use images of the size the model was converted for, try another backend with --backend, or convert it again";
}
