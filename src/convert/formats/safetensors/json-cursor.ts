import { quote } from "../refusals.js";
import { malformed } from "./refusals.js";

/**
 * A position in JSON text that reads what the caller expects next (RFC 8259), and refuses everything else with its
 * place. Only what headers are made of: objects without duplicate keys, strings, and arrays of whole numbers.
 */
export class JsonCursor {
  readonly #text: string;
  readonly #subject: string;
  #offset = 0;

  constructor(text: string, subject: string) {
    this.#text = text;
    this.#subject = subject;
  }

  /** Reads an object; `readValue` must read the value of each key. `what` names the object in messages. */
  object(what: string, readValue: (key: string) => void): void {
    const keys = new Set<string>();
    this.#expect("{", "an object");
    if (this.#skip("}")) return;
    do {
      const key = this.string();
      if (keys.has(key)) throw malformed(this.#subject, `two keys ${quote(key)} in ${what}`, "one");
      keys.add(key);
      this.#expect(":", '":"');
      readValue(key);
    } while (this.#skip(","));
    this.#expect("}", '"," or "}"');
  }

  string(): string {
    this.#expect('"', "a string");
    const start = this.#offset - 1;
    for (let end = this.#offset; end < this.#text.length; end++) {
      const character = this.#text[end];
      if (character === "\\") end++;
      else if (character === '"') {
        this.#offset = end + 1;
        return this.#unescape(start);
      }
    }
    throw malformed(this.#subject, `a string without an end at character ${start} of the header`, "JSON");
  }

  /** An array of at most `most` whole numbers from 0. */
  integers(most: number): readonly number[] {
    const values: number[] = [];
    this.#expect("[", "an array");
    if (this.#skip("]")) return values;
    do {
      if (values.length === most) throw this.#unexpected(`at most ${most} numbers`);
      values.push(this.#integer());
    } while (this.#skip(","));
    this.#expect("]", '"," or "]"');
    return values;
  }

  /** Only white space may follow. */
  end(): void {
    this.#skipSpace();
    if (this.#offset < this.#text.length)
      throw this.#unexpected("nothing but spaces after the header's object");
  }

  #integer(): number {
    this.#skipSpace();
    const start = this.#offset;
    let end = start;
    // No offset or dimension that a file can have is longer than 16 digits.
    while (end - start < 17 && isDigit(this.#text.charCodeAt(end))) end++;
    const digits = this.#text.slice(start, end);
    const value = Number(digits);
    if (digits === "" || (digits.length > 1 && digits.startsWith("0")) || !Number.isSafeInteger(value))
      throw this.#unexpected("a whole number from 0 to 2^53");
    this.#offset = end;
    return value;
  }

  #unescape(start: number): string {
    try {
      return JSON.parse(this.#text.slice(start, this.#offset)) as string;
    } catch (cause) {
      throw malformed(this.#subject, `a malformed string at character ${start} of the header`, "JSON", cause);
    }
  }

  #expect(character: string, what: string): void {
    if (!this.#skip(character)) throw this.#unexpected(what);
  }

  #skip(character: string): boolean {
    this.#skipSpace();
    if (this.#text[this.#offset] !== character) return false;
    this.#offset++;
    return true;
  }

  #skipSpace(): void {
    while (" \t\n\r".includes(this.#text[this.#offset] ?? "end")) this.#offset++;
  }

  #unexpected(expected: string): Error {
    const next = this.#text[this.#offset];
    const found = next === undefined ? "the end" : quote(next);
    return malformed(this.#subject, `${found} at character ${this.#offset} of the header`, expected);
  }
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}
