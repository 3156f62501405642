import { arrayOf, type Json, type JsonObject } from "../../../formats/tfjs/index.js";
import type { Site, Translation } from "../translation.js";
import type { TfWindow } from "../windows.js";

/** One call of a Keras layer, to be written into the draft without its activation. */
export interface LayerSite extends Site {
  /** The layer's name: its weights are called `NAME/kernel`. */
  readonly layer: string;
  readonly config: JsonObject;
}

export type LayerTranslation = Translation<LayerSite>;

export function isChannelsFirst({ data_format: format }: JsonObject): boolean {
  return format === "channels_first";
}

/** Where a convolution's or a pool's window goes; a pool's stride is its size where it says none. */
export function windowOf(config: JsonObject, kernel?: Json): TfWindow {
  const channelsFirst = isChannelsFirst(config);
  // Keras's sizes, as TensorFlow has them per axis of the image.
  const perAxis = (value: Json | undefined): readonly number[] => {
    const [height = 1, width = 1] = pair(value);
    return channelsFirst ? [1, 1, height, width] : [1, height, width, 1];
  };
  return {
    ...(kernel === undefined ? {} : { kernel: perAxis(kernel) }),
    strides: perAxis(config.strides ?? kernel),
    dilations: perAxis(config.dilation_rate),
    padding: String(config.padding ?? "valid").toUpperCase(),
    channelsFirst,
  };
}

/** One or two numbers, or none. */
export function pair(value: Json | undefined): readonly number[] {
  const values = typeof value === "number" ? [value, value] : arrayOf(value);
  return values.map(Number);
}

/** A number or a list of them. */
export function list(value: Json | undefined): readonly number[] {
  return typeof value === "number" ? [value] : arrayOf(value).map(Number);
}
