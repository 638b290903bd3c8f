/**
 * One growing WebAssembly memory and what lies where in it.
 *
 * @module
 */

import { BackendUnavailableError, OutOfMemoryError } from "../../errors.ts";

/** Bytes that memories grow by. */
export const PAGE_BYTES = 65536;

/** A cache line: two threads never write to the same one for different blocks. */
const ALIGNMENT = 64;

/** All but the last page of 4 GiB, so that the end of a block is a pointer too. */
const MAX_PAGES = 65535;

/** What one memory can grow to, in bytes. */
export const MAX_MEMORY_BYTES: number = MAX_PAGES * PAGE_BYTES;

/** What the kernels call the formats: `Format` in asm/convert.ts, `Quantised` in asm/quantised.ts. */
export const FORMATS = {
  f32: 0,
  f16: 1,
  bf16: 2,
  q8_0: 3,
  q4_0: 4,
  q4_k: 5,
  q5_k: 6,
  q6_k: 7,
  q4_1: 8,
  q5_0: 9,
  q5_1: 10,
} as const;

/** A memory that can grow to `limitBytes`, or as far as this host allows. */
export function createMemory(
  shared: boolean,
  limitBytes: number,
): { readonly memory: WebAssembly.Memory; readonly limitBytes: number } {
  let maximum = Math.min(MAX_PAGES, Math.ceil(limitBytes / PAGE_BYTES));
  for (;;) {
    try {
      const memory = new WebAssembly.Memory({ initial: 1, maximum, shared });
      return { memory, limitBytes: Math.min(limitBytes, maximum * PAGE_BYTES) };
    } catch (cause) {
      // Hosts with little address space refuse a large maximum.
      if (maximum <= 1024) {
        throw new BackendUnavailableError(
          `Cannot open the wasm backend: there must be room for a ${
            shared ? "shared " : ""
          }memory of ${maximum * PAGE_BYTES} bytes`,
          { cause },
        );
      }
      maximum = Math.max(1024, maximum >> 1);
    }
  }
}

/** What all memories of a backend may hold together, in bytes, and what they do. */
export class Budget {
  /** What there can be in all. */
  readonly limitBytes: number;
  /** What the memories have grown to. */
  heldBytes = 0;
  /** What blocks occupy. */
  usedBytes = 0;

  /** Nothing held yet. */
  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }
}

/** A stretch of memory nobody holds. */
interface Gap {
  readonly start: number;
  readonly end: number;
}

/**
 * Blocks of one memory. Pointers are numbers from 0 to 2^32, whatever sign WebAssembly gives them;
 * what is given back is joined with its neighbours and given out again, the tightest fit first.
 */
export class Memory {
  /** What the kernels import. */
  readonly memory: WebAssembly.Memory;
  /** What this memory can grow to, in bytes. */
  readonly limitBytes: number;
  /** What all memories may hold. */
  readonly budget: Budget;
  readonly #sizes = new Map<number, number>();
  /** Ascending, never adjacent. */
  readonly #gaps: Gap[] = [];
  #usedBytes = 0;
  #u8: Uint8Array;
  #u32: Uint32Array;
  #f32: Float32Array;
  #f64: Float64Array;

  /**
   * @param base Where the kernels' own tables end, in bytes.
   * @param limitBytes What the memory can grow to.
   * @param budget What it may grow to, with others.
   */
  constructor(memory: WebAssembly.Memory, base: number, limitBytes: number, budget: Budget) {
    this.memory = memory;
    this.limitBytes = limitBytes;
    this.budget = budget;
    budget.heldBytes += memory.buffer.byteLength;
    this.#u8 = new Uint8Array(memory.buffer);
    this.#u32 = new Uint32Array(memory.buffer);
    this.#f32 = new Float32Array(memory.buffer);
    this.#f64 = new Float64Array(memory.buffer);
    const start = align(base);
    if (start < memory.buffer.byteLength) {
      this.#gaps.push({ start, end: memory.buffer.byteLength });
    }
  }

  /** All blocks, in bytes. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** The whole memory; stale after the next `allocate`. */
  get u8(): Uint8Array {
    this.#refresh();
    return this.#u8;
  }

  /** The whole memory; stale after the next `allocate`. */
  get u32(): Uint32Array {
    this.#refresh();
    return this.#u32;
  }

  /** The whole memory; stale after the next `allocate`. */
  get f32(): Float32Array {
    this.#refresh();
    return this.#f32;
  }

  /** The whole memory; stale after the next `allocate`. */
  get f64(): Float64Array {
    this.#refresh();
    return this.#f64;
  }

  /**
   * A block; its contents are undefined.
   *
   * @param bytes 0 is allowed.
   * @param what For the message, e.g. `the weight "lm_head.weight"`.
   * @param advice For the message: what to change, e.g. `use a smaller model`.
   * @returns Where it begins, a multiple of 64.
   * @throws {OutOfMemoryError} If there is no room; nothing has changed then.
   */
  allocate(bytes: number, what: string, advice: string): number {
    const size = align(Math.max(bytes, 1));
    let best = this.#bestGap(size);
    if (best < 0) {
      this.#grow(size, bytes, what, advice);
      best = this.#bestGap(size);
    }
    const { start, end } = this.#gaps[best]!;
    if (end - start === size) this.#gaps.splice(best, 1);
    else this.#gaps[best] = { start: start + size, end };
    this.#sizes.set(start, size);
    this.#usedBytes += size;
    this.budget.usedBytes += size;
    return start;
  }

