import { createHash } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Embeddings that were computed before, by what they were computed from: one file per model, backend and size, to which rows
 * are appended as they are computed, so that an interrupted run goes on where it stopped.
 *
 * A file is a line of JSON, `{"schema":"osnet-features/1","width":D}`, then rows of the picture's SHA-256 (32 bytes) and D
 * little-endian float32. A last row that is not whole, or a file of another form, is as if it were not there.
 */
export interface FeatureCache {
  get(digest: string): Float32Array | undefined;
  add(digest: string, features: Float32Array): void;
  /** Rows that were there at the start. */
  readonly found: number;
}

const SCHEMA = "osnet-features/1";
const DIGEST_BYTES = 32;
/** A header is far shorter. */
const MAX_HEADER = 200;

/** @param key all that the features depend on besides the picture */
export function featureCache(folder: string | undefined, key: readonly string[]): FeatureCache {
  const rows = new Map<string, Float32Array>();
  let file: string | undefined;
  let width: number | undefined;
  if (folder !== undefined) {
    mkdirSync(folder, { recursive: true });
    const name = createHash("sha256").update(key.join("\n")).digest("hex").slice(0, 32);
    file = join(folder, `${name}.features`);
    if (existsSync(file)) width = load(file, rows);
  }
  return {
    found: rows.size,
    get: (digest) => rows.get(digest),
    add(digest, features) {
      if (rows.has(digest)) return;
      rows.set(digest, features);
      if (file === undefined) return;
      if (width !== features.length) {
        width = features.length;
        writeFileSync(file, `${JSON.stringify({ schema: SCHEMA, width })}\n`);
      }
      const row = new Uint8Array(DIGEST_BYTES + 4 * features.length);
      row.set(Buffer.from(digest, "hex"));
      const view = new DataView(row.buffer);
      for (const [index, value] of features.entries()) view.setFloat32(DIGEST_BYTES + 4 * index, value, true);
      appendFileSync(file, row);
    },
  };
}

/** Reads the whole rows of a file and cuts off what is behind them; the width, or undefined if it is no such file. */
function load(file: string, rows: Map<string, Float32Array>): number | undefined {
  const bytes = readFileSync(file);
  const end = bytes.subarray(0, MAX_HEADER).indexOf("\n");
  if (end < 0) return undefined;
  const width = widthIn(bytes.toString("utf8", 0, end));
  if (width === undefined) return undefined;
  const size = DIGEST_BYTES + 4 * width;
  const count = Math.floor((bytes.length - end - 1) / size);
  for (let row = 0; row < count; row++) {
    const at = end + 1 + row * size;
    const features = Float32Array.from({ length: width }, (_, index) =>
      bytes.readFloatLE(at + DIGEST_BYTES + 4 * index),
    );
    rows.set(bytes.toString("hex", at, at + DIGEST_BYTES), features);
  }
  const whole = end + 1 + count * size;
  if (whole < bytes.length) truncateSync(file, whole);
  return width;
}

function widthIn(header: string): number | undefined {
  try {
    const { schema, width } = JSON.parse(header) as { readonly schema?: unknown; readonly width?: unknown };
    return schema === SCHEMA && typeof width === "number" && Number.isInteger(width) && width > 0
      ? width
      : undefined;
  } catch {
    return undefined;
  }
}
