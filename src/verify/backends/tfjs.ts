import { InputError } from "../../errors.js";
import { formatShape, type Tensor } from "../../tensor.js";
import { permute } from "../../tensor-permute.js";
import type { Backend, LayerOutput, TfjsBackendName } from "../backend.js";
import { runTfjs, type TfjsProgram, type TfjsValue } from "./tfjs-runtime.js";

/** A TensorFlow.js model whose inner values can be read. */
export interface TfjsBackend extends Backend {
  readonly name: TfjsBackendName;
  /** Runs the files as they are, untouched, and gives the first output. */
  plain(images: Tensor<"float32">): Promise<Tensor<"float32">>;
}

/** What to run, and what to read of it. */
export interface TfjsTaps {
  /** The files as they are, and the name of their first output. */
  readonly plain: { readonly program: TfjsProgram; readonly output: string };
  /** The same with every inner value in a node of its own. */
  readonly tapped: TfjsProgram;
  /** The layers that it computes, in network order, each with the node of its value. */
  readonly nodes: ReadonlyMap<string, string>;
  /** Whether images and values are handed on in the model's own order of axes. Default: NHWC there, NCHW here. */
  readonly asTheyAre?: boolean;
}

/** NCHW to NHWC, and back. */
const TO_CHANNELS_LAST = [0, 2, 3, 1];
const TO_CHANNELS_FIRST = [0, 3, 1, 2];

/** Runs a TensorFlow.js model in one of tfjs's backends. The runtime is loaded on the first run. */
export function tfjsBackend(
  name: TfjsBackendName,
  { plain, tapped, nodes, asTheyAre = false }: TfjsTaps,
  subject: string,
): TfjsBackend {
  async function* execute(
    program: TfjsProgram,
    images: Tensor<"float32">,
    names: readonly string[],
  ): AsyncGenerator<TfjsValue> {
    try {
      yield* runTfjs(name, program, asTheyAre ? images : permute(images, TO_CHANNELS_LAST), names);
    } catch (cause) {
      if (cause instanceof InputError) throw cause;
      throw new InputError(
        {
          code: "tensor",
          subject,
          found: `a model that ${name} does not run on images ${formatShape(images.shape)} (${firstLine(cause)})`,
          expected: "a model that it does",
          remedy: "give images of the size the model was converted for, or convert it again",
        },
        { cause },
      );
    }
  }

  const read = ({ shape, data }: TfjsValue): Tensor<"float32"> => {
    const tensor: Tensor<"float32"> = { dtype: "float32", shape, data };
    return shape.length === 4 && !asTheyAre ? permute(tensor, TO_CHANNELS_FIRST) : tensor;
  };

  return {
    name,
    layers: [...nodes.keys()],
    async *run(images): AsyncGenerator<LayerOutput> {
      const layers = [...nodes.keys()];
      let index = 0;
      for await (const value of execute(tapped, images, [...nodes.values()]))
        yield { name: layers[index++] ?? "", tensor: read(value) };
    },
    async plain(images) {
      for await (const value of execute(plain.program, images, [plain.output])) return read(value);
      throw new Error(`${name} gave no output ${plain.output}`);
    },
  };
}

function firstLine(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).split("\n", 1)[0] ?? "";
}
