/**
 * The header's JSON: one object of tensor names, each with `dtype`, `shape` and `data_offsets`, and `__metadata__`, an
 * object of strings. Read by its own grammar and not by JSON.parse, which silently keeps the last of duplicate keys,
 * and builds whatever a hostile header asks for before anyone can look at it.
 */
import { quote } from "../refusals.js";
import { JsonCursor } from "./json-cursor.js";
import { malformed } from "./refusals.js";

/** What the header says of one tensor; offsets count from the end of the header. */
export interface TensorInfo {
  /** The format's name of the element type, known or not. */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly dataOffsets: readonly [begin: number, end: number];
}

export interface Header {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
}

/** The key that is no tensor. */
export const METADATA_KEY = "__metadata__";

/** Ten times the tensors of any file published (large models are sharded); bounds what a header can allocate. */
export const MAX_TENSORS = 100_000;

/** Files published have a handful; millions would take minutes and gigabytes. */
export const MAX_METADATA = 10_000;

/** numpy's limit; PyTorch has the same. */
const MAX_RANK = 64;

const FIELDS = ["dtype", "shape", "data_offsets"] as const;

/** @throws InputError (`format`) naming the byte or the tensor */
export function parseHeader(text: string, subject: string): Header {
  const json = new JsonCursor(text, subject);
  const metadata = new Map<string, string>();
  const tensors = new Map<string, TensorInfo>();
  json.object("the header", (name) => {
    if (name === METADATA_KEY) {
      json.object(METADATA_KEY, (key) => {
        if (metadata.size === MAX_METADATA)
          throw malformed(subject, `more than ${MAX_METADATA} keys in ${METADATA_KEY}`, "fewer");
        metadata.set(key, json.string());
      });
      return;
    }
    if (tensors.size === MAX_TENSORS) throw malformed(subject, `more than ${MAX_TENSORS} tensors`, "fewer");
    tensors.set(name, parseTensorInfo(json, name, subject));
  });
  json.end();
  return { metadata, tensors };
}

/** The fields stand in any order, each once, and nothing besides. */
function parseTensorInfo(json: JsonCursor, name: string, subject: string): TensorInfo {
  const tensor = `tensor ${quote(name)}`;
  let dtype: string | undefined;
  let shape: readonly number[] | undefined;
  let offsets: readonly number[] | undefined;
  json.object(tensor, (field) => {
    if (field === "dtype") dtype = json.string();
    else if (field === "shape") shape = json.integers(MAX_RANK);
    else if (field === "data_offsets") offsets = json.integers(2);
    else throw malformed(subject, `${tensor} with a field ${quote(field)}`, FIELDS.join(", "));
  });
  const [begin, end] = offsets ?? [];
  if (dtype === undefined || shape === undefined || begin === undefined || end === undefined)
    throw malformed(subject, `${tensor} with an incomplete description`, FIELDS.join(", "));
  return { dtype, shape, dataOffsets: [begin, end] };
}

/** The header's text, in the order of the maps, as the official library writes it: no spaces, metadata first. */
export function serializeHeader({ metadata, tensors }: Header): string {
  const entries = [...tensors].map(
    ([name, { dtype, shape, dataOffsets }]) =>
      `${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: dataOffsets })}`,
  );
  const pairs = [...metadata].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
  const first = pairs.length > 0 ? [`${JSON.stringify(METADATA_KEY)}:{${pairs.join(",")}}`] : [];
  return `{${[...first, ...entries].join(",")}}`;
}
