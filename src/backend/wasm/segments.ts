/**
 * Which keys a kernel walks over: u32[6] records, asm/segment.ts.
 *
 * @module
 */

import type { WasmKvStore } from "./kv_store.ts";

/** Numbers of a record. */
const RECORD = 6;

/** Cuts a run of tokens at the edges of chunks. */
export class SegmentList {
  /** u32[segments, 6] */
  readonly records: number[] = [];
  readonly #store: WasmKvStore;
  readonly #layer: number;
  #tokens = 0;

  /** Empty. */
  constructor(store: WasmKvStore, layer: number) {
    this.#store = store;
    this.#layer = layer;
  }

  /** Records so far. */
  get length(): number {
    return this.records.length / RECORD;
  }

  /** Tokens of a segment. */
  count(segment: number): number {
    return this.records[segment * RECORD + 3]!;
  }

  /** Whether a run of block-max ends with a segment. */
  endsRun(segment: number): boolean {
    return this.records[segment * RECORD + 5] === 1;
  }

  /** Tokens in all runs so far. */
  get tokens(): number {
    return this.#tokens;
  }

  /**
   * Adds tokens [start, end).
   *
   * @param first What the kernel is told about `start`: its index or its position.
   * @param endsRun Whether a run of block-max ends with them.
   */
  add(start: number, end: number, first: number, endsRun = false): void {
    const { chunkSize } = this.#store;
    for (let t = start; t < end;) {
      const stop = Math.min(end, t - t % chunkSize + chunkSize);
      const { keys, values } = this.#store.block(this.#layer, t);
      this.records.push(
        keys,
        values,
        t % chunkSize,
        stop - t,
        first + t - start,
        endsRun && stop === end ? 1 : 0,
      );
      t = stop;
    }
    this.#tokens += Math.max(0, end - start);
  }
}
