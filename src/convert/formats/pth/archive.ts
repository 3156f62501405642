import type { ByteSource } from "../../../core/bytes.js";
import { InputError } from "../../../core/errors.js";
import { once } from "../../../core/functions.js";
import { Cursor, decodeLatin1 } from "../cursor.js";
import { type Budget, corrupt, quote, type Region, unsupported } from "../refusals.js";
import { openZipEntry, readZipDirectory, readZipEntry, type ZipEntry } from "../zip.js";
import { pickleEnvironment } from "./legacy.js";
import { runPickle } from "./pickle/machine.js";
import { createStorageTable, type Unpickled } from "./storages.js";

/**
 * PyTorch's zip container, since 1.4 (TorchScript) and 1.6 (torch.save): one folder with `data.pkl`, storages as
 * `data/KEY`, and `byteorder` since 2.1. Source: torch/serialization.py (`_save`, `_load`) and
 * caffe2/serialize/inline_container.h. A storage's declared size must be its entry's size (CVE-2026-24747).
 */

/** Reads a zip container. Storages are located, and inflated if necessary, only when their bytes are needed. */
export function readArchive(source: ByteSource, region: Region, budget: Budget): Unpickled {
  const directory = readZipDirectory(source, region);
  const folder = findFolder(directory, region);
  // PyTorch looks them up whatever their case.
  const names = new Map([...directory.keys()].map((name) => [name.toLowerCase(), name]));
  const entry = (name: string) => {
    const found = names.get((folder + name).toLowerCase());
    if (found === undefined || found === folder + name) return directory.get(folder + name);
    throw unsupported(region, `a zip entry named ${quote(found)}`, quote(folder + name));
  };
  const read = (found: ZipEntry) => readZipEntry(source, found, budget, region);

  const bigEndian = isBigEndian(entry("byteorder"), read, region);
  const constants = entry("constants.pkl");
  /** Runs a pickle whose storages are in a folder of the archive. */
  const load = (pickle: ZipEntry, folder: string) => {
    const pickleRegion: Region = { ...region, part: pickle.name };
    const storageTable = createStorageTable(pickleRegion, "zip", ({ key, length, elementBytes }) => {
      const open = once(() => {
        const name = `${folder}/${key}`;
        const data = entry(name);
        if (data === undefined) throw corrupt(region, `no entry ${quote(name)}`, "one for each storage");
        if (data.size !== length * elementBytes) {
          throw corrupt(
            region,
            `${data.size} bytes in ${quote(data.name)}`,
            `the ${length * elementBytes} that ${pickle.name.split("/").at(-1)} declares`,
          );
        }
        return openZipEntry(source, data, budget, region);
      });
      return { read: (start, end) => open()(start, end), bigEndian };
    });
    return runPickle(new Cursor(read(pickle), pickleRegion), {
      ...pickleEnvironment(budget),
      isScript: constants !== undefined,
      persistentLoad: storageTable,
    });
  };
  const pickle = entry("data.pkl");
  if (pickle === undefined) throw corrupt(region, "no data.pkl", "one");
  // Where it exists, torch.jit.load reads this older description of a model, and nothing else.
  if (entry("model.json") !== undefined)
    throw unsupported(
      region,
      "a TorchScript model in an older format",
      "the format that torch.jit.save writes now",
    );
  const root = load(pickle, "data");
  const isDeflated = [...directory.values()].some(
    ({ name, size, compressedSize }) => name.startsWith(`${folder}data/`) && compressedSize !== size,
  );
  if (constants === undefined) return { container: "zip", root, isDeflated };
  // torch.jit.load ignores the byte-order record, and reads the bytes unchanged.
  if (bigEndian) throw unsupported(region, "a TorchScript archive with the byte order big", "little");
  const code = (path: string): string | undefined => {
    const found = entry(`code/${path.replaceAll(".", "/")}.py`);
    return found && decodeLatin1(read(found));
  };
  return {
    container: "torchscript",
    root,
    script: { code, constants: once(() => load(constants, "constants")) },
  };
}

/** The folder with data.pkl, with its slash; empty at the top level. */
function findFolder(directory: ReadonlyMap<string, ZipEntry>, region: Region): string {
  const names = [...directory.keys()];
  const pickles = names.filter((name) => name === "data.pkl" || /^[^/]+\/data\.pkl$/.test(name));
  const [first, second] = pickles;
  if (second !== undefined) {
    throw unsupported(region, `${pickles.length} checkpoints in one zip archive`, "one");
  }
  if (first !== undefined) {
    const folder = first.slice(0, -"data.pkl".length);
    // PyTorch uses the folder of the first entry.
    if (!names[0]?.startsWith(folder))
      throw unsupported(region, "a zip archive of several folders", "one checkpoint");
    return folder;
  }
  const listed = names.slice(0, 3).map(quote).join(", ");
  const refuse = (found: string, remedy: string) =>
    new InputError({
      code: "unsupported",
      subject: region.subject,
      found,
      expected: "a PyTorch archive, which has data.pkl",
      remedy,
    });
  if (names.length > 0 && names.every((name) => name.endsWith(".npy")))
    throw refuse("a NumPy .npz archive", "convert it as npz");
  if (names.includes("model.weights.h5"))
    throw refuse(
      "a Keras model",
      "export it to ONNX with tf2onnx, or to TensorFlow.js with tensorflowjs_converter",
    );
  if (names.some((name) => /^[^/]+\/data\/(?:weights|constants)\//.test(name)))
    throw refuse(
      "a program of torch.export",
      "load it with torch.export.load, and save its weights with torch.save(program.state_dict, path)",
    );
  throw refuse(
    `a zip archive of other files (${listed === "" ? "empty" : listed})`,
    names.length > 0
      ? "unpack it, and use the checkpoint or the model inside"
      : "download or copy the file again",
  );
}

function isBigEndian(
  entry: ZipEntry | undefined,
  read: (entry: ZipEntry) => Uint8Array,
  region: Region,
): boolean {
  // Before 2.1 the byte order was not recorded, and existing files come from little-endian machines.
  if (entry === undefined) return false;
  const order = String.fromCharCode(...read(entry).subarray(0, 16));
  if (order !== "little" && order !== "big") {
    throw corrupt(region, `the byte order ${quote(order)}`, "little or big");
  }
  return order === "big";
}
