import { refusal } from "./refusal.js";

/** An osnet_x1_0 in Keras's layers has 0.5 MB, and a language model 10; parsed it takes up to twenty times as much memory. */
const MAX_BYTES = 32 << 20;

/** Keras's configurations nest a dozen levels, what a user adds a few more. Parsers and printers work by recursion. */
const MAX_DEPTH = 64;

const [QUOTE, BACKSLASH] = ['"', "\\"].map((character) => character.charCodeAt(0));
const [OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = ["[", "]", "{", "}"].map((character) =>
  character.charCodeAt(0),
);

/**
 * Looks at a `model.json` before it is parsed. In UTF-8 no byte of another character is one of JSON's own.
 *
 * @throws InputError (`unsupported`) for one of more than 32 MiB, or that nests deeper than 64 levels
 */
export function expectModest(json: Uint8Array, subject: string): void {
  if (json.length > MAX_BYTES) throw immodest(subject, `${json.length} bytes`, `at most ${MAX_BYTES}`);
  let depth = 0;
  let isText = false;
  for (let at = 0; at < json.length; at++) {
    const byte = json[at];
    if (isText) {
      if (byte === BACKSLASH) at++;
      else if (byte === QUOTE) isText = false;
    } else if (byte === QUOTE) isText = true;
    else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) depth--;
    else if ((byte === OPEN_ARRAY || byte === OPEN_OBJECT) && ++depth > MAX_DEPTH)
      throw immodest(subject, `more than ${MAX_DEPTH} lists in each other`, `at most ${MAX_DEPTH}`);
  }
}

function immodest(subject: string, found: string, expected: string): Error {
  return refusal(
    subject,
    found,
    `${expected} in a model.json`,
    "give the model.json of an OSNet",
    "unsupported",
  );
}
