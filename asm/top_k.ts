/**
 * The best keys of each query, as keys come by in ascending order.
 *
 * A list is sorted, best first; a later key enters only if it is strictly better than the last, and
 * goes behind its equals: ties go to the earlier token.
 */

/** No token. */
export const NONE: u32 = 0xffffffff;

/**
 * Empties lists.
 *
 * @param thresholdsPtr f32[4 * quads]: what a score must exceed; +inf beyond `queries`
 * @param valuesPtr     f32[queries, topK]
 * @param tokensPtr     u32[queries, topK]
 */
export function clearTopK(
  thresholdsPtr: usize,
  valuesPtr: usize,
  tokensPtr: usize,
  queries: u32,
  quads: u32,
  topK: u32,
): void {
  for (let q: u32 = 0; q < quads << 2; q++) {
    store<f32>(thresholdsPtr + (<usize>q << 2), q < queries ? -Infinity : Infinity);
  }
  const entries = <usize>queries * topK;
  for (let i: usize = 0; i < entries; i++) {
    store<f32>(valuesPtr + (i << 2), -Infinity);
    store<u32>(tokensPtr + (i << 2), NONE);
  }
}

/** Puts a score that exceeds the last into its list. Returns the new last. */
function insert(valuesPtr: usize, tokensPtr: usize, topK: u32, score: f32, token: u32): f32 {
  const last = valuesPtr + (<usize>(topK - 1) << 2);
  let value = last;
  let place = tokensPtr + (<usize>(topK - 1) << 2);
  while (value > valuesPtr && load<f32>(value - 4) < score) {
    store<f32>(value, load<f32>(value - 4));
    store<u32>(place, load<u32>(place - 4));
    value -= 4;
    place -= 4;
  }
  store<f32>(value, score);
  store<u32>(place, token);
  return load<f32>(last);
}

/** Offers one key's scores to four queries. */
function offer(
  thresholdsPtr: usize,
  valuesPtr: usize,
  tokensPtr: usize,
  topK: u32,
  scoresPtr: usize,
  token: u32,
): void {
  for (let i: u32 = 0; i < 4; i++) {
    const at = <usize>i << 2;
    const score = load<f32>(scoresPtr + at);
    if (score > load<f32>(thresholdsPtr + at)) {
      const row = <usize>i * topK << 2;
      store<f32>(
        thresholdsPtr + at,
        insert(valuesPtr + row, tokensPtr + row, topK, score, token),
      );
    }
  }
}

/**
 * Offers a tile of scores to the lists.
 *
 * @param scoresPtr f32[keys, 4 * quads], rows `stride` bytes apart
 * @param token     the first key's
 */
export function updateTopK(
  thresholdsPtr: usize,
  valuesPtr: usize,
  tokensPtr: usize,
  scoresPtr: usize,
  stride: usize,
  quads: u32,
  topK: u32,
  token: u32,
  keys: u32,
): void {
  const listBytes = <usize>topK << 4;
  const whole = keys & ~3;
  for (let quad: u32 = 0; quad < quads; quad++) {
    let threshold = v128.load(thresholdsPtr);
    let row = scoresPtr;
    let t: u32 = 0;
    for (; t < whole; t += 4) {
      // pmax(a, b) is a unless b is larger, so a NaN never gets in.
      const a = row + stride, b = a + stride, c = b + stride;
      const best = f32x4.pmax(
        f32x4.pmax(f32x4.pmax(f32x4.pmax(threshold, v128.load(row)), v128.load(a)), v128.load(b)),
        v128.load(c),
      );
      if (v128.any_true(f32x4.gt(best, threshold))) {
        offer(thresholdsPtr, valuesPtr, tokensPtr, topK, row, token + t);
        offer(thresholdsPtr, valuesPtr, tokensPtr, topK, a, token + t + 1);
        offer(thresholdsPtr, valuesPtr, tokensPtr, topK, b, token + t + 2);
        offer(thresholdsPtr, valuesPtr, tokensPtr, topK, c, token + t + 3);
        threshold = v128.load(thresholdsPtr);
      }
      row = c + stride;
    }
    for (; t < keys; t++) {
      offer(thresholdsPtr, valuesPtr, tokensPtr, topK, row, token + t);
      row += stride;
    }
    thresholdsPtr += 16;
    valuesPtr += listBytes;
    tokensPtr += listBytes;
    scoresPtr += 16;
  }
}

/**
 * Keeps each query's best key of a run of keys.
 *
 * @param bestPtr   f32[4 * quads], -inf at the start of a run
 * @param tokensPtr u32[4 * quads]
 * @param scoresPtr f32[keys, 4 * quads], rows `stride` bytes apart
 */
export function updateBest(
  bestPtr: usize,
  tokensPtr: usize,
  scoresPtr: usize,
  stride: usize,
  quads: u32,
  token: u32,
  keys: u32,
): void {
  for (let quad: u32 = 0; quad < quads; quad++) {
    let best = v128.load(bestPtr), tokens = v128.load(tokensPtr);
    let row = scoresPtr;
    for (let t: u32 = 0; t < keys; t++) {
      const scores = v128.load(row);
      const better = f32x4.gt(scores, best);
      best = v128.bitselect(scores, best, better);
      tokens = v128.bitselect(i32x4.splat(token + t), tokens, better);
      row += stride;
    }
    v128.store(bestPtr, best);
    v128.store(tokensPtr, tokens);
    bestPtr += 16;
    tokensPtr += 16;
    scoresPtr += 16;
  }
}

/** Offers each query's best key of a run to its list, and starts the next run. */
export function offerBest(
  thresholdsPtr: usize,
  valuesPtr: usize,
  tokensPtr: usize,
  bestPtr: usize,
  bestTokensPtr: usize,
  queries: u32,
  topK: u32,
): void {
  for (let q: u32 = 0; q < queries; q++) {
    const at = <usize>q << 2;
    const score = load<f32>(bestPtr + at);
    if (score > load<f32>(thresholdsPtr + at)) {
      const row = <usize>q * topK << 2;
      const token = load<u32>(bestTokensPtr + at);
      store<f32>(
        thresholdsPtr + at,
        insert(valuesPtr + row, tokensPtr + row, topK, score, token),
      );
    }
    store<f32>(bestPtr + at, -Infinity);
  }
}

/**
 * Merges the lists of later keys into those of earlier ones.
 *
 * @param valuesPtr f32[queries, topK]
 * @param laterValuesPtr the same, of keys that all come later
 */
export function mergeTopK(
  valuesPtr: usize,
  tokensPtr: usize,
  laterValuesPtr: usize,
  laterTokensPtr: usize,
  queries: u32,
  topK: u32,
): void {
  const listBytes = <usize>topK << 2;
  for (let q: u32 = 0; q < queries; q++) {
    let last = load<f32>(valuesPtr + listBytes - 4);
    for (let i: usize = 0; i < listBytes; i += 4) {
      const score = load<f32>(laterValuesPtr + i);
      if (!(score > last)) break;
      last = insert(valuesPtr, tokensPtr, topK, score, load<u32>(laterTokensPtr + i));
    }
    valuesPtr += listBytes;
    tokensPtr += listBytes;
    laterValuesPtr += listBytes;
    laterTokensPtr += listBytes;
  }
}
