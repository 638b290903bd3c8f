/**
 * The chunks of a cache and of its forks: where they lie, what they occupy, and what became of old ones.
 *
 * @module
 */

import type { SpillFile } from "../backend.ts";
import { OutOfMemoryError } from "../../errors.ts";
import { ChunkHolders } from "../kv_holders.ts";
import { SpillSpace } from "../kv_spill.ts";
import type { Arenas } from "./arenas.ts";
import type { Machine } from "./machine.ts";

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
  /** Its place in the spill file, in bytes; -1 while values are in memory. */
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
  /** The cache and its forks. */
  readonly holders: ChunkHolders<Chunk> = new ChunkHolders<Chunk>();
  readonly #arenas: Arenas;
  /** What values are. */
  readonly #valueBytes: number;
  /** What blocks occupy. */
  readonly #sizes: BlockSizes;
  /** What all chunks may occupy in memory, in bytes. */
  readonly #ceiling: number;
  readonly #spill: SpillSpace | null;
  /** What goes to the spill file and comes back, because files do not take memory that threads share. */
  #passing: Uint8Array = new Uint8Array(0);
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
    this.#valueBytes = sizes.values;
    // Of one size, so that keys fit where spilled values were: else a third of memory would lie idle.
    const block = Math.max(sizes.keys, sizes.values);
    this.#sizes = spill === null ? sizes : { keys: block, values: block };
    this.#ceiling = ceiling;
    this.#spill = spill && new SpillSpace(spill, this.homes.length * sizes.values);
  }

  /** What a chunk occupies whose keys and values are in memory, in bytes. */
  get chunkBytes(): number {
    return this.homes.length * (this.#sizes.keys + this.#sizes.values);
  }

  /** What spilling a chunk frees, in bytes. */
  get spillableBytes(): number {
    return this.homes.length * this.#sizes.values;
  }

  /** Whether values may leave memory. */
  get spills(): boolean {
    return this.#spill !== null;
  }

  /** What may still be taken for chunks, as far as bytes tell. */
  get roomBytes(): number {
    const { limitBytes, usedBytes } = this.#arenas.budget;
    return Math.min(limitBytes - usedBytes, this.#ceiling - this.#residentBytes);
  }

  /** What a chunk occupies in memory, in bytes. */
  bytesOf(chunk: Chunk): number {
    return chunk.slot < 0 ? this.chunkBytes : this.chunkBytes - this.spillableBytes;
  }

  /** Whether some chunks more stay below the ceiling, and arenas have room for them. */
  hasRoom(chunks: number): boolean {
    if (this.#residentBytes + chunks * this.chunkBytes > this.#ceiling) return false;
    const { keys, values } = this.#sizes;
    const blocks = new Map<Machine, number[]>();
    for (const home of this.homes) {
      const sizes = blocks.get(home) ?? [];
      for (let i = 0; i < chunks; i++) sizes.push(keys, values);
      blocks.set(home, sizes);
    }
    return this.#arenas.hasRoom(blocks);
  }

  /**
   * @param tokens For the message: what there was to be room for.
   * @param chunks How many more that are.
   * @param forgets Whether the oldest would have been forgotten.
   * @throws {OutOfMemoryError} Always.
   */
  refuse(tokens: string, chunks: number, forgets: boolean): never {
    const { limitBytes, usedBytes } = this.#arenas.budget;
    const bytes = chunks * this.chunkBytes;
    const own = this.#ceiling < limitBytes;
    const advice = [
      'keep the cache in "i16"',
      "allow more memory",
      ...this.#spill === null ? ["give a place to spill to"] : [],
      ...this.holders.size > 1 ? ["dispose of forks"] : [],
      forgets ? "use a smaller scope or shorter steps" : "or read a shorter text",
    ];
    const held = own
      ? `the cache holds ${this.#residentBytes} of the ${this.#ceiling} that it may`
      : `the wasm backend holds ${usedBytes} of the ${limitBytes} that it can`;
    const { arenaBytes } = this.#arenas;
    const layerBytes = bytes / this.homes.length;
    const layer = this.homes.some(({ memory }) => arenaBytes - memory.usedBytes < layerBytes)
      ? `, where a layer's must be in one memory of at most ${arenaBytes}`
      : "";
    throw new OutOfMemoryError(
      `Cannot make room for ${tokens} in the KV cache: they need ${bytes} bytes more, and ` +
        `${held}${own || limitBytes <= arenaBytes ? "" : layer}; ${advice.join(", ")}`,
      bytes,
      own ? this.#ceiling : limitBytes,
    );
  }

  /** A chunk of undefined contents; null if there is no room in the arenas. */
  allocate(): Chunk | null {
    const what = "a chunk of the KV cache";
    const chunk: Chunk = { blocks: [], owners: 1, slot: -1 };
    try {
      for (const { memory } of this.homes) {
        const block = { keys: memory.allocate(this.#sizes.keys, what, ""), values: NOWHERE };
        chunk.blocks.push(block);
        block.values = memory.allocate(this.#sizes.values, what, "");
      }
    } catch (error) {
      this.#free(chunk);
      if (error instanceof OutOfMemoryError) return null;
      throw error;
    }
    this.#residentBytes += this.chunkBytes;
    return chunk;
  }

  /** Gives a chunk the contents of another, which may be in the spill file. */
  copy(to: Chunk, from: Chunk): void {
    this.homes.forEach(({ memory }, layer) => {
      const [target, source] = [to.blocks[layer]!, from.blocks[layer]!];
      memory.u8.copyWithin(target.keys, source.keys, source.keys + this.#sizes.keys);
      const bytes = this.#valueBytes;
      if (source.values === NOWHERE) this.readValues(from, layer, 0, target.values, bytes);
      else memory.u8.copyWithin(target.values, source.values, source.values + bytes);
    });
  }

  /** One owner less; without any it is gone. */
  release(chunk: Chunk): void {
    if (--chunk.owners > 0) return;
    this.#residentBytes -= this.bytesOf(chunk);
    if (chunk.slot >= 0) this.#spill!.give(chunk.slot);
    this.#free(chunk);
  }

  /**
   * Moves a chunk's values to the spill file, for all who hold it.
   *
   * @throws {Error} If they cannot be written; they stay in memory then.
   */
  spill(chunk: Chunk): void {
    if (this.#spill === null || chunk.slot >= 0) return;
    const slot = this.#spill.write(this.#valuesOf(chunk));
    this.homes.forEach(({ memory }, layer) => {
      const block = chunk.blocks[layer]!;
      memory.free(block.values);
      block.values = NOWHERE;
    });
    chunk.slot = slot;
    this.#residentBytes -= this.spillableBytes;
  }

  /** out = a layer's spilled values from byte `from` on; not shared memory. */
  readSpilled(chunk: Chunk, layer: number, out: Uint8Array, from = 0): void {
    this.#spill!.read(chunk.slot, layer * this.#valueBytes + from, out);
  }

  /** Reads some bytes of a layer's spilled values to a pointer in the layer's arena. */
  readValues(chunk: Chunk, layer: number, from: number, ptr: number, bytes: number): void {
    const target = this.#pass(bytes);
    this.readSpilled(chunk, layer, target, from);
    this.homes[layer]!.memory.u8.set(target, ptr);
  }

  /** Layer by layer, each in the same room. */
  *#valuesOf({ blocks }: Chunk): Generator<Uint8Array> {
    for (const [layer, { values }] of blocks.entries()) {
      const bytes = this.#pass(this.#valueBytes);
      bytes.set(this.homes[layer]!.memory.u8.subarray(values, values + bytes.length));
      yield bytes;
    }
  }

  /**
   * Room for bytes that pass, the same each time: beside gigabytes of cache an engine takes each new buffer
   * for a reason to collect everything.
   */
  #pass(bytes: number): Uint8Array {
    if (this.#passing.length < bytes) this.#passing = new Uint8Array(bytes);
    return this.#passing.subarray(0, bytes);
  }

  #free({ blocks }: Chunk): void {
    blocks.forEach(({ keys, values }, layer) => {
      const { memory } = this.homes[layer]!;
      memory.free(keys);
      if (values !== NOWHERE) memory.free(values);
    });
  }
}
