import type { ChosenFile } from "osnet-convert/web";
import { el } from "./dom.js";
import { type State, wordsOf } from "./state.js";

/** Where files are dropped or chosen: large on an empty page, one line below what is there. */
export function chooser(state: State, add: (files: readonly ChosenFile[]) => void): HTMLElement {
  const words = wordsOf(state);
  const isFirst = state.items.length === 0;
  const input = (isFolder: boolean): HTMLInputElement =>
    el("input", {
      type: "file",
      hidden: true,
      multiple: true,
      webkitdirectory: isFolder,
      on: {
        change: (event) => {
          const chosen = event.target as HTMLInputElement;
          add(
            [...(chosen.files ?? [])].map((file) => ({
              path: file.webkitRelativePath || file.name,
              blob: file,
            })),
          );
          chosen.value = "";
        },
      },
    });
  const [files, folder] = [input(false), input(true)];
  files.id = "files";
  folder.id = "folder";
  return el(
    "section",
    { class: isFirst ? "drop first" : "drop", "aria-label": isFirst ? words.drop : words.dropMore },
    el("p", { class: "call" }, isFirst ? words.drop : words.dropMore),
    el(
      "p",
      { class: "actions" },
      el(
        "button",
        {
          type: "button",
          id: "choose",
          class: isFirst ? "primary" : "plain",
          on: { click: () => files.click() },
        },
        words.chooseFiles,
      ),
      el(
        "button",
        { type: "button", id: "choose-folder", class: "plain", on: { click: () => folder.click() } },
        words.chooseFolder,
      ),
    ),
    isFirst && el("p", { class: "soft" }, words.formats),
    files,
    folder,
  );
}

/** The files of a drop, those inside folders with their paths. Entries must be read before the first await. */
export async function filesOf({ items, files }: DataTransfer): Promise<readonly ChosenFile[]> {
  const entries = [...items].flatMap((item) => item.webkitGetAsEntry() ?? []);
  if (entries.length === 0) return [...files].map((file) => ({ path: file.name, blob: file }));
  return (await Promise.all(entries.map((entry) => walk(entry)))).flat();
}

/** As many files are taken out of folders: a model has a few dozen. */
const MAX_FILES = 2000;

async function walk(entry: FileSystemEntry, taken: { count: number } = { count: 0 }): Promise<ChosenFile[]> {
  if (taken.count >= MAX_FILES) return [];
  const path = entry.fullPath.replace(/^\//, "");
  if (entry.isFile) {
    taken.count++;
    const file = await new Promise<File>((resolve, reject) =>
      (entry as FileSystemFileEntry).file(resolve, reject),
    );
    return [{ path, blob: file }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: ChosenFile[] = [];
  for (;;) {
    // Browsers give a hundred entries at a time.
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) =>
      reader.readEntries(resolve, reject),
    );
    if (some.length === 0) return found;
    for (const inner of some) found.push(...(await walk(inner, taken)));
  }
}
