/**
 * One reading for many texts that are the same but for a few stretches.
 *
 * A step that does not select sees its local region and the global tokens alone. So a token that
 * changes is felt, a layer further each time, within `(layers - 1) * localSize` tokens behind it,
 * and nowhere else: what was cached of the rest is what it would be in the changed text, to the last
 * bit, because cached keys are not rotated. A case's text is made from the shared one by reading
 * these stretches anew and putting their keys and values in the place of those that are there; after
 * its question the old ones come back. A million tokens are so read once for all depths, all kinds
 * of needles and all repeats, and every answer is that of the case alone.
 *
 * @module
 */

import type { Model } from "../llama/load.ts";
import type { KvCache } from "../reattention/kv_cache.ts";
import type { BaseText, Patch, SharedText } from "./case.ts";
import type { Method } from "./methods.ts";
import { concatenate } from "./prompt.ts";
import { type CacheOptions, openSequence, type ReadOptions, readTokens } from "./sequence.ts";

/** What the stretches of one text may hold, in bytes: they are kept twice. */
const MAX_PATCH_BYTES = 2 ** 29;

/** Tokens [start, end) that are read anew. */
interface Region {
  readonly start: number;
  readonly end: number;
}

/** A text that is kept in memory between cases. */
export class SharedReading {
  readonly #model: Model;
  readonly #method: Method;
  readonly #options: CacheOptions;
  #sequence: ReturnType<typeof openSequence> | null = null;
  #base: BaseText | null = null;
  #tokens: Uint32Array = new Uint32Array(0); // with the opening
  readonly #replaced = new Map<number, Uint8Array>(); // chunks as they are in the base

  constructor(model: Model, method: Method, options: CacheOptions) {
    this.#model = model;
    this.#method = method;
    this.#options = options;
  }

  /** Tokens of the text, its opening included. */
  get length(): number {
    return this.#tokens.length;
  }

  /** Whether this is the text that is kept. */
  holds(base: BaseText): boolean {
    return this.#base === base;
  }

  /**
   * A case's text, read; the caller disposes it before the next. Null where it is better read alone:
   * reading is not local, most of it would be read anew, or old tokens may leave the cache.
   *
   * @param opening What is read before the text.
   */
  async open(
    { base, patches }: SharedText,
    opening: Uint32Array,
    options: ReadOptions = {},
  ): Promise<KvCache | null> {
    const { scope, select } = this.#method;
    const { cacheBytes, spill, forget } = this.#options;
    const isLocal = select === "ask" && scope.globalSize !== Infinity;
    if (!isLocal || cacheBytes !== undefined || spill !== undefined || forget) return null;
    const text = await base.tokens();
    const moved = patches(text).map(({ start, tokens }) => ({
      start: start + opening.length,
      tokens,
    }));
    const length = opening.length + text.length;
    const regions = this.#regions(moved, length);
    if (regions === null) return null;
    if (this.#base !== base || this.#sequence === null) {
      this.close();
      this.#sequence = openSequence(this.#model, this.#method, this.#options);
      this.#tokens = concatenate([opening, text]);
      const { cache } = this.#sequence;
      await readTokens(this.#model, this.#method, cache, this.#tokens, options);
      this.#base = base;
    }
    const { cache } = this.#sequence;
    this.#restore(cache);
    const changed = this.#tokens.slice();
    for (const { start, tokens } of moved) changed.set(tokens, start);
    for (const region of regions) await this.#read(cache, changed, region, options);
    return cache.fork();
  }

  /** Gives the cache back. */
  close(): void {
    this.#sequence?.[Symbol.dispose]();
    this.#sequence = null;
    this.#base = null;
    this.#replaced.clear();
  }

  /** What is to be read anew, whole steps and chunks; null where reading alone is better. */
  #regions(patches: readonly Patch[], length: number): Region[] | null {
    const { config } = this.#model.llama;
    const { scope, stepSize } = this.#method;
    const reach = (config.numLayers - 1) * Math.max(scope.localSize, stepSize);
    const unit = leastCommonMultiple(stepSize, CHUNK_SIZE);
    const regions: { start: number; end: number }[] = [];
    for (const { start, tokens } of patches) {
      // Global tokens are seen from everywhere, and the first step decides how all keys are kept.
      if (start < Math.max(stepSize, scope.globalSize)) return null;
      const from = Math.floor(start / unit) * unit;
      const to = Math.min(length, Math.ceil((start + tokens.length + reach) / unit) * unit);
      const last = regions.at(-1);
      if (last !== undefined && from <= last.end) last.end = Math.max(last.end, to);
      else regions.push({ start: from, end: to });
    }
    const count = regions.reduce((sum, { start, end }) => sum + end - start, 0);
    const { numKvHeads, headDim, numLayers } = config;
    const bytes = count * numLayers * numKvHeads * headDim * 8; // at most, in any format
    return count > 0.8 * length || bytes > MAX_PATCH_BYTES ? null : regions;
  }

  /** Reads a region of a changed text in a fork, and takes its chunks over. */
  async #read(
    cache: KvCache,
    changed: Uint32Array,
    { start, end }: Region,
    options: ReadOptions,
  ): Promise<void> {
    const { store } = cache;
    const { chunkSize, chunkBytes } = store;
    using fork = cache.fork();
    fork.truncate(start);
    await readTokens(this.#model, this.#method, fork, changed.subarray(start, end), {
      signal: options.signal,
    });
    for (let chunk = start / chunkSize; chunk * chunkSize < end; chunk++) {
      const tokens = Math.min(chunkSize, end - chunk * chunkSize);
      const old = new Uint8Array(chunkBytes);
      store.readChunk(old, chunk, tokens);
      this.#replaced.set(chunk, old);
      const bytes = new Uint8Array(chunkBytes);
      fork.store.readChunk(bytes, chunk, tokens);
      store.writeChunk(chunk, tokens, bytes);
    }
  }

  /** Puts the base's chunks back. */
  #restore(cache: KvCache): void {
    const { store } = cache;
    for (const [chunk, bytes] of this.#replaced) {
      const tokens = Math.min(store.chunkSize, cache.length - chunk * store.chunkSize);
      store.writeChunk(chunk, tokens, bytes);
    }
    this.#replaced.clear();
  }
}

/** Tokens of a chunk where nobody says: what stores are opened with here. */
const CHUNK_SIZE = 256;

function leastCommonMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return a / x * b;
}
