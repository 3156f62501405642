import { openNpz } from "../convert/formats/npz.js";
import { isModelFormat } from "../convert/formats/registry.js";
import { sniffFormat } from "../convert/formats/sniff.js";
import { tfjsShardPaths } from "../convert/formats/tfjs/codec.js";
import { isWeightsArchive } from "../convert/open/checkpoint.js";
import { headOf, type NamedBytes, toBytes } from "../core/bytes.js";
import { BlobSource, canReadRanges, readWhole } from "./blob-source.js";

/** A file that a user chose or dropped; a `File` with its path in the folder that was dropped. */
export interface ChosenFile {
  /** The name, or the path inside a folder with forward slashes, as `webkitRelativePath` has it. */
  readonly path: string;
  /** The content, which is not read before a file is opened. */
  readonly blob: Blob;
}

/** A checkpoint or a model, of one file or several: not read yet, so that it can be sent to a worker. */
export interface ChosenModel {
  /** What reports and messages call it: the file's name, or the folder's of a TensorFlow.js model. */
  readonly name: string;
  /** The checkpoint, the ONNX file or the model.json. */
  readonly main: ChosenFile;
  /** Weight files beside a model.json or an ONNX file, by their paths from there. */
  readonly beside: readonly ChosenFile[];
}

const MODEL_SUFFIX = /\.(pth|pt|pyth|pkl|ckpt|bin|tar|safetensors|npz|onnx)(-\d+)?$/i;

/**
 * Finds the models among files that were chosen together: beside a JSON file its `.bin` shards, beside an ONNX file
 * whatever is no model by its name. What else a folder holds (a README, licences) is left out; a file that was chosen
 * by itself is a model whatever its name, and its reader says what is wrong with it.
 */
export function groupFiles(files: readonly ChosenFile[]): readonly ChosenModel[] {
  const folders = new Map<string, ChosenFile[]>();
  for (const { path, blob } of files) {
    if (/(^|\/)(\.|__MACOSX\/)/.test(path)) continue;
    const folder = path.slice(0, path.lastIndexOf("/") + 1);
    const members = folders.get(folder) ?? [];
    members.push({ path: path.slice(folder.length), blob });
    folders.set(folder, members);
  }
  return [...folders].flatMap(([folder, members]) => groupFolder(folder, members));
}

function groupFolder(folder: string, members: readonly ChosenFile[]): readonly ChosenModel[] {
  const json = members.filter(({ path }) => /\.json$/i.test(path));
  const shards = json.length > 0 ? members.filter(({ path }) => /\.bin$/i.test(path)) : [];
  const models = members.filter((file) => MODEL_SUFFIX.test(file.path) && !shards.includes(file));
  const rest = members.filter((file) => ![json, shards, models].some((group) => group.includes(file)));
  // A config.json beside a checkpoint is no model; one that was chosen by itself may be meant as one.
  const isModel = shards.length > 0 || models.length === 0;
  const topologies = isModel ? json.filter(({ path }) => json.length === 1 || path === "model.json") : [];
  const hasOnnx = models.some(({ path }) => isOnnx(path));
  const strays = hasOnnx || folder !== "" ? [] : rest;
  return [
    ...topologies.map((main) => ({
      name: folder === "" ? main.path : (folder.split("/").at(-2) ?? main.path),
      main,
      beside: shards,
    })),
    ...models.map((main) => ({ name: main.path, main, beside: isOnnx(main.path) ? rest : [] })),
    ...strays.map((main) => ({ name: main.path, main, beside: [] })),
  ];
}

function isOnnx(path: string): boolean {
  return /\.onnx$/i.test(path);
}

/**
 * Opens a chosen model: in a worker by ranges where its reader asks for them, in a window whole.
 *
 * @throws InputError (`file`) if a file cannot be read any more; (`format`) if a model.json is none
 */
export async function openChosen({ name, main, beside }: ChosenModel): Promise<NamedBytes> {
  const bytes = canReadRanges() ? new BlobSource(name, main.blob) : await readWhole(name, main.blob);
  const format = sniffFormat(bytes);
  if (!isModelFormat(format)) return { name, bytes };
  const files = new Map<string, Uint8Array>();
  const read = async (wanted: readonly ChosenFile[]): Promise<void> => {
    for (const { path, blob } of wanted) files.set(path, await readWhole(path, blob));
  };
  const whole = toBytes(bytes);
  if (format === "onnx") {
    if (!canReadRanges()) await read(beside);
    const get = (path: string) => files.get(path) ?? readBeside(beside, path, files);
    return { name, bytes: whole, beside: { get } };
  }
  const paths = new Set(tfjsShardPaths(whole, { subject: name }));
  await read(beside.filter(({ path }) => paths.has(path)));
  return { name, bytes: whole, beside: files };
}

/** A weight file, read when its model names it. */
function readBeside(
  beside: readonly ChosenFile[],
  path: string,
  files: Map<string, Uint8Array>,
): Uint8Array | undefined {
  const file = beside.find((candidate) => candidate.path === path);
  if (!file || !canReadRanges()) return undefined;
  const source = new BlobSource(path, file.blob);
  const bytes = headOf(source, source.length);
  files.set(path, bytes);
  return bytes;
}

/** Whether a file is a recording of activations: a reference to hold a model against, which is not converted. */
export function isRecording({ name, bytes }: NamedBytes): boolean {
  return sniffFormat(bytes) === "npz" && !isWeightsArchive(openNpz(bytes, name).names);
}
