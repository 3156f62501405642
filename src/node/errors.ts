import { InputError } from "../core/errors.js";

const DESCRIPTIONS: Readonly<Record<string, string>> = {
  ENOENT: "no such file or folder",
  EISDIR: "a folder",
  EACCES: "no permission",
  EPERM: "no permission",
  EROFS: "a read-only file system",
  ENOSPC: "a full disk",
  EDQUOT: "a full quota",
  EFBIG: "a limit on how large files may be",
  ENOTDIR: "a path through something that is not a folder",
};

/** What the system found instead of a file, in words. */
export function describe(cause: unknown): string {
  const code = (cause as { readonly code?: string }).code ?? "";
  return DESCRIPTIONS[code] ?? (cause instanceof Error ? cause.message : String(cause));
}

/** A file or folder that cannot be used: code `file`. */
export function fileError(
  subject: string,
  found: string,
  expected: string,
  remedy: string,
  cause?: unknown,
): InputError {
  return new InputError({ code: "file", subject, found, expected, remedy }, { cause });
}
