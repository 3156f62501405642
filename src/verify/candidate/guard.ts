import type { OnnxModel } from "../../convert/formats/onnx/model.js";
import { runHazard } from "../../convert/import/normalise.js";
import { InputError } from "../../core/errors.js";
import { formatShape, type Shape } from "../../core/tensor.js";
import type { ModelBackend } from "../backends/backend.js";

/**
 * A backend that throws `InputError` (`tensor`) instead of running images that it may not survive. The graph is read once
 * for each shape: a verification runs a model several times.
 *
 * @param onnx the model that the backend runs
 * @param taken the shape in the graph's layout. Default: as the backend is given it
 */
export function guarded(
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
