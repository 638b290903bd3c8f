/**
 * How alike two lines of code are, as LongBench measures it: `fuzz.ratio` of fuzzywuzzy, which is
 * the ratio of Python's `difflib` in whole percents.
 *
 * @module
 */

/** Of longer texts, characters that make up more than a hundredth are not looked up. */
const POPULAR_FROM = 200;

/**
 * The similarity of the first line of a prediction that is neither a comment nor a fence.
 *
 * @returns From 0 to 1, in hundredths.
 */
export function codeSimilarity(prediction: string, reference: string): number {
  const line = prediction.replace(/^\n+/, "").split("\n")
    .find((line) => !line.includes("`") && !line.includes("#") && !line.includes("//"));
  return fuzzyRatio(line ?? "", reference) / 100;
}

/** Twice the matching characters over all characters, in whole percents; halves go to the even. */
export function fuzzyRatio(a: string, b: string): number {
  if (a === b) return 100;
  if (a === "" || b === "") return 0;
  const percent = 100 * similarity([...a], [...b]);
  const below = Math.floor(percent);
  if (percent - below === 0.5) return below % 2 === 0 ? below : below + 1;
  return Math.round(percent);
}

/**
 * `SequenceMatcher(None, a, b).ratio()`: finds the longest common block, the first in `a` and then
 * in `b` of several, and goes on left and right of it (Ratcliff and Obershelp's pattern matching).
 */
export function similarity(a: readonly string[], b: readonly string[]): number {
  if (a.length + b.length === 0) return 1;
  const places = new Map<string, number[]>();
  for (const [j, item] of b.entries()) {
    const known = places.get(item);
    if (known === undefined) places.set(item, [j]);
    else known.push(j);
  }
  if (b.length >= POPULAR_FROM) {
    const most = Math.floor(b.length / 100) + 1;
    for (const [item, where] of places) if (where.length > most) places.delete(item);
  }
  let matching = 0;
  const open: Block[] = [{ aStart: 0, aEnd: a.length, bStart: 0, bEnd: b.length }];
  for (let block = open.pop(); block !== undefined; block = open.pop()) {
    const { aStart, aEnd, bStart, bEnd } = block;
    const match = longestMatch(a, b, places, block);
    if (match.size === 0) continue;
    matching += match.size;
    if (aStart < match.a && bStart < match.b) {
      open.push({ aStart, aEnd: match.a, bStart, bEnd: match.b });
    }
    if (match.a + match.size < aEnd && match.b + match.size < bEnd) {
      open.push({ aStart: match.a + match.size, aEnd, bStart: match.b + match.size, bEnd });
    }
  }
  return 2 * matching / (a.length + b.length);
}

interface Block {
  readonly aStart: number;
  readonly aEnd: number;
  readonly bStart: number;
  readonly bEnd: number;
}

function longestMatch(
  a: readonly string[],
  b: readonly string[],
  places: ReadonlyMap<string, readonly number[]>,
  { aStart, aEnd, bStart, bEnd }: Block,
): { a: number; b: number; size: number } {
  const best = { a: aStart, b: bStart, size: 0 };
  // By its last place in b, the length of the block that ends at a[i] there.
  let lengths = new Map<number, number>();
  for (let i = aStart; i < aEnd; i++) {
    const next = new Map<number, number>();
    for (const j of places.get(a[i]!) ?? []) {
      if (j < bStart) continue;
      if (j >= bEnd) break;
      const size = (lengths.get(j - 1) ?? 0) + 1;
      next.set(j, size);
      if (size > best.size) {
        best.a = i - size + 1;
        best.b = j - size + 1;
        best.size = size;
      }
    }
    lengths = next;
  }
  // Popular characters were not looked up, but lengthen a block.
  while (best.a > aStart && best.b > bStart && a[best.a - 1] === b[best.b - 1]) {
    best.a--;
    best.b--;
    best.size++;
  }
  while (
    best.a + best.size < aEnd && best.b + best.size < bEnd &&
    a[best.a + best.size] === b[best.b + best.size]
  ) best.size++;
  return best;
}
