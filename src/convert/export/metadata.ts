import { type OsnetSpec, parseSpec } from "../../arch/index.js";
import { InputError } from "../../core/errors.js";
import type { Negligible } from "./negligible.js";
import { PIXEL_ORDERS, type PixelOrder } from "./options.js";

/** The metadata of models that osnet-convert writes: ONNX's `metadata_props`, TensorFlow.js's `userDefinedMetadata`. */

/** The architecture, as JSON. */
const SPEC = "osnet.spec";
/** Whether batch norms are folded: `true` or `false`. */
const FOLDED = "osnet.folded";
/** The channel order of raw pixels; a model without it takes normalised images. */
const PREPROCESS = "osnet.preprocess";

/**
 * The number of negligible weights that were set to zero, if any, and the largest change that this causes.
 */
const ZEROED = "osnet.zeroed";

export function modelMetadata(
  spec: OsnetSpec,
  { fold, preprocess }: { readonly fold: boolean; readonly preprocess: PixelOrder | undefined },
  zeroed: Pick<Negligible, "count" | "bound"> | undefined,
): Readonly<Record<string, string>> {
  return {
    [SPEC]: JSON.stringify(spec),
    [FOLDED]: String(fold),
    ...(preprocess === undefined ? {} : { [PREPROCESS]: preprocess }),
    ...(zeroed ? { [ZEROED]: JSON.stringify({ count: zeroed.count, bound: zeroed.bound }) } : {}),
  };
}

type Metadata = ReadonlyMap<string, string>;

/** What an osnet-convert model's metadata states about weights set to zero; undefined if none were. */
export function statedZeros(
  metadata: ReadonlyMap<string, unknown>,
): Pick<Negligible, "count" | "bound"> | undefined {
  const text = metadata.get(ZEROED);
  return typeof text === "string" ? JSON.parse(text) : undefined;
}

/** Whether a model's metadata states its architecture, as osnet-convert's models do. */
export function statesSpec(metadata: Metadata): boolean {
  return metadata.has(SPEC);
}

/**
 * The architecture in a model's metadata; undefined if there is none.
 *
 * @throws InputError (`format`) if it is not a valid architecture description
 */
export function statedSpec(metadata: Metadata, subject: string): OsnetSpec | undefined {
  const text = metadata.get(SPEC);
  return text === undefined ? undefined : parseSpec(text, `${subject}, metadata ${SPEC}`);
}

/**
 * The channel order of raw pixels that a model declares; undefined if it takes normalised images.
 *
 * @throws InputError (`format`) if it declares another preprocessing
 */
export function declaredPixels(metadata: Metadata, subject: string): PixelOrder | undefined {
  const value = metadata.get(PREPROCESS);
  const order = PIXEL_ORDERS.find((name) => name === value);
  if (value === undefined || order) return order;
  throw new InputError({
    code: "format",
    subject: `${subject}, metadata ${PREPROCESS}`,
    found: JSON.stringify(value).slice(0, 60),
    expected: PIXEL_ORDERS.join(" or "),
    remedy: "convert the checkpoint again",
  });
}
