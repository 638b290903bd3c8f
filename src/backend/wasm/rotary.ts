/**
 * Tables of rotary angles in wasm memory, built as far as positions reach.
 *
 * @module
 */

import type { Rope } from "../../reattention/rope.ts";
import type { Memory } from "./memory.ts";
import type { Kernels } from "../../../wasm/loader.ts";

/** Positions per coarse row: asm/rope.ts. */
const FINE = 256;

/** Up to here angles are kept in f32, ready to use; beyond, each block of keys computes its own. */
const TABLE_BYTES = 8 << 20;

/** Ropes whose tables are kept; a process rarely has more than one. */
const MAX_ROPES = 4;

const ADVICE = "use shorter steps or a shorter text";

/** The tables of one rope. */
class RotaryTable implements Disposable {
  readonly frequencies: Float32Array; // f32[half]
  /** Of all cosines and sines. In the fine table alone: an angle's is a sum of products with it. */
  readonly factor: number;
  readonly #memory: Memory;
  readonly #kernels: Kernels;
  /** u32[4]: table, its positions, coarse table, fine table. */
  readonly #record: number;
  /** The record lies behind it, in the same block. */
  readonly #fine: number;
  #coarse = 0;
  #coarseRows = 0;
  #table = 0;
  #tablePositions = 0;

  constructor(memory: Memory, kernels: Kernels, frequencies: Float32Array, factor: number) {
    this.#memory = memory;
    this.#kernels = kernels;
    this.frequencies = frequencies.slice();
    this.factor = factor;
    const half = frequencies.length;
    this.#fine = memory.allocate(FINE * half * 16 + 16, "rotary angles", ADVICE);
    this.#record = this.#fine + FINE * half * 16;
    this.#fill(this.#fine, FINE, 1, factor);
  }

  /** All tables, in bytes. */
  get byteLength(): number {
    const blocks = [this.#fine, this.#coarse, this.#table];
    return blocks.reduce((sum, block) => sum + this.#memory.sizeOf(block), 0);
  }

  /** The record that `attend` reads; every position below `positions` is covered. */
  cover(positions: number): number {
    const coarseRows = Math.ceil(positions / FINE);
    if (coarseRows > this.#coarseRows) this.#growCoarse(coarseRows);
    const most = Math.floor(TABLE_BYTES / (this.frequencies.length * 8));
    if (positions > this.#tablePositions && this.#tablePositions < most) {
      this.#growTable(Math.min(most, this.#coarseRows * FINE));
    }
    const at = this.#record / 4;
    const u32 = this.#memory.u32;
    u32[at] = this.#table;
    u32[at + 1] = this.#tablePositions;
    u32[at + 2] = this.#coarse;
    u32[at + 3] = this.#fine;
    return this.#record;
  }

  [Symbol.dispose](): void {
    this.#memory.free(this.#fine);
    if (this.#coarseRows > 0) this.#memory.free(this.#coarse);
    if (this.#tablePositions > 0) this.#memory.free(this.#table);
  }

  #growCoarse(least: number): void {
    const rows = Math.max(4, 2 ** Math.ceil(Math.log2(least)));
    const bytes = rows * this.frequencies.length * 16;
    const coarse = this.#memory.allocate(bytes, "rotary angles", ADVICE);
    this.#fill(coarse, rows, FINE, 1);
    if (this.#coarseRows > 0) this.#memory.free(this.#coarse);
    this.#coarse = coarse;
    this.#coarseRows = rows;
  }

  #growTable(positions: number): void {
    const half = this.frequencies.length;
    const table = this.#memory.allocate(positions * half * 8, "rotary angles", ADVICE);
    this.#kernels.ropeAngles(table, this.#coarse, this.#fine, half, 0, positions);
    if (this.#tablePositions > 0) this.#memory.free(this.#table);
    this.#table = table;
    this.#tablePositions = positions;
  }

  /** f64[rows][half][cosine, sine] of positions 0, step, 2 step, ..., times a factor. */
  #fill(ptr: number, rows: number, step: number, factor: number): void {
    const f64 = this.#memory.f64;
    let at = ptr / 8;
    for (let row = 0; row < rows; row++) {
      for (const frequency of this.frequencies) {
        const angle = row * step * frequency;
        f64[at++] = factor * Math.cos(angle);
        f64[at++] = factor * Math.sin(angle);
      }
    }
  }
}

/** The tables of the ropes that were used last. */
export class RotaryTables implements Disposable {
  readonly #memory: Memory;
  readonly #kernels: Kernels;
  /** The last one used is at the end. */
  readonly #tables: RotaryTable[] = [];

  constructor(memory: Memory, kernels: Kernels) {
    this.#memory = memory;
    this.#kernels = kernels;
  }

  /** All tables, in bytes. */
  get byteLength(): number {
    return this.#tables.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /** The record that `attend` reads, for all positions below `positions`. */
  cover({ inverseFrequencies, attentionFactor = 1 }: Rope, positions: number): number {
    const at = this.#tables.findLastIndex(({ frequencies, factor }) =>
      factor === attentionFactor &&
      frequencies.length === inverseFrequencies.length &&
      frequencies.every((frequency, i) => frequency === inverseFrequencies[i])
    );
    const table = this.#tables[at] ??
      new RotaryTable(this.#memory, this.#kernels, inverseFrequencies, attentionFactor);
    if (at >= 0) this.#tables.splice(at, 1);
    this.#tables.push(table);
    if (this.#tables.length > MAX_ROPES) this.#tables.shift()![Symbol.dispose]();
    return table.cover(positions);
  }

  [Symbol.dispose](): void {
    for (const table of this.#tables.splice(0)) table[Symbol.dispose]();
  }
}
