import { InputError, type InputErrorCode } from "../../../errors.js";

/** An ONNX file that cannot be used: `subject` is the file, or the tensor or node in it. */
export function refusal(
  subject: string,
  found: string,
  expected: string,
  remedy: string,
  code: InputErrorCode = "format",
): InputError {
  return new InputError({ code, subject, found, expected, remedy });
}
