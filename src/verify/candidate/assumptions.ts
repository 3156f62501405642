import { encodeOnnx } from "../../convert/formats/onnx/encode.js";
import { isFloat, uniform } from "../../convert/import/operators/constants.js";
import type { withoutBranches } from "../../convert/import/passes.js";
import { InputError } from "../../core/errors.js";
import type { Tensor } from "../../core/tensor.js";
import { toReal } from "../../core/tensor-cast.js";
import { quoted } from "../../core/text.js";
import type { ModelBackend, RuntimeName, RuntimeValue } from "../backends/backend.js";
import { onnxruntimeBackend } from "../backends/onnxruntime.js";

/** What a file was read as before it ran: the runtime must read the same. */

/** A model whose branches were taken beforehand: the runtime must take the same ones. */
export function withConditions(
  backend: ModelBackend,
  { model, values }: NonNullable<ReturnType<typeof withoutBranches>["conditions"]>,
  subject: string,
  runtime: RuntimeName,
): ModelBackend {
  const decisions = onnxruntimeBackend(
    { bytes: encodeOnnx(model) },
    model,
    [...values.keys()],
    subject,
    runtime,
  );
  return expecting(backend, async (images) => {
    for await (const { name, tensor } of decisions.run(images)) {
      const [number] = tensor.data;
      if (number === Number(values.get(name))) continue;
      throw new InputError({
        code: "unsupported",
        subject,
        found: "an If that takes another branch in the runtime than its graph implies",
        expected: "conditions that follow from shapes",
        remedy: "export the model without control flow",
      });
    }
  });
}

/** A backend that checks something of the images before it runs a model on them, once for each batch. */
function expecting(backend: ModelBackend, check: (images: Tensor<"float32">) => Promise<void>): ModelBackend {
  const checked = new WeakMap<object, Promise<void>>();
  const expect = (images: Tensor<"float32">): Promise<void> => {
    const known = checked.get(images) ?? check(images);
    checked.set(images, known);
    return known;
  };
  return {
    ...backend,
    async *run(images, segments) {
      await expect(images);
      yield* backend.run(images, segments);
    },
    load(places, options) {
      const loaded = backend.load(places, options);
      return {
        ...loaded,
        async run(images) {
          await expect(images);
          return loaded.run(images);
        },
      };
    },
  };
}

/**
 * A file with constants that were computed from others: the runtime must compute the same ones.
 *
 * @param tolerance how far the elements of a list may be from those that it was read with, relative to these; never of
 * single numbers, or lists of one number, by which a graph may choose what it computes
 */
export function withComputed(
  backend: ModelBackend,
  computed: ReadonlyMap<string, Tensor>,
  subject: string,
  tolerance = 0,
): ModelBackend {
  // onnxruntime does not output bfloat16; what is computed from it is compared.
  const shown = new Map([...computed].filter(([, { dtype }]) => dtype !== "bfloat16"));
  if (shown.size === 0) return backend;
  return expecting(backend, async (images) => {
    const values = await backend.valuesOf([...shown.keys()], images);
    for (const [name, tensor] of shown) {
      const value = values.get(name);
      if (value && isSame(tensor, value, uniform(tensor) === undefined ? tolerance : 0)) continue;
      throw new InputError({
        code: "unsupported",
        subject,
        found: `the constant ${quoted(name)}, whose values in ${backend.name} differ from those that its graph implies`,
        expected: "the same values",
        remedy: "export the model with its constants folded",
      });
    }
  });
}

/** Whether a runtime has the numbers of a constant. In a copy of a file, the ends of an int64 are clamped. */
function isSame(read: Tensor, { type, data }: RuntimeValue, tolerance: number): boolean {
  if (data.length !== read.data.length) return false;
  if (isFloat(read)) {
    const found =
      type === "float16"
        ? toReal({ ...read, dtype: "float16", data: data as Uint16Array }, "constant").data
        : data;
    return toReal(read, "constant").data.every(
      (number, at) =>
        number === found[at] ||
        Object.is(number, found[at]) ||
        (Number.isFinite(number) && Math.abs(number - Number(found[at])) <= tolerance * Math.abs(number)),
    );
  }
  const most = BigInt(Number.MAX_SAFE_INTEGER);
  return Array.from(read.data as ArrayLike<number | bigint>, BigInt).every((number, at) => {
    const value = data[at] as number | bigint;
    if (typeof value === "number" && !Number.isInteger(value)) return false;
    const clamped = number > most ? most : number < -most ? -most : number;
    return BigInt(value) === number || BigInt(value) === clamped;
  });
}
