/** The word that a mistyped one was meant to be: at most two letters, or a third of it, added, left out, changed or swapped. */
export function nearestWord(mistyped: string, words: readonly string[]): string | undefined {
  const most = Math.max(1, Math.min(2, Math.floor(mistyped.length / 3)));
  const scored = words.map((word) => ({
    word,
    steps: editSteps(mistyped.toLowerCase(), word.toLowerCase()),
  }));
  const [best] = scored.filter(({ steps }) => steps <= most).sort((a, b) => a.steps - b.steps);
  return best?.word;
}

/** Damerau and Levenshtein's distance, of neighbours swapped at most once. */
function editSteps(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return Infinity;
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, column) => column)];
  const at = (row: number, column: number): number => rows[row]?.[column] ?? Infinity;
  for (let i = 1; i <= a.length; i++) {
    rows[i] = [i];
    for (let j = 1; j <= b.length; j++) {
      const isSame = a[i - 1] === b[j - 1];
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      (rows[i] ?? [])[j] = Math.min(
        at(i - 1, j) + 1,
        at(i, j - 1) + 1,
        at(i - 1, j - 1) + (isSame ? 0 : 1),
        isSwap ? at(i - 2, j - 2) + 1 : Infinity,
      );
    }
  }
  return at(a.length, b.length);
}
