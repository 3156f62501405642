import { basename, extname } from "node:path";
import { encodeNpy, encodeNpz } from "../../convert/formats/npz.js";
import { encodeSafetensors } from "../../convert/formats/safetensors.js";
import type { RealTensor, Tensor } from "../../core/tensor.js";
import { expectNotInputs, expectWritable, writeFilesChecked } from "../../node/index.js";
import { badArgument } from "../options.js";
import type { ExitStatus } from "../program.js";
import type { Io } from "../terminal.js";
import { openDataset } from "./dataset.js";
import { embedPictures } from "./embed-pictures.js";
import { type EmbeddingOptions, MAX_BROKEN, readEmbedder, readingOf } from "./features.js";

interface EmbedOptions extends EmbeddingOptions {
  readonly data: string;
  readonly out: string;
  readonly shard?: string;
  readonly force?: boolean;
}

/** `osnet-verify embed`: features of pictures, [pictures, D] float32, and beside them a list of the pictures' paths. */
export async function embedCommand(model: string, options: EmbedOptions, io: Io): Promise<ExitStatus> {
  const { out, force = false } = options;
  const encode = encoderOf(out);
  const list = `${out.slice(0, -extname(out).length)}.txt`;
  await expectWritable(out, force);
  await expectWritable(list, force);
  await expectNotInputs([out, list], [model, options.arch]);
  const { dataset, folder } = openDataset(options.data);
  const all = [...new Set([...dataset.queries, ...dataset.gallery].map(({ path }) => path))];
  const embedder = await readEmbedder(model, options, io);
  try {
    const { features, paths, broken, cached } = await embedPictures(embedder, shardOf(all, options.shard), {
      folder,
      cache: options.cache,
      readAs: readingOf(options),
      maxBroken: options.maxBroken ?? MAX_BROKEN,
      io,
    });
    const text = new TextEncoder();
    await writeFilesChecked(
      new Map([
        [out, encode(features, basename(out))],
        [list, text.encode(paths.map((path) => `${path}\n`).join(""))],
      ]),
      { force, check: async () => undefined, accept: () => true, obsolete: undefined },
    );
    for (const { problem } of broken) io.stderr.write(`left out: ${problem}\n`);
    if (!options.quiet)
      io.stdout.write(
        `wrote ${basename(out)}: ${paths.length} × ${features.shape[1]} features by ${embedder.party.name} in ${embedder.backend}${cached > 0 ? `, ${cached} from the cache` : ""}; their pictures are listed in ${basename(list)}\n`,
      );
    return 0;
  } finally {
    await embedder.release();
  }
}

function encoderOf(out: string): (features: RealTensor, subject: string) => Uint8Array {
  const named = (features: RealTensor): ReadonlyMap<string, Tensor> => new Map([["features", features]]);
  switch (extname(out)) {
    case ".npy":
      return encodeNpy;
    case ".npz":
      return (features, subject) => encodeNpz(named(features), { subject });
    case ".safetensors":
      return (features, subject) => encodeSafetensors(named(features), { subject });
    default:
      throw badArgument("--out", JSON.stringify(out), "a .npy, .npz or .safetensors file", "name one");
  }
}

/** The i-th of n shares, each as long as the others but for one picture. */
function shardOf(paths: readonly string[], text: string | undefined): readonly string[] {
  if (text === undefined) return paths;
  const [, index, count] = /^(\d{1,4})\/(\d{1,4})$/.exec(text)?.map(Number) ?? [];
  if (!index || !count || index > count)
    throw badArgument("--shard", JSON.stringify(text), "i/n, the i-th of n shares", "give one such as 2/4");
  return paths.filter((_, position) => position % count === index - 1);
}
