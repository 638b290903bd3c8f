/**
 * ROUGE as Google's `rouge_score` computes it, without stemming: L-Eval's, and InfiniteBench's for
 * summaries (Lin 2004, "ROUGE: A package for automatic evaluation of summaries").
 *
 * @module
 */

/** F-measures of one answer against one reference, each from 0 to 1. */
export interface RougeScores {
  /** Of words. */
  readonly rouge1: number;
  /** Of pairs of words that follow one another. */
  readonly rouge2: number;
  /** Of the longest common subsequence of words. */
  readonly rougeL: number;
}

/** ROUGE-1, ROUGE-2 and ROUGE-L. */
export function rouge(prediction: string, reference: string): RougeScores {
  const ours = tokens(prediction);
  const theirs = tokens(reference);
  const common = commonSubsequence(theirs, ours, "a").length;
  return {
    rouge1: bagMeasure(ours, theirs),
    rouge2: bagMeasure(pairs(ours), pairs(theirs)),
    rougeL: ours.length === 0 || theirs.length === 0
      ? 0
      : fMeasure(common / ours.length, common / theirs.length),
  };
}

/**
 * ROUGE-Lsum: for each line of the reference the union of its longest common subsequences with the
 * lines of the answer; no word counts more often than it stands in either text.
 *
 * @returns From 0 to 1.
 */
export function rougeLsum(prediction: string, reference: string): number {
  const split = (text: string) => text.split("\n").filter((line) => line !== "").map(tokens);
  const ours = split(prediction);
  const theirs = split(reference);
  const ourWords = counts(ours.flat());
  const theirWords = counts(theirs.flat());
  const [ourTotal, theirTotal] = [ours.flat().length, theirs.flat().length];
  if (ourTotal === 0 || theirTotal === 0) return 0;
  let hits = 0;
  for (const line of theirs) {
    const inUnion = new Set(ours.flatMap((other) => commonSubsequence(line, other, "a")));
    for (const index of [...inUnion].sort((a, b) => a - b)) {
      const word = line[index]!;
      const [here, there] = [ourWords.get(word) ?? 0, theirWords.get(word) ?? 0];
      if (here === 0 || there === 0) continue;
      hits++;
      ourWords.set(word, here - 1);
      theirWords.set(word, there - 1);
    }
  }
  return fMeasure(hits / ourTotal, hits / theirTotal);
}

/** Runs of ASCII letters and digits, in lower case; everything else only separates. */
function tokens(text: string): string[] {
  return text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
}

function pairs(items: readonly string[]): string[] {
  return items.slice(1).map((item, i) => `${items[i]} ${item}`);
}

function counts(items: readonly string[]): Map<string, number> {
  const result = new Map<string, number>();
  for (const item of items) result.set(item, (result.get(item) ?? 0) + 1);
  return result;
}

function bagMeasure(ours: readonly string[], theirs: readonly string[]): number {
  const left = counts(theirs);
  let common = 0;
  for (const item of ours) {
    const count = left.get(item) ?? 0;
    if (count > 0) common++;
    left.set(item, count - 1);
  }
  return fMeasure(common / Math.max(ours.length, 1), common / Math.max(theirs.length, 1));
}

function fMeasure(precision: number, recall: number): number {
  return precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0;
}

/** What comparing two texts may take: 1 GiB. */
const MAX_TABLE_CELLS = 2 ** 28;

/**
 * Where a longest common subsequence of two texts stands in `a`, ascending. There may be several;
 * which one decides scores that count a word once, so the rule is the package's that is followed.
 *
 * @param whenTied Walking back from the ends, whose last word is dropped where either may be.
 * @throws {RangeError} If the texts' lengths multiply to more than 2^28 words.
 */
export function commonSubsequence(
  a: readonly string[],
  b: readonly string[],
  whenTied: "a" | "b",
): number[] {
  const width = b.length + 1;
  if ((a.length + 1) * width > MAX_TABLE_CELLS) {
    throw new RangeError(
      `Cannot compare a text of ${a.length} words with one of ${b.length}: their product must be ` +
        `at most ${MAX_TABLE_CELLS}`,
    );
  }
  const lengths = new Uint32Array((a.length + 1) * width);
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      lengths[i * width + j] = a[i - 1] === b[j - 1]
        ? lengths[(i - 1) * width + j - 1]! + 1
        : Math.max(lengths[(i - 1) * width + j]!, lengths[i * width + j - 1]!);
    }
  }
  const places: number[] = [];
  for (let i = a.length, j = b.length; i > 0 && j > 0;) {
    const gain = lengths[(i - 1) * width + j]! - lengths[i * width + j - 1]!;
    if (a[i - 1] === b[j - 1]) {
      places.push(i - 1);
      i--;
      j--;
    } else if (gain > 0 || (gain === 0 && whenTied === "a")) i--;
    else j--;
  }
  return places.reverse();
}
