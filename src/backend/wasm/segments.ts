/**
 * Which keys and values a kernel walks over: u32[6] records, asm/segment.ts.
 *
 * @module
 */

import type { WasmKvStore } from "./kv_store.ts";
import type { Frame } from "./memory.ts";

/** Numbers of a record. */
const RECORD = 6;

/** Cuts a run of tokens at the edges of chunks. */
export class SegmentList {
  /** u32[segments, 6] */
  readonly records: number[] = [];
  readonly #store: WasmKvStore;
  readonly #layer: number;
  readonly #frame: Frame | null;
  #tokens = 0;

  /**
   * Empty.
   *
   * @param frame For values that must be fetched; null if no values are read.
   */
  constructor(store: WasmKvStore, layer: number, frame: Frame | null) {
    this.#store = store;
    this.#layer = layer;
    this.#frame = frame;
  }

  /** Records so far. */
  get length(): number {
    return this.records.length / RECORD;
  }

  /** Tokens in all runs so far. */
  get tokens(): number {
    return this.#tokens;
  }

  /** Tokens of a segment. */
  count(segment: number): number {
    return this.records[segment * RECORD + 3]!;
  }

  /** Whether a run of block-max ends with a segment. */
  endsRun(segment: number): boolean {
    return this.records[segment * RECORD + 5] === 1;
  }

  /**
   * Adds tokens [start, end), but for those that were forgotten.
   *
   * @param first What the kernel is told about `start`: its index or its position.
   * @param endsRun Whether a run of block-max ends with them.
   */
  add(start: number, end: number, first: number, endsRun = false): void {
    const { chunkSize } = this.#store;
    let ends = false;
    for (let t = start; t < end;) {
      const stop = Math.min(end, t - t % chunkSize + chunkSize);
      const block = this.#store.block(this.#layer, t);
      if (block !== null) {
        const values = this.#frame && this.#store.values(this.#frame, this.#layer, t, stop - t);
        const place = [block.keys, values ?? 0, t % chunkSize];
        ends = endsRun && stop === end;
        this.records.push(...place, stop - t, first + t - start, ends ? 1 : 0);
        this.#tokens += stop - t;
      }
      t = stop;
    }
    // A run whose end was forgotten ends where it is known to.
    if (endsRun && !ends && this.length > 0) this.records[this.records.length - 1] = 1;
  }
}
