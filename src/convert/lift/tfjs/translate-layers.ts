import { InputError } from "../../../errors.js";
import type { OnnxModel, OnnxValue } from "../../formats/onnx/index.js";
import { arrayOf, type LayerCall, readTopology, type TfjsLayersModel } from "../../formats/tfjs/index.js";
import { createDraft, modelOf } from "./draft.js";
import { layerWeights } from "./layer-weights.js";
import { translateLayer } from "./layers/index.js";
import { inOrder } from "./order.js";
import { aboutTfjs } from "./producer.js";

/**
 * A Keras model in ONNX's words, for matching: a value is called `LAYER#CALL`, as one layer may be called many times.
 *
 * @throws InputError (`format`) if the topology is none, has a circle or reads what is not there
 */
export function translateLayers(model: TfjsLayersModel, subject: string): OnnxModel {
  const { calls, outputs } = readTopology(model, subject);
  const draft = createDraft();
  for (const [name, weight] of layerWeights(model, calls)) draft.constants.set(name, weight);
  const byValue = new Map<string, LayerCall>();
  for (const call of calls) {
    if (byValue.has(call.value))
      throw malformed(subject, `two layers ${JSON.stringify(call.layer.slice(0, 80))}`, "a name per layer");
    byValue.set(call.value, call);
  }
  const inputs: OnnxValue[] = [];
  for (const call of inOrder(byValue, (item) => item.inputs, subject)) {
    const missing = call.inputs.find((value) => !byValue.has(value));
    if (missing !== undefined)
      throw malformed(
        subject,
        `${JSON.stringify(missing.slice(0, 80))} as the input of ${JSON.stringify(call.layer.slice(0, 80))}`,
        "a layer of the model",
      );
    if (call.className === "InputLayer") inputs.push(inputValue(call));
    else translateLayer(draft, call);
  }
  return modelOf(draft, inputs, outputs, aboutTfjs(model));
}

/** Keras 2 calls the shape `batch_input_shape`, Keras 3 `batch_shape`. */
function inputValue({ value, config }: LayerCall): OnnxValue {
  const shape = arrayOf(config.batch_input_shape ?? config.batch_shape);
  const sizes = shape.map((size) => (typeof size === "number" ? size : null));
  return { name: value, dtype: "float32", ...(shape.length > 0 ? { shape: sizes } : {}) };
}

function malformed(subject: string, found: string, expected: string): InputError {
  return new InputError({ code: "format", subject, found, expected, remedy: "convert the model again" });
}
