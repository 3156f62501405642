import { readFileSync } from "node:fs";

/** The fenced blocks of one language in a document of the project. */
export function blocks(document: string, language: string): readonly string[] {
  const text = readFileSync(new URL(`../../${document}`, import.meta.url), "utf8");
  const fenced = new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, "gm");
  return [...text.matchAll(fenced)].map(([, block = ""]) => block);
}
