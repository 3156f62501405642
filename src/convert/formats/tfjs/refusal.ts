import { InputError, type InputErrorCode } from "../../../errors.js";

/** A TensorFlow.js model that cannot be used: `subject` is the file, with the place in it. */
export function refusal(
  subject: string,
  found: string,
  expected: string,
  remedy = "convert the model again",
  code: InputErrorCode = "format",
): InputError {
  return new InputError({ code, subject, found, expected, remedy });
}