  /** Gives a block back. */
  free(start: number): void {
    const size = this.#sizes.get(start);
    if (size === undefined) throw new RangeError(`Cannot free memory: no block starts at ${start}`);
    this.#sizes.delete(start);
    this.#usedBytes -= size;
    this.budget.usedBytes -= size;
    this.#addGap(start, start + size);
  }

  /** What the block at `start` occupies, in bytes; 0 if there is none. */
  sizeOf(start: number): number {
    return this.#sizes.get(start) ?? 0;
  }

  /** A place for blocks that are given back together. */
  frame(): Frame {
    return new Frame(this);
  }

  #bestGap(size: number): number {
    let best = -1;
    let bestSize = Infinity;
    for (let i = 0; i < this.#gaps.length; i++) {
      const gap = this.#gaps[i]!;
      const gapSize = gap.end - gap.start;
      if (gapSize >= size && gapSize < bestSize) {
        best = i;
        bestSize = gapSize;
      }
    }
    return best;
  }

  #addGap(start: number, end: number): void {
    let low = 0;
    let high = this.#gaps.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#gaps[middle]!.start < start) low = middle + 1;
      else high = middle;
    }
    const before = this.#gaps[low - 1];
    const after = this.#gaps[low];
    const joinsBefore = before?.end === start;
    const joinsAfter = after?.start === end;
    this.#gaps.splice(low - (joinsBefore ? 1 : 0), (joinsBefore ? 1 : 0) + (joinsAfter ? 1 : 0), {
      start: joinsBefore ? before.start : start,
      end: joinsAfter ? after.end : end,
    });
  }

  #grow(size: number, bytes: number, what: string, advice: string): void {
    const held = this.memory.buffer.byteLength;
    const last = this.#gaps.at(-1);
    const atEnd = last?.end === held ? held - last.start : 0;
    const least = Math.ceil((size - atEnd) / PAGE_BYTES);
    const { budget } = this;
    const free = Math.min(this.limitBytes - held, budget.limitBytes - budget.heldBytes);
    const room = Math.floor(free / PAGE_BYTES);
    // Some more than is needed, since every growth makes new views.
    const wanted = Math.min(room, Math.max(least, Math.min(1024, held / PAGE_BYTES)));
    if (least > room || !(this.#tryGrow(wanted) || this.#tryGrow(least))) {
      throw new OutOfMemoryError(
        `Cannot make room for ${what}: it needs ${bytes} bytes in one piece, and the wasm backend ` +
          `holds ${budget.usedBytes} of the ${budget.limitBytes} that it can; ${advice}`,
        bytes,
        budget.limitBytes,
      );
    }
    this.#addGap(held, this.memory.buffer.byteLength);
  }

  /**
   * What the memory would have to grow by to take some blocks more, in bytes; `Infinity` if it cannot for all
   * that is known without trying.
   */
  growthFor(sizes: Iterable<number>): number {
    const held = this.memory.buffer.byteLength;
    const gaps = this.#gaps.map(({ start, end }) => end - start);
    let tail = this.#gaps.at(-1)?.end === held ? gaps.pop()! : 0;
    let growth = 0;
    for (const bytes of sizes) {
      const size = align(Math.max(bytes, 1));
      let best = -1;
      for (let i = 0; i < gaps.length; i++) {
        if (gaps[i]! >= size && (best < 0 || gaps[i]! < gaps[best]!)) best = i;
      }
      if (best >= 0) gaps[best]! -= size;
      else {
        const missing = Math.max(0, Math.ceil((size - tail) / PAGE_BYTES)) * PAGE_BYTES;
        growth += missing;
        tail += missing - size;
      }
    }
    return held + growth <= this.limitBytes ? growth : Infinity;
  }

  #tryGrow(pages: number): boolean {
    try {
      this.memory.grow(pages);
      this.budget.heldBytes += pages * PAGE_BYTES;
      return true;
    } catch {
      return false;
    }
  }

  /** Growing detaches the buffer (or, where it is shared, makes a longer one). */
  #refresh(): void {
    const { buffer } = this.memory;
    if (this.#u8.buffer === buffer) return;
    this.#u8 = new Uint8Array(buffer);
    this.#u32 = new Uint32Array(buffer);
    this.#f32 = new Float32Array(buffer);
    this.#f64 = new Float64Array(buffer);
  }
}

/** Blocks that live as long as one verb. */
export class Frame implements Disposable {
  readonly #memory: Memory;
  readonly #blocks: number[] = [];

  /** Empty. */
  constructor(memory: Memory) {
    this.#memory = memory;
  }

  /** A block of this frame. */
  take(bytes: number, what: string): number {
    const start = this.#memory.allocate(
      bytes,
      what,
      "use shorter steps, a smaller scope or a shorter text",
    );
    this.#blocks.push(start);
    return start;
  }

  /** Gives all blocks back. */
  [Symbol.dispose](): void {
    for (const block of this.#blocks) this.#memory.free(block);
    this.#blocks.length = 0;
  }
}

function align(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
