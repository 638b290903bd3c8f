/**
 * The chunks of a cache and of its forks: where they lie, what they occupy, and what became of old ones.
 *
 * @module
 */

import type { SpillFile } from "../backend.ts";
import { OutOfMemoryError } from "../../errors.ts";
import type { Arenas } from "./arenas.ts";
import type { Machine } from "./machine.ts";

/** What to change when a chunk does not fit. */
const ADVICE =
  'keep the cache in "i16", allow more memory, give a place to spill to, or read a shorter text';

/** No block of memory. */
const NOWHERE = -1;

/** A layer's part of a chunk, in the layer's arena: asm/kv_layout.ts. */
export interface Block {
  readonly keys: number;
  /** {@linkcode NOWHERE} once they are in the spill file. */
  values: number;
}

/** `chunkSize` tokens of all layers. */
export interface Chunk {
  readonly blocks: Block[];
  /** Stores that hold it; more than one must not write. */
  owners: number;
  /** Its place in the spill file, in chunks; -1 while values are in memory. */
  slot: number;
}

/** Sizes of a layer's blocks, in bytes. */
export interface BlockSizes {
  readonly keys: number;
  readonly values: number;
}

/** Gives chunks, copies them, takes them back. */
export class ChunkPool {
  /** The arena of each layer. */
  readonly homes: readonly Machine[];
  readonly #arenas: Arenas;
  readonly #sizes: BlockSizes;
  /** What all chunks may occupy in memory, in bytes. */
  readonly #ceiling: number;
  readonly #spill: SpillFile | null;
  readonly #freeSlots: number[] = [];
  #slots = 0;
  #residentBytes = 0;

  /** Empty. */
  constructor(
    arenas: Arenas,
    numLayers: number,
    sizes: BlockSizes,
    ceiling: number,
    spill: SpillFile | null,
  ) {
    this.homes = arenas.forLayers(numLayers);
    this.#arenas = arenas;
    this.#sizes = sizes;
    this.#ceiling = ceiling;
    this.#spill = spill;
  }

  /** Keys and values of a chunk, in bytes. */
  get chunkBytes(): number {
    return this.homes.length * (this.#sizes.keys + this.#sizes.values);
  }

  /** Whether values may leave memory. */
  get spills(): boolean {
    return this.#spill !== null;
  }

  /** What a chunk occupies in memory, in bytes. */
  bytesOf(chunk: Chunk): number {
    const { keys, values } = this.#sizes;
    return this.homes.length * (chunk.slot < 0 ? keys + values : keys);
  }

  /** Whether a chunk more stays below the ceiling, and arenas have room for it. */
  hasRoom(): boolean {
    if (this.#residentBytes + this.chunkBytes > this.#ceiling) return false;
    const { keys, values } = this.#sizes;
    const needs = new Map<Machine, number>();
    for (const home of this.homes) needs.set(home, (needs.get(home) ?? 0) + keys + values);
    return [...needs].every(([home, bytes]) => this.#arenas.hasRoom(home, bytes));
  }

  /**
   * Whether that many chunks more are beyond all that there can be, which need not be tried.
   */
  exceeds(chunks: number): boolean {
    const { limitBytes, usedBytes } = this.#arenas.budget;
    const room = Math.min(limitBytes - usedBytes, this.#ceiling - this.#residentBytes);
    return chunks *
        (this.#spill === null ? this.chunkBytes : this.homes.length * this.#sizes.keys) >
      room;
  }

  /** @throws {OutOfMemoryError} Always: `chunks` more do not fit, for `length` tokens in all. */
  refuse(length: number, chunks: number): never {
    const { limitBytes, usedBytes } = this.#arenas.budget;
    const bytes = chunks * this.chunkBytes;
    const own = this.#ceiling < limitBytes;
    throw new OutOfMemoryError(
      `Cannot make room for ${length} tokens in the KV cache: they need ${bytes} bytes more, and ` +
        (own
          ? `the cache holds ${this.#residentBytes} of the ${this.#ceiling} that it may`
          : `the wasm backend holds ${usedBytes} of the ${limitBytes} that it can`) +
        `; ${ADVICE}`,
      bytes,
      own ? this.#ceiling : limitBytes,
    );
  }

  /** A chunk of undefined contents. */
  allocate(): Chunk {
    const what = "a chunk of the KV cache";
    const chunk: Chunk = { blocks: [], owners: 1, slot: -1 };
    try {
      for (const { memory } of this.homes) {
        const block = { keys: memory.allocate(this.#sizes.keys, what, ADVICE), values: NOWHERE };
        chunk.blocks.push(block);
        block.values = memory.allocate(this.#sizes.values, what, ADVICE);
      }
    } catch (error) {
      this.#free(chunk);
      throw error;
    }
    this.#residentBytes += this.chunkBytes;
    return chunk;
  }

  /** Another with the same contents, in memory. */
  copy(chunk: Chunk): Chunk {
    const copy = this.allocate();
    this.homes.forEach(({ memory }, layer) => {
      const [from, to] = [chunk.blocks[layer]!, copy.blocks[layer]!];
      const { keys, values } = this.#sizes;
      memory.u8.copyWithin(to.keys, from.keys, from.keys + keys);
      if (from.values === NOWHERE) this.readValues(chunk, layer, 0, to.values, values);
      else memory.u8.copyWithin(to.values, from.values, from.values + values);
    });
    return copy;
  }

  /** out = a layer's spilled values. */
  readSpilled(chunk: Chunk, layer: number, out: Uint8Array): void {
    this.#spill!.read(this.#offset(chunk.slot, layer), out);
  }

  /** One owner less; without any it is gone. */
  release(chunk: Chunk): void {
    if (--chunk.owners > 0) return;
    this.#residentBytes -= this.bytesOf(chunk);
    if (chunk.slot >= 0) this.#freeSlots.push(chunk.slot);
    this.#free(chunk);
  }

  /**
   * Moves a chunk's values to the spill file, for all who hold it.
   *
   * @throws {Error} If they cannot be written; they stay in memory then.
   */
  spill(chunk: Chunk): void {
    if (this.#spill === null || chunk.slot >= 0) return;
    const slot = this.#freeSlots.pop() ?? this.#slots++;
    const { values } = this.#sizes;
    try {
      this.homes.forEach(({ memory }, layer) => {
        const { values: ptr } = chunk.blocks[layer]!;
        // A copy, because files do not take memory that threads share.
        this.#spill!.write(this.#offset(slot, layer), memory.u8.slice(ptr, ptr + values));
      });
    } catch (error) {
      this.#freeSlots.push(slot);
      throw error;
    }
    this.homes.forEach(({ memory }, layer) => {
      const block = chunk.blocks[layer]!;
      memory.free(block.values);
      block.values = NOWHERE;
    });
    chunk.slot = slot;
    this.#residentBytes -= this.homes.length * values;
  }

  /** Reads some bytes of a layer's spilled values to a pointer in the layer's arena. */
  readValues(chunk: Chunk, layer: number, from: number, ptr: number, bytes: number): void {
    const target = new Uint8Array(bytes);
    this.#spill!.read(this.#offset(chunk.slot, layer) + from, target);
    this.homes[layer]!.memory.u8.set(target, ptr);
  }

  #offset(slot: number, layer: number): number {
    return (slot * this.homes.length + layer) * this.#sizes.values;
  }

  #free({ blocks }: Chunk): void {
    blocks.forEach(({ keys, values }, layer) => {
      const { memory } = this.homes[layer]!;
      memory.free(keys);
      if (values !== NOWHERE) memory.free(values);
    });
  }
}
