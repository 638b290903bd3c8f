/**
 * The chunks of a cache and of its forks on the device. A slab is two buffers a layer, of keys and of values, with
 * room for many chunks, so that a run of a kernel reads many; a chunk has the same slot in all of them.
 *
 * @module
 */

import { OutOfMemoryError } from "../../errors.ts";
import type { DeviceBuffer } from "./device.ts";
import type { Owner } from "./owner.ts";

/** The most slots of a slab, and the most slabs: a table's entry has 20 and 12 bits for them. */
const MAX_SLOTS = 1 << 20;
const MAX_SLABS = (1 << 12) - 1;

/** `chunkSize` tokens of all layers. */
export interface Chunk {
  readonly slab: number;
  readonly slot: number;
  /** Stores that hold it; more than one must not write. */
  owners: number;
}

/** A layer's part of a slab. */
export interface LayerSlab {
  readonly keys: DeviceBuffer;
  readonly values: DeviceBuffer;
}

/** Sizes of a layer's part of a chunk, in bytes. */
export interface BlockSizes {
  readonly keys: number;
  readonly values: number;
}

/** A store, as its chunks know it. */
export interface ChunkHolder {
  /** Whether it has that chunk there. */
  holds(index: number, chunk: Chunk): boolean;
  /** Whether no attention call of it needs the chunk. */
  canForget(index: number): boolean;
  /** Lets go of the chunk for good. */
  forget(index: number): void;
}

interface Slab {
  readonly layers: readonly LayerSlab[];
  readonly free: number[];
  readonly slots: number;
}

/** Gives chunks, copies them, takes them back. */
export class ChunkSlabs {
  readonly owner: Owner;
  /** The cache and its forks. */
  readonly holders: Set<ChunkHolder> = new Set<ChunkHolder>();
  readonly #numLayers: number;
  readonly #sizes: BlockSizes;
  readonly #ceiling: number;
  readonly #slabs: (Slab | null)[] = [];
  #chunks = 0;

  /** @param ceiling What all chunks may occupy, in bytes. */
  constructor(owner: Owner, numLayers: number, sizes: BlockSizes, ceiling: number) {
    this.owner = owner;
    this.#numLayers = numLayers;
    this.#sizes = sizes;
    this.#ceiling = ceiling;
    const largest = Math.max(sizes.keys, sizes.values);
    if (largest > owner.device.bindingBytes) {
      throw new OutOfMemoryError(
        `Cannot make a KV store: a chunk's keys or values of a layer must fit in one buffer of this GPU, ` +
          `${owner.device.bindingBytes} bytes, got ${largest}; use smaller chunks`,
        largest,
        owner.device.bindingBytes,
      );
    }
  }

  /** What a chunk occupies, in bytes. */
  get chunkBytes(): number {
    return this.#numLayers * (this.#sizes.keys + this.#sizes.values);
  }

  /** What may still be taken for chunks, in bytes. */
  get roomBytes(): number {
    const { limitBytes, usedBytes } = this.owner.ledger;
    return Math.min(limitBytes - usedBytes, this.#ceiling - this.#chunks * this.chunkBytes);
  }

  /** A layer's buffers of a slab. */
  layer(slab: number, layer: number): LayerSlab {
    return this.#slabs[slab]!.layers[layer]!;
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
      ...this.holders.size > 1 ? ["dispose of forks"] : [],
      forgets ? "use a smaller scope or shorter steps" : "or read a shorter text",
    ];
    throw new OutOfMemoryError(
      `Cannot make room for ${tokens} in the KV cache: they need ${bytes} bytes more, and ` +
        (own
          ? `the cache holds ${this.#chunks * this.chunkBytes} of the ${this.#ceiling} that it may`
          : `the webgpu backend holds ${usedBytes} of the ${limitBytes} that it may`) +
        `; ${advice.join(", ")}`,
      bytes,
      own ? this.#ceiling : limitBytes,
    );
  }

