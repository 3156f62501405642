import { basename, extname } from "node:path";
import { decodeNpy } from "../convert/formats/npz.js";
import { formatShape, type Tensor } from "../core/tensor.js";
import { isDType } from "../core/tensor-cast.js";
import { readInput } from "../node/index.js";
import type { OpenOptions } from "../verify/open.js";
import { badArgument } from "./options.js";

type Images = OpenOptions["images"];

/** More than the images of any run take, and the header before them. */
const MAX_ARRAY_BYTES = 2 ** 26;

/** No picture of so many pixels as are read takes more. */
const MAX_PICTURE_BYTES = 2 ** 28;

/** Pixels of all pictures together, which are in memory at once: 300 MB. */
const MAX_PICTURES_PIXELS = 100_000_000;

const PHOTO = /\.(jpe?g|png)$/i;

/** `--input`: `seed:N`, `auto`, an .npy file of [N, 3, H, W] float32, or pictures. */
export async function readImages(sources: readonly string[] | undefined): Promise<Images> {
  const [first, ...others] = sources ?? [];
  if (first === undefined) return undefined;
  if ([first, ...others].every((source) => PHOTO.test(source))) return readPhotos([first, ...others]);
  if (others.length > 0)
    throw badArgument("--input", `${others.length + 1} sources`, "one, or pictures only", "give one of them");
  if (first === "auto") return "auto";
  const seed = /^seed:(\d{1,9})$/.exec(first)?.[1];
  if (seed !== undefined) return { seed: Number(seed) };
  if (extname(first) === ".npy") return readArray(first);
  const choices = "seed:N, auto, an .npy file, or .jpg and .png pictures";
  throw badArgument("--input", JSON.stringify(first), choices, "give one of them");
}

async function readArray(path: string): Promise<Images> {
  const source = basename(path);
  const tensor: Tensor = decodeNpy(await readInput(path, { most: MAX_ARRAY_BYTES }), source);
  const { shape } = tensor;
  if (isDType(tensor, "float32") && shape.length === 4 && shape[1] === 3) return { source, tensor };
  throw badArgument(
    source,
    `${tensor.dtype} ${formatShape(tensor.shape)}`,
    "float32 images [N, 3, H, W]",
    "save them with numpy.save as PyTorch takes them",
  );
}

async function readPhotos(paths: readonly string[]): Promise<Images> {
  const { decodePhoto } = await import("../verify/inputs/photos.js");
  const photos = [];
  // One after the other, so that no more than one is unpacked beside the pixels that are kept.
  let pixels = 0;
  for (const path of paths) {
    const photo = await decodePhoto(await readInput(path, { most: MAX_PICTURE_BYTES }), basename(path));
    pixels += photo.width * photo.height;
    if (pixels > MAX_PICTURES_PIXELS)
      throw badArgument(
        "--input",
        `pictures of more than ${MAX_PICTURES_PIXELS / 1e6} million pixels in all`,
        "as much as fits into memory",
        "make them smaller; the network sees 256×128",
      );
    photos.push(photo);
  }
  const names = paths.map((path) => basename(path));
  const more = names.length > 3 ? ` and ${names.length - 3} more` : "";
  return { source: `${names.slice(0, 3).join(", ")}${more}`, photos };
}
