/**
 * The best keys of each query, as keys come by in ascending order.
 *
 * A list is sorted, best first; a later key enters only if it is strictly better than the last, and
 * goes behind its equals: ties go to the earlier token.
 */
/** No token. The same value as in src/backend/wasm/select.ts. */
export const NONE: u32 = 0xffffffff;

/**
 * Empties lists.
 *
 * @param thresholdsPtr f32[padded][4]: what a score must exceed, in all lanes; +inf beyond `queries`
 * @param valuesPtr     f32[queries, topK]
 * @param tokensPtr     u32[queries, topK]
 * @param bestPtr       u32[padded]: the best token of the run so far, when runs are ranked
 */
export function clearTopK(
  thresholdsPtr: usize,
  valuesPtr: usize,
  tokensPtr: usize,
  bestPtr: usize,
  queries: u32,
  padded: u32,
  topK: u32,
): void {
  for (let q: u32 = 0; q < padded; q++) {
    const threshold = q < queries ? -Infinity : Infinity;
    v128.store(thresholdsPtr + (<usize>q << 4), f32x4.splat(<f32>threshold));
    store<u32>(bestPtr + (<usize>q << 2), NONE);
  }
  const entries = <usize>queries * topK;
  for (let i: usize = 0; i < entries; i++) {
    store<f32>(valuesPtr + (i << 2), -Infinity);
    store<u32>(tokensPtr + (i << 2), NONE);
  }
}

/** Puts a score that exceeds the last into its list. Returns the new last. */
export function insert(valuesPtr: usize, tokensPtr: usize, topK: u32, score: f32, token: u32): f32 {
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

/** Offers each query's best of a run to its list, and starts the next run. */
export function endRun(
  thresholdsPtr: usize,
  valuesPtr: usize,
  tokensPtr: usize,
  bestPtr: usize,
  queries: u32,
  topK: u32,
): void {
  for (let q: u32 = 0; q < queries; q++) {
    const token = load<u32>(bestPtr);
    if (token != NONE) {
      const last = insert(valuesPtr, tokensPtr, topK, load<f32>(thresholdsPtr), token);
      v128.store(thresholdsPtr, f32x4.splat(last));
      store<u32>(bestPtr, NONE);
    }
    thresholdsPtr += 16;
    valuesPtr += <usize>topK << 2;
    tokensPtr += <usize>topK << 2;
    bestPtr += 4;
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
