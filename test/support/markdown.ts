import { readFileSync } from "node:fs";

/** A document of the project. */
export function text(document: string): string {
  return readFileSync(new URL(`../../${document}`, import.meta.url), "utf8");
}

/** The fenced blocks of one language in a document of the project. */
export function blocks(document: string, language: string): readonly string[] {
  const fenced = new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, "gm");
  return [...text(document).matchAll(fenced)].map(([, block = ""]) => block);
}
