import { DTYPES, elementCount, formatShape } from "../../../tensor.js";
import { quote } from "../refusals.js";
import { nameToDType } from "./dtypes.js";
import { type Header, MAX_METADATA, MAX_TENSORS, METADATA_KEY } from "./header.js";
import { malformed, unsupported } from "./refusals.js";

/** The official library's limit (safetensors/src/tensor.rs): a hostile header must not make the reader parse gigabytes. */
export const MAX_HEADER_BYTES = 100_000_000;

/**
 * The rules that a file must keep, read or written: each tensor's bytes are as many as its shape and type need, tensors
 * follow each other without holes or overlaps, and together they are all of the data.
 *
 * @param dataBytes what follows the header
 * @throws InputError (`format`) naming the tensor, `unsupported` for an element type that PyTorch's OSNets do not have
 */
export function validate({ metadata, tensors }: Header, dataBytes: number, subject: string): void {
  if (tensors.size > MAX_TENSORS)
    throw malformed(subject, `${tensors.size} tensors`, `at most ${MAX_TENSORS}`);
  if (metadata.size > MAX_METADATA)
    throw malformed(subject, `${metadata.size} keys in ${METADATA_KEY}`, `at most ${MAX_METADATA}`);
  let position = 0;
  const ordered = [...tensors].toSorted(
    ([, { dataOffsets: a }], [, { dataOffsets: b }]) => a[0] - b[0] || a[1] - b[1],
  );
  for (const [name, { dtype, shape, dataOffsets }] of ordered) {
    const tensor = `tensor ${quote(name)}`;
    const [begin, end] = dataOffsets;
    const size = elementSize(dtype, tensor, subject);
    if (begin !== position || end < begin)
      throw malformed(
        subject,
        `${tensor} at bytes ${begin} to ${end} of the data`,
        `it to begin at byte ${position}, where the one before ends`,
      );
    const needed = elementCount(shape) * size;
    if (end - begin !== needed)
      throw malformed(
        subject,
        `${tensor} in ${end - begin} bytes`,
        `the ${needed} that ${dtype} ${formatShape(shape)} takes`,
      );
    position = end;
  }
  if (position !== dataBytes)
    throw malformed(subject, `${dataBytes} bytes of data`, `the ${position} that the header describes`);
  const names = [...tensors.keys(), ...metadata.keys(), ...metadata.values()];
  const broken = names.find((name) => LONE_SURROGATE.test(name));
  if (broken !== undefined)
    throw malformed(subject, `the name ${quote(broken)}, which is not Unicode`, "text that UTF-8 can hold");
  if (tensors.has(METADATA_KEY)) throw malformed(subject, `a tensor called ${METADATA_KEY}`, "another name");
}

/** Half of a pair that UTF-16 uses for one character. */
const LONE_SURROGATE = /\p{Surrogate}/u;

function elementSize(name: string, tensor: string, subject: string): number {
  const dtype = nameToDType(name);
  if (dtype !== undefined) return DTYPES[dtype].BYTES_PER_ELEMENT;
  throw unsupported(subject, `${tensor} of type ${quote(name)}`);
}
