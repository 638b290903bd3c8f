/**
 * The chunks of a cache and of its forks on the device: where they lie, what they occupy, and what became of old
 * ones.
 *
 * @module
 */

import { OutOfMemoryError } from "../../errors.ts";
import type { SpillFile } from "../backend.ts";
import { ChunkHolders } from "../kv_holders.ts";
import { SpillSpace } from "../kv_spill.ts";
import type { DeviceBuffer } from "./device.ts";
import { type Place, Slabs } from "./kv_slabs.ts";
import type { Owner } from "./owner.ts";

/** `chunkSize` tokens of all layers. */
export interface Chunk {
  readonly keys: Place;
  /** Null once they are in the spill file. */
  values: Place | null;
  /** Stores that hold it; more than one must not write. */
  owners: number;
  /** Its place in the spill file, in bytes; -1 while values are on the device. */
  spilledAt: number;
}

/** Sizes of a layer's part of a chunk, in bytes. */
export interface BlockSizes {
  readonly keys: number;
  readonly values: number;
}

/** A chunk's keys, or its values. */
export type Plane = keyof BlockSizes;

/** Gives chunks, copies them, takes them back. */
export class ChunkPool {
  readonly owner: Owner;
  readonly numLayers: number;
  /** Sizes of what is in blocks. */
  readonly sizes: BlockSizes;
  /** The cache and its forks. */
  readonly holders: ChunkHolders<Chunk> = new ChunkHolders<Chunk>();
  readonly #slabs: Readonly<Record<Plane, Slabs>>;
  readonly #ceiling: number;
  readonly #spill: SpillSpace | null;
  #residentBytes = 0;
  #moves = 0;

