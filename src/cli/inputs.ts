import { readdir } from "node:fs/promises";
import { basename, extname, join, resolve } from "node:path";
import { isVariantName, type OsnetSpec, parseSpec } from "../arch/index.js";
import { printable } from "../convert/formats/refusals.js";
import {
  type FileFormat,
  FORMATS,
  formatOfName,
  isModelFormat,
  type ModelFormat,
} from "../convert/formats/registry.js";
import { EXPORT_KERAS, MADE_FROM, MERGE_SHARDS } from "../convert/formats/sniff.js";
import { type Checkpoint, openCheckpoint } from "../convert/open/checkpoint.js";
import type { ModelCheckpoint } from "../convert/open/lift.js";
import type { NamedBytes } from "../core/bytes.js";
import { definedOf } from "../core/functions.js";
import { formatShape, type Tensor } from "../core/tensor.js";
import { isDType } from "../core/tensor-cast.js";
import { someOf } from "../core/text.js";
import { fileError, filesBeside, isFolder, openInput, readInput } from "../node/read.js";
import type { OpenOptions } from "../verify/open.js";
import { badArgument } from "./options.js";
import { type Io, readingProgress } from "./terminal.js";

/** A spec of 500 blocks, more than any network has, takes 100 KB. */
const MAX_SPEC_BYTES = 4 * 2 ** 20;

/** `--arch`: a variant's name, or the path of a spec.json. */
export async function readArchitecture(text: string | undefined): Promise<string | OsnetSpec | undefined> {
  if (text === undefined || isVariantName(text) || !text.endsWith(".json")) return text;
  return parseSpec(new TextDecoder().decode(await readInput(text, { most: MAX_SPEC_BYTES })), basename(text));
}

/** A file that was read completely. */
type ReadFile = NamedBytes & { readonly bytes: Uint8Array };

/** Reads a model: a file, a TensorFlow.js folder, or the model.json in one. */
export async function readModel(
  path: string,
  io: Io,
  show: { readonly quiet?: boolean; readonly json?: boolean } = {},
): Promise<ReadFile> {
  const file = (await isFolder(path)) ? await modelIn(path) : path;
  const bar = readingProgress(file, show, io);
  const bytes = await readInput(file, { onProgress: bar.update, stdin: io.stdin });
  bar.clear();
  const name = basename(path);
  return file === "-" ? { name, bytes } : { name, bytes, beside: filesBeside(file), path: resolve(file) };
}

/** The model.json in a folder. @throws InputError (`file`) naming what the folder has instead */
async function modelIn(folder: string): Promise<string> {
  const names = (await readdir(folder).catch(() => [])).sort();
  const known = names.find((name) => formatOfName(name) !== undefined && !name.endsWith(".json"));
  if (names.length === 0 || names.includes("model.json")) return join(folder, "model.json");
  const other = OTHER_FOLDERS.find(({ has }) => names.some((name) => has.test(name)));
  throw fileError(
    basename(folder),
    `a folder with ${someOf(names.map(printable))}`,
    "one with a model.json",
    other?.remedy ?? (known ? `pass ${join(folder, known)}` : "pass the checkpoint or the model itself"),
  );
}

/** Folders of other formats, by a file in them. */
const OTHER_FOLDERS: readonly { readonly has: RegExp; readonly remedy: string }[] = [
  { has: /\.index\.json$/, remedy: MERGE_SHARDS },
  { has: /^saved_model\.pb$/, remedy: EXPORT_KERAS },
  { has: /\.xml$|^Manifest\.json$/, remedy: MADE_FROM },
];

