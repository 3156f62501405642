/**
 * JPEG pictures (ITU-T T.81), decoded by jpeg-js, which is loaded when a picture is.
 *
 * Accepted: baseline and progressive, 8 bits, grey, YCbCr or RGB. Refused: 12 bits, CMYK, arithmetic or lossless coding,
 * broken or cut data, more scans than `MAX_SCAN_PIXELS` allow (each goes over the whole picture, at a few bytes of file).
 *
 * Decoders differ by a few levels, and where colour is stored at half size by more: libjpeg, and so Pillow, interpolates it,
 * jpeg-js repeats it. Both sides of a verification get the same pixels.
 */
import type { Pixels } from "./refusals.js";
import { broken, expectSize, MAX_PIXELS, unsupported } from "./refusals.js";

const MAX_SCANS = 64;

/**
 * Pixels times scans, which is what decoding costs: a second or two. A progressive picture of libjpeg's has 10 scans, of mozjpeg's up to about
 * 12: a progressive picture may have 16 million pixels and more.
 */
const MAX_SCAN_PIXELS = 200_000_000;

/** What jpeg-js may allocate: it keeps coefficients in 32 bits, of up to three full-size channels. */
const MAX_MEMORY_MB = 1024;

export function isJpeg(bytes: Uint8Array): boolean {
  return bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;
}

/** @throws InputError (`format`, `unsupported`) if it is broken, too large, or of a kind that is not read */
export async function decodeJpeg(bytes: Uint8Array, subject: string): Promise<Pixels> {
  const { width, height, isRgb, scans } = readFrame(bytes, subject);
  expectSize(width, height, subject);
  if (scans > MAX_SCANS) throw unsupported(subject, `a JPEG of ${scans} scans`, `at most ${MAX_SCANS}`);
  if (scans * width * height > MAX_SCAN_PIXELS)
    throw unsupported(
      subject,
      `a JPEG of ${width}×${height} pixels in ${scans} scans`,
      `at most ${MAX_SCAN_PIXELS / 1e6} million pixels in all scans`,
    );
  // Every 8×8 block takes a bit at the very least, so that a short file cannot have large amounts allocated.
  if (8 * bytes.length < (width * height) / 64)
    throw broken(subject, `a JPEG of ${width}×${height} pixels in ${bytes.length} bytes`);
  const { decode } = await import("jpeg-js");
  try {
    const { data } = decode(bytes, {
      useTArray: true,
      formatAsRGBA: false,
      tolerantDecoding: false,
      maxResolutionInMP: MAX_PIXELS / 1_000_000,
      maxMemoryUsageInMB: MAX_MEMORY_MB,
      ...(isRgb ? { colorTransform: false } : {}),
    });
    if (data.length === 3 * width * height) return { width, height, data };
  } catch (cause) {
    throw broken(subject, "JPEG data that does not decode", cause);
  }
  throw broken(subject, "a JPEG of two sizes");
}

/** What a JPEG declares of its picture. */
interface Frame {
  readonly width: number;
  readonly height: number;
  /** Whether its three components are red, green and blue rather than luma and chroma. */
  readonly isRgb: boolean;
  readonly scans: number;
}

const MARKER = {
  baseline: 0xc0,
  extended: 0xc1,
  progressive: 0xc2,
  huffmanTable: 0xc4,
  arithmetic: 0xcc,
  lastFrame: 0xcf,
  jpegExtension: 0xc8,
  startOfScan: 0xda,
  app0: 0xe0,
  app14: 0xee,
} as const;

/** APP0 and APP1, of which phones have written the first byte as 0; libjpeg and jpeg-js pass over such a segment. */
const DAMAGED: ReadonlySet<number> = new Set([0xe0, 0xe1]);

/** Walks the segments before the first scan (T.81, B.1.1). */
function readFrame(bytes: Uint8Array, subject: string): Frame {
  let frame: Uint8Array | undefined;
  let hasJfif = false;
  let adobeTransform: number | undefined;
  let offset = 2;
  for (;;) {
    // Any number of fill bytes may stand before a marker.
    while (bytes[offset] === 0xff && bytes[offset + 1] === 0xff) offset++;
    const isDamaged = bytes[offset] === 0 && DAMAGED.has(bytes[offset + 1] ?? 0);
    const marker = bytes[offset] === 0xff || isDamaged ? bytes[offset + 1] : undefined;
    const length = ((bytes[offset + 2] ?? 0) << 8) | (bytes[offset + 3] ?? 0);
    const end = offset + 2 + length;
    if (marker === undefined || length < 2 || end > bytes.length)
      throw broken(subject, "a JPEG without a picture");
    const body = bytes.subarray(offset + 4, end);
    if (marker === MARKER.startOfScan) break;
    if (isFrameMarker(marker)) {
      if (frame) throw broken(subject, "a JPEG of two frames");
      if (marker > MARKER.progressive)
        throw unsupported(
          subject,
          `a JPEG of kind SOF${marker - MARKER.baseline}`,
          "a baseline or progressive one",
        );
      frame = body;
    }
    if (marker === MARKER.app0 && !isDamaged && startsWith(body, "JFIF\0")) hasJfif = true;
    if (marker === MARKER.app14 && startsWith(body, "Adobe")) adobeTransform = body[11];
    offset = end;
  }
  if (frame === undefined || frame.length < 6) throw broken(subject, "a JPEG without a frame");
  const [precision, heightHigh = 0, heightLow = 0, widthHigh = 0, widthLow = 0, components = 0] = frame;
  if (precision !== 8) throw unsupported(subject, `a JPEG of ${precision} bits`, "8 bits");
  if (components !== 1 && components !== 3)
    throw unsupported(subject, `a JPEG of ${components} colour components`, "grey or three colours");
  const identifiers = String.fromCharCode(frame[6] ?? 0, frame[9] ?? 0, frame[12] ?? 0);
  return {
    width: (widthHigh << 8) | widthLow,
    height: (heightHigh << 8) | heightLow,
    scans: countScans(bytes.subarray(offset)),
    // libjpeg, jdapimin.c, default_decompress_parms.
    isRgb: !hasJfif && (adobeTransform === undefined ? identifiers === "RGB" : adobeTransform === 0),
  };
}

/** SOF0 to SOF15; among them stand DHT, JPG and DAC. */
function isFrameMarker(marker: number): boolean {
  const { huffmanTable, jpegExtension, arithmetic } = MARKER;
  const others: readonly number[] = [huffmanTable, jpegExtension, arithmetic];
  return marker >= MARKER.baseline && marker <= MARKER.lastFrame && !others.includes(marker);
}

/** In the data of a scan 0xff is followed by 0 or a restart marker, so that another scan's marker is one. */
function countScans(bytes: Uint8Array): number {
  let scans = 0;
  for (let at = bytes.indexOf(0xff); at >= 0; at = bytes.indexOf(0xff, at + 1))
    if (bytes[at + 1] === MARKER.startOfScan) scans++;
  return scans;
}

function startsWith(bytes: Uint8Array, text: string): boolean {
  return [...text].every((character, index) => bytes[index] === character.charCodeAt(0));
}
