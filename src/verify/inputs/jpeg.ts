/**
 * JPEG pictures (ITU-T T.81), decoded by libjpeg-turbo, which is loaded on first use: bit-identical to Pillow's result,
 * and therefore to torchreid's and torchvision's (slow integer DCT, interpolated chroma).
 *
 * Accepted: baseline and progressive, 8 bits, grey, YCbCr or RGB, chroma at full, half or quarter size; damaged data
 * from which libjpeg recovers, as in Pillow. Refused: 12 bits, CMYK, arithmetic or lossless coding, other sampling,
 * truncated files, more scans than `MAX_SCAN_PIXELS` allow (each covers the whole picture, for a few bytes of file).
 */

import { concatenate } from "../../core/bytes.js";
import { type JpegCodec, loadJpegDecoder } from "../backends/node-packages.js";
import { broken, expectSize, type Pixels, unsupported } from "./images.js";

const MAX_SCANS = 64;

/**
 * Pixels times scans, which is what decoding costs: a second or two. A progressive picture of libjpeg's has 10 scans, of mozjpeg's up to about
 * 12: a progressive picture may have 16 million pixels and more.
 */
const MAX_SCAN_PIXELS = 200_000_000;

/** The codec's memory grows with a picture and never shrinks: after a larger one, it is released. */
const KEPT_PIXELS = 4_000_000;

export function isJpeg(bytes: Uint8Array): boolean {
  return bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;
}

/** @throws InputError (`format`, `unsupported`) if it is broken, too large, or of a kind that is not read */
export async function decodeJpeg(bytes: Uint8Array, subject: string): Promise<Pixels> {
  const { width, height, firstScan, plain } = readFrame(bytes, subject);
  expectSize(width, height, subject);
  const scans = countScans(bytes.subarray(firstScan));
  if (scans > MAX_SCANS) throw unsupported(subject, `a JPEG with ${scans} scans`, `at most ${MAX_SCANS}`);
  if (scans * width * height > MAX_SCAN_PIXELS)
    throw unsupported(
      subject,
      `a JPEG of ${width}×${height} pixels in ${scans} scans`,
      `at most ${MAX_SCAN_PIXELS / 1e6} million pixels in all scans`,
    );
  // Every 8×8 block takes at least a bit: this prevents large allocations for a short file.
  if (8 * bytes.length < (width * height) / 64)
    throw broken(subject, `a JPEG of ${width}×${height} pixels in ${bytes.length} bytes`);
  expectEnd(bytes, firstScan, subject);
  const codec = await loadedCodec();
  const data = decodeWith(codec, plain, 2 * scans * width * height <= MAX_SCAN_PIXELS);
  if (data === undefined || width * height > KEPT_PIXELS) loaded = undefined;
  const size = width * height;
  if (data?.length === 3 * size) return { width, height, data };
  if (data?.length === size) return { width, height, data: coloured(data) };
  throw broken(subject, "JPEG data that does not decode");
}

let loaded: Promise<JpegCodec> | undefined;

function loadedCodec(): Promise<JpegCodec> {
  loaded ??= loadJpegDecoder();
  return loaded;
}

/**
 * Grey or RGB values; undefined if libjpeg cannot decode the picture.
 *
 * @param isCheap whether there is time to decode it twice
 */
function decodeWith(codec: JpegCodec, bytes: Uint8Array, isCheap: boolean): Uint8Array | undefined {
  const decoder = new codec.JPEGDecoder();
  try {
    decoder.getEncodedBuffer(bytes.length).set(bytes);
    const isWhole = runs(() => decoder.decode());
    const values = new Uint8Array(decoder.getDecodedBuffer());
    if (isWhole) return values;
    // The codec fails alike where libjpeg stopped, and where it warned of damage and went on, as Pillow lets it. In the second case every
    // value was written, over the zeros of new memory as over anything else.
    if (!isCheap) return undefined;
    decoder.getDecodedBuffer().fill(255);
    runs(() => decoder.decode());
    const again = decoder.getDecodedBuffer();
    return values.every((value, index) => value === again[index]) ? values : undefined;
  } finally {
    decoder.delete();
  }
}

/** The codec throws the addresses of its error messages. */
function runs(task: () => void): boolean {
  try {
    task();
    return true;
  } catch {
    return false;
  }
}

function coloured(grey: Uint8Array): Uint8Array {
  const data = new Uint8Array(3 * grey.length);
  for (let pixel = 0; pixel < grey.length; pixel++)
    data.fill(grey[pixel] as number, 3 * pixel, 3 * pixel + 3);
  return data;
}

/** What a JPEG declares of its picture. */
interface Frame {
  readonly width: number;
  readonly height: number;
  /** Where the marker of its first scan is. */
  readonly firstScan: number;
  /** The file without segments whose marker is damaged. */
  readonly plain: Uint8Array;
}

const MARKER = {
  baseline: 0xc0,
  progressive: 0xc2,
  huffmanTable: 0xc4,
  jpegExtension: 0xc8,
  arithmetic: 0xcc,
  lastFrame: 0xcf,
  firstRestart: 0xd0,
  lastRestart: 0xd7,
  endOfImage: 0xd9,
  startOfScan: 0xda,
} as const;

