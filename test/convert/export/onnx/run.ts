import { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import { encodeOnnx } from "../../../../src/convert/formats/onnx/encode.js";
import type { OnnxModel } from "../../../../src/convert/formats/onnx/model.js";
import type { Tensor } from "../../../../src/core/tensor.js";

/** Runs a model on onnxruntime: every graph output by name. */
export async function runOnnx(
  model: OnnxModel,
  images: Tensor<"float32">,
): Promise<ReadonlyMap<string, Tensor<"float32">>> {
  const session = await InferenceSession.create(encodeOnnx(model));
  const feed = new OrtTensor("float32", images.data, images.shape);
  const results = await session.run({ [session.inputNames[0] ?? ""]: feed });
  await session.release();
  return new Map(
    Object.entries(results).map(([name, { data, dims }]) => [
      name,
      { dtype: "float32", shape: dims, data: data as Float32Array },
    ]),
  );
}