  /** @param ceiling What all chunks may occupy on the device, in bytes. */
  constructor(
    owner: Owner,
    numLayers: number,
    sizes: BlockSizes,
    ceiling: number,
    spill: SpillFile | null,
  ) {
    this.owner = owner;
    this.numLayers = numLayers;
    this.sizes = sizes;
    this.#ceiling = ceiling;
    this.#spill = spill && new SpillSpace(spill, numLayers * sizes.values);
    if (spill === null) {
      this.#slabs = {
        keys: new Slabs(owner, numLayers, sizes.keys, "keys"),
        values: new Slabs(owner, numLayers, sizes.values, "values"),
      };
    } else {
      // Of one size, so that keys fit where spilled values were: else a third of memory would lie idle.
      const block = Math.max(sizes.keys, sizes.values);
      const slabs = new Slabs(owner, numLayers, block, "keys or values");
      this.#slabs = { keys: slabs, values: slabs };
    }
  }

  /** What a chunk occupies whose keys and values are on the device, in bytes. */
  get chunkBytes(): number {
    return this.numLayers * (this.#slabs.keys.blockBytes + this.#slabs.values.blockBytes);
  }

  /** What spilling a chunk frees, in bytes. */
  get spillableBytes(): number {
    return this.numLayers * this.#slabs.values.blockBytes;
  }

  /** Whether values may leave the device. */
  get spills(): boolean {
    return this.#spill !== null;
  }

  /** How often values left the device: tables from before do not hold. */
  get moves(): number {
    return this.#moves;
  }

  /** What may still be taken for chunks, in bytes. */
  get roomBytes(): number {
    const { limitBytes, usedBytes } = this.owner.ledger;
    return Math.min(limitBytes - usedBytes, this.#ceiling - this.#residentBytes);
  }

  /** What a chunk occupies on the device, in bytes. */
  bytesOf({ values }: Chunk): number {
    return values ? this.chunkBytes : this.chunkBytes - this.spillableBytes;
  }

  /** From a slot to the next, in bytes. */
  slotBytes(plane: Plane): number {
    return this.#slabs[plane].blockBytes;
  }

  /** A layer's buffer of a slab. */
  buffer(plane: Plane, slab: number, layer: number): DeviceBuffer {
    return this.#slabs[plane].layer(slab, layer);
  }

  /**
   * @param tokens For the message: what there was to be room for.
   * @param chunks How many more that are.
   * @param forgets Whether the oldest would have been forgotten.
   * @throws {OutOfMemoryError} Always.
   */
  refuse(tokens: string, chunks: number, forgets: boolean): never {
    const { limitBytes, usedBytes } = this.owner.ledger;
    const bytes = chunks * this.chunkBytes;
    const own = this.#ceiling < limitBytes;
    const advice = [
      'keep the cache in "i16"',
      "allow more memory",
      ...this.#spill === null ? ["give a place to spill to"] : [],
      ...this.holders.size > 1 ? ["dispose of forks"] : [],
      forgets ? "use a smaller scope or shorter steps" : "or read a shorter text",
    ];
    throw new OutOfMemoryError(
      `Cannot make room for ${tokens} in the KV cache: they need ${bytes} bytes more, and ` +
        (own
          ? `the cache holds ${this.#residentBytes} of the ${this.#ceiling} that it may`
          : `the webgpu backend holds ${usedBytes} of the ${limitBytes} that it may`) +
        `; ${advice.join(", ")}`,
      bytes,
      own ? this.#ceiling : limitBytes,
    );
  }

  /**
   * A chunk of undefined contents; there must be room.
   *
   * @param more How many are to follow.
   */
  allocate(more = 0): Chunk {
    const { keys, values } = this.#slabs;
    const isShared = keys === values;
    const room = Math.floor(this.roomBytes / this.chunkBytes) * (isShared ? 2 : 1);
    const following = isShared ? 2 * more + 1 : more;
    this.owner.ledger.take("a chunk of the KV cache", this.chunkBytes);
    try {
      const key = keys.take(following, room);
      try {
        const chunk: Chunk = {
          keys: key,
          values: values.take(more, room),
          owners: 1,
          spilledAt: -1,
        };
        this.#residentBytes += this.chunkBytes;
        return chunk;
      } catch (error) {
        keys.give(key);
        throw error;
      }
    } catch (error) {
      this.owner.ledger.give(this.chunkBytes);
      throw error;
    }
  }

  /**
   * A copy of a chunk, which may be in the spill file, in place of it; there must be room.
   *
   * @param more How many are to follow.
   * @throws {Error} If it cannot be read; nothing has changed then.
   */
  copy(from: Chunk, more: number): Chunk {
    const copy = this.allocate(more);
    try {
      for (let layer = 0; layer < this.numLayers; layer++) {
        this.#copyBlock("keys", layer, copy.keys, from.keys);
        if (from.values) this.#copyBlock("values", layer, copy.values!, from.values);
        else {
          const bytes = new Uint8Array(this.sizes.values);
          this.readSpilled(bytes, from, layer);
          this.write("values", layer, copy.values!, bytes);
        }
      }
    } catch (error) {
      this.release(copy);
      throw error;
    }
    this.release(from);
    return copy;
  }

  /** One owner less; without any it is gone. */
  release(chunk: Chunk): void {
    if (--chunk.owners > 0) return;
    const bytes = this.bytesOf(chunk);
    this.#slabs.keys.give(chunk.keys);
    if (chunk.values) this.#slabs.values.give(chunk.values);
    else this.#spill!.give(chunk.spilledAt);
    this.owner.ledger.give(bytes);
    this.#residentBytes -= bytes;
  }

  /**
   * Moves a chunk's values to the spill file, for all who hold it. They come back from the device in one read of
   * each layer.
   *
   * @throws {Error} If they cannot be written; they stay on the device then.
   */
  async spill(chunk: Chunk): Promise<void> {
    const { values } = chunk;
    if (this.#spill === null || values === null) return;
    const { device, ledger } = this.owner;
    const at = values.slot * this.slotBytes("values");
    // So that what is read stays what it is until it has arrived.
    chunk.owners++;
    try {
      const parts = await Promise.all(
        Array.from({ length: this.numLayers }, async (_, layer) => {
          const buffer = this.buffer("values", values.slab, layer);
          return new Uint8Array(await device.read(buffer, at, this.sizes.values));
        }),
      );
      // Others may have spilled it, or let go of it, meanwhile.
      if (chunk.values === null || chunk.owners === 1) return;
      chunk.spilledAt = this.#spill.write(parts);
      chunk.values = null;
      this.#moves++;
      this.#slabs.values.give(values);
      ledger.give(this.spillableBytes);
      this.#residentBytes -= this.spillableBytes;
    } finally {
      this.release(chunk);
    }
  }

  /** Sets a layer's keys or values, which are on the device. */
  write(plane: Plane, layer: number, { slab, slot }: Place, bytes: Uint8Array): void {
    const { device } = this.owner;
    device.write(this.buffer(plane, slab, layer), slot * this.slotBytes(plane), bytes);
  }

  /** out = a layer's spilled values from byte `from` on. */
  readSpilled(out: Uint8Array, chunk: Chunk, layer: number, from = 0): void {
    this.#spill!.read(chunk.spilledAt, layer * this.sizes.values + from, out);
  }

  /** Without holders all buffers are given back. */
  clear(): void {
    if (this.holders.size > 0) return;
    this.#slabs.keys.clear();
    this.#slabs.values.clear();
  }

  #copyBlock(plane: Plane, layer: number, to: Place, from: Place): void {
    const { device } = this.owner;
    const size = this.slotBytes(plane);
    const bytes = this.sizes[plane];
    const [target, source] = [to, from].map(({ slab }) => this.buffer(plane, slab, layer));
    if (target !== source) {
      device.copy(target!, to.slot * size, source!, from.slot * size, bytes);
      return;
    }
    // Within one buffer nothing can be copied.
    const between = device.allocate(bytes, "a copy of a shared chunk");
    device.copy(between, 0, source!, from.slot * size, bytes);
    device.copy(target!, to.slot * size, between, 0, bytes);
    device.release(between);
  }
}
