import { InputError } from "../core/errors.js";

const DESCRIPTIONS: Readonly<Record<string, string>> = {
  ENOENT: "no such file or folder",
  EISDIR: "is a folder",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EROFS: "read-only file system",
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is exceeded",
  EFBIG: "the file size limit is exceeded",
  ENOTDIR: "part of the path is not a folder",
};

/** Why the system could not use a file, as a clause. */
export function describe(cause: unknown): string {
  const code = (cause as { readonly code?: string }).code ?? "";
  return DESCRIPTIONS[code] ?? (cause instanceof Error ? cause.message : String(cause));
}

/** A file or folder that is not what it should be: code `file`. */
export function fileError(
  subject: string,
  found: string,
  expected: string,
  remedy: string,
  cause?: unknown,
): InputError {
  return new InputError({ code: "file", subject, found, expected, remedy }, { cause });
}

/** A file or folder that cannot be used, for the reason that a clause gives: code `file`. */
export function unusable(subject: string, reason: string, remedy: string, cause?: unknown): InputError {
  return new InputError({ code: "file", subject, found: reason, remedy }, { cause });
}