interface SourceOptions {
  readonly arch?: string;
  readonly key?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** A file to convert, decoded. */
export interface Source extends NamedBytes {
  readonly checkpoint: Checkpoint & Partial<Pick<ModelCheckpoint, "outputs">>;
}

/** A source that may be read further until it is closed. */
interface OpenSource extends Source {
  /** Whether a runtime can load it. Default true. */
  readonly isRunnable?: boolean;
  close(): void;
}

/** Reads a file to convert: weights, or those imported from a model. */
export async function openSource(
  input: string,
  format: FileFormat,
  options: SourceOptions,
  io: Io,
): Promise<OpenSource> {
  const arch = await readArchitecture(options.arch);
  if (isModelFormat(format)) return openModelSource(input, format, arch, options, io);
  const name = input === "-" ? "standard input" : basename(input);
  const bar = readingProgress(input, options, io);
  const bytes = await openInput(input, { onProgress: bar.update, stdin: io.stdin, isShared: true });
  try {
    const checkpoint = openCheckpoint(bytes, {
      subject: name,
      format,
      ...definedOf({ key: options.key, arch }),
    });
    return { name, bytes, checkpoint, close: () => bytes.close() };
  } catch (error) {
    bytes.close();
    throw error;
  } finally {
    bar.clear();
  }
}

/** @throws InputError (`argument`) for standard input, which is a single file, if models of the format have several */
async function openModelSource(
  input: string,
  format: ModelFormat,
  arch: string | OsnetSpec | undefined,
  options: SourceOptions,
  io: Io,
): Promise<OpenSource> {
  if (input === "-" && FORMATS[format].main !== undefined)
    throw badArgument(
      "standard input",
      "one file",
      `the folder of ${FORMATS[format].noun}, which has several files`,
      `pass the folder or its ${FORMATS[format].main}`,
    );
  const { openModelFile } = await import("../convert/open/open-file.js");
  const { liftCheckpoint } = await import("../convert/open/lift.js");
  const read = await readModel(input, io, options);
  const file = input === "-" ? { ...read, name: "standard input" } : read;
  const checkpoint = liftCheckpoint(openModelFile(format, file), definedOf({ arch }));
  return { ...file, checkpoint, isRunnable: checkpoint.isRunnable, close: () => undefined };
}

type Images = OpenOptions["images"];

/** More than the images of any run, with their header. */
const MAX_ARRAY_BYTES = 2 ** 26;

/** More than any picture with an accepted number of pixels. */
const MAX_PICTURE_BYTES = 2 ** 28;

/** Limit on the pixels of all pictures, which are in memory together: 300 MB. */
const MAX_PICTURES_PIXELS = 100_000_000;

const PHOTO = /\.(jpe?g|png)$/i;

/** `--input`: `seed:N`, `auto`, an .npy file of [N, 3, H, W] float32, or pictures. */
export async function readImages(sources: readonly string[] | undefined): Promise<Images> {
  const [first, ...others] = sources ?? [];
  if (first === undefined) return undefined;
  if ([first, ...others].every((source) => PHOTO.test(source))) return readPhotos([first, ...others]);
  if (others.length > 0)
    throw badArgument(
      "--input",
      `${others.length + 1} sources`,
      "one source, or several pictures",
      "pass only one",
    );
  if (first === "auto") return "auto";
  const seed = /^seed:(\d{1,9})$/.exec(first)?.[1];
  if (seed !== undefined) return { seed: Number(seed) };
  if (extname(first) === ".npy") return readArray(first);
  const choices = "seed:N, auto, an .npy file, or .jpg and .png pictures";
  throw badArgument("--input", JSON.stringify(first), choices, "use one of these");
}

async function readArray(path: string): Promise<Images> {
  const source = basename(path);
  const { decodeNpy } = await import("../convert/formats/npz.js");
  const tensor: Tensor = decodeNpy(await readInput(path, { most: MAX_ARRAY_BYTES }), source);
  const { shape } = tensor;
  if (isDType(tensor, "float32") && shape.length === 4 && shape[1] === 3) return { source, tensor };
  throw badArgument(
    source,
    `${tensor.dtype} ${formatShape(tensor.shape)}`,
    "float32 images [N, 3, H, W]",
    "save images in PyTorch's layout with numpy.save",
  );
}

async function readPhotos(paths: readonly string[]): Promise<Images> {
  const { decodePhoto } = await import("../verify/inputs/photos.js");
  const photos = [];
  // Sequentially, so that only one picture is decoded at a time besides the pixels that are kept.
  let pixels = 0;
  for (const path of paths) {
    const photo = await decodePhoto(await readInput(path, { most: MAX_PICTURE_BYTES }), basename(path));
    pixels += photo.width * photo.height;
    if (pixels > MAX_PICTURES_PIXELS)
      throw badArgument(
        "--input",
        `pictures of more than ${MAX_PICTURES_PIXELS / 1e6} million pixels in total`,
        "pictures that fit in memory",
        "make them smaller; the network sees 256×128",
      );
    photos.push(photo);
  }
  const names = paths.map((path) => basename(path));
  const more = names.length > 3 ? ` and ${names.length - 3} more` : "";
  return { source: `${names.slice(0, 3).join(", ")}${more}`, photos };
}
