/**
 * One reading for many texts that are the same but for a few stretches.
 *
 * A step that does not select sees its local region and the global tokens alone. So a token that
 * changes is felt, a layer further each time, within `(layers - 1) * localSize` tokens behind it,
 * and nowhere else: what was cached of the rest is what it would be in the changed text, to the last
 * bit, because cached keys are not rotated. So from one case to the next only the stretches that
 * differ are read anew, and their keys and values put in the place of those that are there. A
 * million tokens are read once for all depths, all kinds of needles and all repeats, and every
 * answer is that of the case alone.
 *
 * @module
 */

import type { Model } from "../llama/load.ts";
import type { KvCache } from "../reattention/kv_cache.ts";
import type { BaseText, Patch, SharedText } from "./case.ts";
import type { Method } from "./methods.ts";
import { concatenate } from "./prompt.ts";
import { type CacheOptions, openSequence, type ReadOptions, readTokens } from "./sequence.ts";

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
  #text: Uint32Array = new Uint32Array(0); // the base with its opening
  #patches: readonly Patch[] = []; // what the cache has in its place

  constructor(model: Model, method: Method, options: CacheOptions) {
    this.#model = model;
    this.#method = method;
    this.#options = options;
  }

  /** Tokens of the text, its opening included. */
  get length(): number {
    return this.#text.length;
  }

  /** Whether this is the text that is kept. */
  holds(base: BaseText): boolean {
    return this.#base === base;
  }

  /**
   * A case's text, read; the caller disposes it before the next. Null where it must be read alone:
   * reading is not local, old tokens may leave the cache, or tokens change that all others feel.
   *
   * @param opening What is read before the text.
   */
  async open(
    { base, patches }: SharedText,
    opening: Uint32Array,
    options: ReadOptions = {},
  ): Promise<KvCache | null> {
    const { scope, select, stepSize } = this.#method;
    const { cacheBytes, spill, forget } = this.#options;
    const isLocal = select === "ask" && scope.globalSize !== Infinity;
    if (!isLocal || cacheBytes !== undefined || spill !== undefined || forget) return null;
    const tokens = await base.tokens();
    const wanted = patches(tokens).map((patch) => ({
      ...patch,
      start: patch.start + opening.length,
    }));
    // Global tokens are seen from everywhere, and the first step decides how all keys are kept.
    const untouched = Math.max(stepSize, scope.globalSize);
    if (wanted.some(({ start }) => start < untouched)) return null;
    if (this.#base !== base || this.#sequence === null) {
      this.close();
      this.#sequence = openSequence(this.#model, this.#method, this.#options);
      this.#text = concatenate([opening, tokens]);
      this.#patches = wanted;
      const { cache } = this.#sequence;
      await readTokens(this.#model, this.#method, cache, this.#changed(wanted), options);
      this.#base = base;
      return cache.fork();
    }
    const { cache } = this.#sequence;
    const regions = this.#regions(difference(this.#patches, wanted));
    const changed = this.#changed(wanted);
    // From here on the cache has neither text, until all regions are read.
    this.#base = null;
    for (const region of regions) await this.#read(cache, changed, region, options);
    this.#base = base;
    this.#patches = wanted;
    return cache.fork();
  }

  /** Gives the cache back. */
  close(): void {
    this.#sequence?.[Symbol.dispose]();
    this.#sequence = null;
    this.#base = null;
  }

  /** The text with some patches in it. */
  #changed(patches: readonly Patch[]): Uint32Array {
    const changed = this.#text.slice();
    for (const { start, tokens } of patches) changed.set(tokens, start);
    return changed;
  }

  /** What feels a change: whole steps and chunks, so that steps are cut where they were. */
  #regions(changes: readonly Patch[]): Region[] {
    const { scope, stepSize } = this.#method;
    const reach = (this.#model.config.numLayers - 1) * Math.max(scope.localSize, stepSize);
    const unit = leastCommonMultiple(stepSize, this.#sequence!.cache.store.chunkSize);
    const regions: { start: number; end: number }[] = [];
    for (const { start, tokens } of changes) {
      const from = Math.floor(start / unit) * unit;
      const felt = Math.ceil((start + tokens.length + reach) / unit) * unit;
      const to = Math.min(this.length, felt);
      const last = regions.at(-1);
      if (last !== undefined && from <= last.end) last.end = Math.max(last.end, to);
      else regions.push({ start: from, end: to });
    }
    return regions;
  }

  /** Reads a region of a changed text in a fork, and takes its chunks over. */
  async #read(
    cache: KvCache,
    changed: Uint32Array,
    { start, end }: Region,
    { signal }: ReadOptions,
  ): Promise<void> {
    const { store } = cache;
    const { chunkSize } = store;
    using fork = cache.fork();
    fork.truncate(start);
    await readTokens(this.#model, this.#method, fork, changed.subarray(start, end), { signal });
    const bytes = new Uint8Array(store.chunkBytes);
    for (let chunk = start / chunkSize; chunk * chunkSize < end; chunk++) {
      const tokens = Math.min(chunkSize, end - chunk * chunkSize);
      fork.store.readChunk(bytes, chunk, tokens);
      store.writeChunk(chunk, tokens, bytes);
    }
  }
}

/** Patches that one of two texts has and the other has not, ascending. */
function difference(a: readonly Patch[], b: readonly Patch[]): Patch[] {
  const has = (patches: readonly Patch[], { start, tokens }: Patch) =>
    patches.some((other) =>
      other.start === start && other.tokens.length === tokens.length &&
      other.tokens.every((token, i) => token === tokens[i])
    );
  return [...a.filter((patch) => !has(b, patch)), ...b.filter((patch) => !has(a, patch))]
    .sort((x, y) => x.start - y.start);
}

function leastCommonMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return a / x * b;
}