/** APP0 and APP1 with a first byte of 0, which some phones wrote; Pillow and browsers skip such a segment. */
const DAMAGED: ReadonlySet<number> = new Set([0xe0, 0xe1]);

/** Walks the segments before the first scan (T.81, B.1.1). */
function readFrame(bytes: Uint8Array, subject: string): Frame {
  let frame: Uint8Array | undefined;
  const kept: Uint8Array[] = [];
  let keptFrom = 0;
  let offset = 2;
  for (;;) {
    // Any number of fill bytes may precede a marker.
    while (bytes[offset] === 0xff && bytes[offset + 1] === 0xff) offset++;
    const isDamaged = bytes[offset] === 0 && DAMAGED.has(bytes[offset + 1] ?? 0);
    const marker = bytes[offset] === 0xff || isDamaged ? bytes[offset + 1] : undefined;
    const end = segmentEnd(bytes, offset);
    if (marker === undefined || end === undefined) throw broken(subject, "a JPEG without image data");
    if (marker === MARKER.startOfScan) break;
    if (isFrameMarker(marker)) {
      if (frame) throw broken(subject, "a JPEG with two frames");
      if (marker > MARKER.progressive)
        throw unsupported(
          subject,
          `a JPEG of kind SOF${marker - MARKER.baseline}`,
          "a baseline or progressive one",
        );
      frame = bytes.subarray(offset + 4, end);
    }
    if (isDamaged) {
      kept.push(bytes.subarray(keptFrom, offset));
      keptFrom = end;
    }
    offset = end;
  }
  if (frame === undefined || frame.length < 6) throw broken(subject, "a JPEG without a frame");
  const [precision, heightHigh = 0, heightLow = 0, widthHigh = 0, widthLow = 0, components = 0] = frame;
  if (precision !== 8) throw unsupported(subject, `a JPEG of ${precision} bits`, "8 bits");
  if (components !== 1 && components !== 3)
    throw unsupported(subject, `a JPEG of ${components} colour components`, "grey or three colours");
  if (components === 3) expectSampling(frame, subject);
  return {
    width: (widthHigh << 8) | widthLow,
    height: (heightHigh << 8) | heightLow,
    firstScan: offset,
    plain: concatenate([...kept, bytes.subarray(keptFrom)]),
  };
}

/** The end of the segment whose marker is at `offset`; undefined if it is outside the file. */
function segmentEnd(bytes: Uint8Array, offset: number): number | undefined {
  const length = ((bytes[offset + 2] ?? 0) << 8) | (bytes[offset + 3] ?? 0);
  const end = offset + 2 + length;
  return length < 2 || end > bytes.length ? undefined : end;
}

/** SOF0 to SOF15, except for DHT, JPG and DAC between them. */
function isFrameMarker(marker: number): boolean {
  const { huffmanTable, jpegExtension, arithmetic } = MARKER;
  const others: readonly number[] = [huffmanTable, jpegExtension, arithmetic];
  return marker >= MARKER.baseline && marker <= MARKER.lastFrame && !others.includes(marker);
}

/** Luma samples for one of chroma, across and down, that libjpeg-turbo's interface takes. */
const SAMPLING: readonly string[] = ["1×1", "2×1", "1×2", "2×2", "4×1", "1×4"];

function expectSampling(frame: Uint8Array, subject: string): void {
  const [luma = 0, first = 0, second = 0] = [frame[7], frame[10], frame[13]];
  const ratio = `${(luma >> 4) / (first >> 4)}×${(luma & 15) / (first & 15)}`;
  if (first === second && SAMPLING.includes(ratio)) return;
  const text = [luma, first, second].map((factor) => `${factor >> 4}×${factor & 15}`).join(", ");
  throw unsupported(subject, `a JPEG of sampling ${text}`, "4:4:4, 4:2:2, 4:2:0, 4:4:0 or 4:1:1");
}

/** In the data of a scan 0xff is followed by 0 or a restart marker, so that another scan's marker is one. */
function countScans(bytes: Uint8Array): number {
  let scans = 0;
  for (let at = bytes.indexOf(0xff); at >= 0; at = bytes.indexOf(0xff, at + 1))
    if (bytes[at + 1] === MARKER.startOfScan) scans++;
  return scans;
}

/**
 * Walks the scans and the segments between them: libjpeg fills in the rest of a truncated picture, which Pillow
 * refuses.
 */
function expectEnd(bytes: Uint8Array, firstScan: number, subject: string): void {
  for (let offset = firstScan; offset < bytes.length; ) {
    // Data of a scan, or extra bytes, which libjpeg skips.
    let at: number = segmentEnd(bytes, offset) ?? bytes.length;
    while (at < bytes.length && !(bytes[at] === 0xff && isMarker(bytes[at + 1]))) at++;
    const marker = bytes[at + 1];
    if (marker === undefined) break;
    if (marker === MARKER.endOfImage) return;
    if (isFrameMarker(marker)) throw broken(subject, "a JPEG with two frames");
    offset = at;
  }
  throw broken(subject, "a JPEG that ends within its picture");
}

/** Whether what follows 0xff makes a marker of it, other than a restart within a scan. */
function isMarker(next: number | undefined): boolean {
  if (next === undefined || next === 0 || next === 0xff) return false;
  return next < MARKER.firstRestart || next > MARKER.lastRestart;
}
