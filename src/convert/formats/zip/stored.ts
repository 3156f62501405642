/**
 * Zip archives as numpy.savez and torch.save write them: entries one after the other, none compressed. The same
 * entries give the same bytes, whatever the time and its zone. Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7 and 4.5.
 */
import { type Zippable, zipSync } from "fflate";
import { InputError } from "../../../errors.js";

/** The first day that a zip archive can state, as numpy and PyTorch write it; midnight where the program runs. */
const TIMESTAMP = new Date(1980, 0, 1);

/** Bytes of a local header besides the name, and of an extra field besides its content. */
const LOCAL_HEADER_BYTES = 30;
const EXTRA_HEADER_BYTES = 4;

/** Of the extra field that pads, as PyTorch calls it: "FB" (caffe2/serialize/inline_container.cc, `getPadding`). */
const PADDING_ID = 0x4246;

/** What the directory's 16-bit count holds; archives with more are zip64, and no network has as many tensors. */
const MAX_ENTRIES = 0xffff - 1;

/**
 * An archive of the entries, in their order.
 *
 * @param alignment a power of two: every entry's data starts at a multiple of it
 * @throws InputError (`unsupported`) for more entries than an archive can have
 */
export function encodeStoredZip(
  entries: ReadonlyMap<string, Uint8Array>,
  { subject, alignment = 1 }: { readonly subject: string; readonly alignment?: number },
): Uint8Array {
  if (entries.size > MAX_ENTRIES)
    throw new InputError({
      code: "unsupported",
      subject,
      found: `${entries.size} entries`,
      expected: `the ${MAX_ENTRIES} that a zip archive can have`,
      remedy: "write safetensors instead",
    });
  const files: Zippable = {};
  let offset = 0;
  for (const [name, data] of entries) {
    const nameEnd = offset + LOCAL_HEADER_BYTES + new TextEncoder().encode(name).length;
    const extra = alignment > 1 ? paddingField(nameEnd, alignment) : {};
    const extraBytes = Object.values(extra).reduce(
      (sum, field) => sum + EXTRA_HEADER_BYTES + field.length,
      0,
    );
    files[name] = [data, { extra }];
    offset = nameEnd + extraBytes + data.length;
  }
  return zipSync(files, { level: 0, mtime: TIMESTAMP });
}

/** The extra field that ends at a multiple of the alignment if it begins at `start`. */
function paddingField(start: number, alignment: number): Record<number, Uint8Array> {
  const content = start + EXTRA_HEADER_BYTES;
  return { [PADDING_ID]: new Uint8Array((alignment - (content % alignment)) % alignment) };
}
