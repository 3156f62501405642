import { createHash, randomUUID } from "node:crypto";
import { lstatSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileError } from "../../node/errors.js";
import { readPlainFile } from "../../node/read.js";
import { type Appended, createAppended } from "../../node/write.js";

/**
 * Embeddings that were computed before, by what they were computed from. A run appends what it computes to a file of its own, made when there is something
 * to keep, so that an interrupted run goes on where it stopped and two runs at a time do not write to one file.
 *
 * A file is a line of JSON, `{"schema":"osnet-features/2","key":HEX,"width":D}`, where the key is the SHA-256 of all that features depend on
 * besides the picture, then rows: the picture's SHA-256 (32 bytes), D little-endian float32, and the first 8 bytes of the SHA-256 of the
 * key and all this. Rows that are cut or damaged, and files of another form, links and pipes, are as if they were not there. The digest is against
 * damage: whoever can write to the folder decides what the features are, as with any cache.
 */
export interface FeatureCache {
  get(digest: string): Float32Array | undefined;
  add(digest: string, features: Float32Array): void;
  close(): void;
}

const SCHEMA = "osnet-features/2";
const DIGEST_BYTES = 32;
const CHECK_BYTES = 8;
/** A header is far shorter. */
const MAX_HEADER = 200;
/** As `expectFeatures` allows and more: a width says how much a row is. */
const MAX_WIDTH = 1 << 20;

/**
 * @param folder where the files are; undefined keeps features in memory only
 * @param key all that the features depend on besides the picture
 * @throws InputError (`file`) if the folder is a link, is none, or cannot be written
 */
export function featureCache(folder: string | undefined, key: readonly string[]): FeatureCache {
  const rows = new Map<string, Float32Array>();
  const digest = createHash("sha256").update(key.join("\n")).digest();
  const start = digest.toString("hex", 0, 16);
  if (folder !== undefined) {
    expectOwnFolder(folder);
    const names = readdirSync(folder).filter((name) => name.startsWith(start) && name.endsWith(".features"));
    for (const name of names.toSorted()) {
      const bytes = readPlainFile(join(folder, name));
      if (bytes) load(bytes, digest, rows);
    }
  }
  let file: Appended | undefined;
  return {
    get: (picture) => rows.get(picture),
    add(picture, features) {
      if (rows.has(picture)) return;
      rows.set(picture, features);
      if (folder === undefined) return;
      if (!file) {
        file = createAppended(join(folder, `${start}-${randomUUID()}.features`));
        const header = { schema: SCHEMA, key: digest.toString("hex"), width: features.length };
        file.append(new TextEncoder().encode(`${JSON.stringify(header)}\n`));
      }
      file.append(rowOf(digest, picture, features));
    },
    close: () => file?.close(),
  };
}

function expectOwnFolder(folder: string): void {
  mkdirSync(folder, { recursive: true });
  if (lstatSync(folder).isDirectory()) return;
  throw fileError(folder, "a link", "a folder", "name the folder itself");
}

function rowOf(key: Uint8Array, picture: string, features: Float32Array): Uint8Array {
  const row = new Uint8Array(DIGEST_BYTES + 4 * features.length + CHECK_BYTES);
  row.set(Buffer.from(picture, "hex"));
  const view = new DataView(row.buffer);
  for (const [index, value] of features.entries()) view.setFloat32(DIGEST_BYTES + 4 * index, value, true);
  row.set(checkOf(key, row.subarray(0, -CHECK_BYTES)), row.length - CHECK_BYTES);
  return row;
}

function checkOf(key: Uint8Array, content: Uint8Array): Uint8Array {
  return createHash("sha256").update(key).update(content).digest().subarray(0, CHECK_BYTES);
}

/** Takes the rows of a file that are whole. */
function load(bytes: Uint8Array, key: Buffer, rows: Map<string, Float32Array>): void {
  const end = bytes.subarray(0, MAX_HEADER).indexOf(0x0a);
  const width = end < 0 ? undefined : widthIn(new TextDecoder().decode(bytes.subarray(0, end)), key);
  if (width === undefined) return;
  const size = DIGEST_BYTES + 4 * width + CHECK_BYTES;
  for (let at = end + 1; at + size <= bytes.length; at += size) {
    const row = bytes.subarray(at, at + size);
    const content = row.subarray(0, -CHECK_BYTES);
    if (Buffer.compare(checkOf(key, content), row.subarray(-CHECK_BYTES)) !== 0) continue;
    const view = new DataView(row.buffer, row.byteOffset + DIGEST_BYTES);
    const features = Float32Array.from({ length: width }, (_, index) => view.getFloat32(4 * index, true));
    rows.set(Buffer.from(row.subarray(0, DIGEST_BYTES)).toString("hex"), features);
  }
}

function widthIn(header: string, key: Buffer): number | undefined {
  try {
    const found = JSON.parse(header) as Readonly<Record<string, unknown>> | null;
    const width = found?.width;
    const isOwn = found?.schema === SCHEMA && found.key === key.toString("hex");
    const isWidth = typeof width === "number" && Number.isInteger(width) && width > 0 && width <= MAX_WIDTH;
    return isOwn && isWidth ? width : undefined;
  } catch {
    return undefined;
  }
}
