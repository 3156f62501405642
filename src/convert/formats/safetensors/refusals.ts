import { InputError } from "../../../errors.js";

/** Bytes, or tensors to be written, that break the format's rules: code `format`. */
export function malformed(subject: string, found: string, expected: string, cause?: unknown): InputError {
  const remedy = "download or copy the file again, or save it with the safetensors library";
  return new InputError({ code: "format", subject, found, expected, remedy }, { cause });
}

/** A valid file with elements that no network here is made of: code `unsupported`. */
export function unsupported(subject: string, found: string): InputError {
  const expected = "elements of a type that PyTorch trains with";
  const remedy = "save the weights again in float32";
  return new InputError({ code: "unsupported", subject, found, expected, remedy });
}