  /**
   * A chunk of undefined contents; there must be room.
   *
   * @param more How many are to follow: a new slab has room for these, too.
   */
  allocate(more = 0): Chunk {
    let slab = this.#slabs.findIndex((each) => each !== null && each.free.length > 0);
    if (slab < 0) slab = this.#grow(1 + more);
    this.owner.ledger.take("a chunk of the KV cache", this.chunkBytes);
    this.#chunks++;
    return { slab, slot: this.#slabs[slab]!.free.pop()!, owners: 1 };
  }

  /** Gives a chunk the contents of another. */
  copy(to: Chunk, from: Chunk): void {
    const { device } = this.owner;
    for (let layer = 0; layer < this.#numLayers; layer++) {
      const [target, source] = [this.layer(to.slab, layer), this.layer(from.slab, layer)];
      for (const plane of ["keys", "values"] as const) {
        const bytes = this.#sizes[plane];
        if (target[plane] !== source[plane]) {
          device.copy(target[plane], to.slot * bytes, source[plane], from.slot * bytes, bytes);
          continue;
        }
        // Within one buffer nothing can be copied.
        const between = device.allocate(bytes, "a copy of a shared chunk");
        device.copy(between, 0, source[plane], from.slot * bytes, bytes);
        device.copy(target[plane], to.slot * bytes, between, 0, bytes);
        device.release(between);
      }
    }
  }

  /** One owner less; without any it is gone. */
  release(chunk: Chunk): void {
    if (--chunk.owners > 0) return;
    const slab = this.#slabs[chunk.slab]!;
    slab.free.push(chunk.slot);
    this.owner.ledger.give(this.chunkBytes);
    this.#chunks--;
    if (slab.free.length < slab.slots) return;
    // An empty slab is given back, unless it is the only one: caches come and go.
    if (this.#slabs.some((each, i) => each !== null && i !== chunk.slab)) this.#free(chunk.slab);
  }

  /** Whether nobody needs a chunk. */
  canForget(index: number, chunk: Chunk): boolean {
    return this.#holdersOf(index, chunk).every((holder) => holder.canForget(index));
  }

  /** Lets go of a chunk for all who hold it. */
  forget(index: number, chunk: Chunk): void {
    for (const holder of this.#holdersOf(index, chunk)) holder.forget(index);
  }

  /** A holder less; without any all buffers are given back. */
  leave(holder: ChunkHolder): void {
    this.holders.delete(holder);
    if (this.holders.size > 0) return;
    this.#slabs.forEach((slab, i) => slab && this.#free(i));
    this.#slabs.length = 0;
  }

  /** A slab for some chunks, or for a quarter more than there are, whichever is more. */
  #grow(chunks: number): number {
    const { device } = this.owner;
    const largest = Math.max(this.#sizes.keys, this.#sizes.values);
    const most = Math.min(MAX_SLOTS, Math.floor(device.bindingBytes / largest));
    // Not beyond the ceiling: what is free in a slab is held, too.
    const spare = Math.min(
      Math.max(2, this.#chunks >> 2),
      Math.floor(this.roomBytes / this.chunkBytes),
    );
    const slots = Math.min(most, Math.max(chunks, spare));
    const at = this.#slabs.indexOf(null);
    const slab = at >= 0 ? at : this.#slabs.length;
    if (slab >= MAX_SLABS) this.refuse("another slab", slots, false);
    const layers: LayerSlab[] = [];
    for (let layer = 0; layer < this.#numLayers; layer++) {
      layers.push({
        keys: device.allocate(slots * this.#sizes.keys, "keys of the KV cache"),
        values: device.allocate(slots * this.#sizes.values, "values of the KV cache"),
      });
    }
    // The first slot is given out first.
    const free = Array.from({ length: slots }, (_, i) => slots - 1 - i);
    this.#slabs[slab] = { layers, free, slots };
    return slab;
  }

  #free(slab: number): void {
    for (const { keys, values } of this.#slabs[slab]!.layers) {
      this.owner.device.release(keys);
      this.owner.device.release(values);
    }
    this.#slabs[slab] = null;
  }

  #holdersOf(index: number, chunk: Chunk): ChunkHolder[] {
    return [...this.holders].filter((holder) => holder.holds(index, chunk));
  }
}
