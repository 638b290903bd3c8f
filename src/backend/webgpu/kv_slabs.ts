/**
 * Blocks of one size on the device. A slab is a buffer a layer with room for many blocks, so that a run of a kernel
 * reads many; a block has the same slot in all of them.
 *
 * @module
 */

import { OutOfMemoryError } from "../../errors.ts";
import type { DeviceBuffer } from "./device.ts";
import type { Owner } from "./owner.ts";

/** The most slots of a slab, and the most slabs: a table's entry has 20 and 12 bits, two of its slabs are none. */
const MAX_SLOTS = 1 << 20;
const MAX_SLABS = (1 << 12) - 2;

/** A block of every layer: a slab, and a slot in it. */
export interface Place {
  readonly slab: number;
  readonly slot: number;
}

interface Slab {
  readonly layers: readonly DeviceBuffer[];
  readonly free: number[];
  readonly slots: number;
}

/** Gives places and takes them back. */
export class Slabs {
  /** What a block of a layer occupies, in bytes. */
  readonly blockBytes: number;
  readonly #owner: Owner;
  readonly #numLayers: number;
  readonly #what: string;
  readonly #slabs: (Slab | null)[] = [];
  #taken = 0;

  /**
   * @param what For messages: what the blocks are.
   * @throws {OutOfMemoryError} If no buffer can hold a block.
   */
  constructor(owner: Owner, numLayers: number, blockBytes: number, what: string) {
    const { bindingBytes } = owner.device;
    if (blockBytes > bindingBytes) {
      throw new OutOfMemoryError(
        `Cannot make a KV store: a chunk's ${what} of a layer must fit in one buffer of this GPU, ` +
          `${bindingBytes} bytes, got ${blockBytes}; use smaller chunks`,
        blockBytes,
        bindingBytes,
      );
    }
    this.#owner = owner;
    this.#numLayers = numLayers;
    this.blockBytes = blockBytes;
    this.#what = what;
  }

  /** A layer's buffer of a slab. */
  layer(slab: number, layer: number): DeviceBuffer {
    return this.#slabs[slab]!.layers[layer]!;
  }

  /**
   * A place with undefined contents.
   *
   * @param more How many are to follow: a new slab has room for these, too.
   * @param room How many blocks there is memory for; what is free in a slab is held, too.
   */
  take(more: number, room: number): Place {
    let slab = this.#slabs.findIndex((each) => each !== null && each.free.length > 0);
    if (slab < 0) slab = this.#grow(1 + more, room);
    this.#taken++;
    return { slab, slot: this.#slabs[slab]!.free.pop()! };
  }

  /** Takes a place back. */
  give({ slab: index, slot }: Place): void {
    const slab = this.#slabs[index];
    // Whoever left with something under way gives it back late.
    if (!slab) return;
    slab.free.push(slot);
    this.#taken--;
    if (slab.free.length < slab.slots) return;
    // An empty slab is given back, unless it is the only one: caches come and go.
    if (this.#slabs.some((each, i) => each !== null && i !== index)) this.#free(index);
  }

  /** Gives all buffers back. */
  clear(): void {
    this.#slabs.forEach((slab, i) => slab && this.#free(i));
    this.#slabs.length = 0;
  }

  /** A slab for some blocks, or for a quarter more than there are, whichever is more. */
  #grow(blocks: number, room: number): number {
    const { device } = this.#owner;
    const most = Math.min(MAX_SLOTS, Math.floor(device.bindingBytes / this.blockBytes));
    const spare = Math.min(Math.max(2, this.#taken >> 2), room);
    const slots = Math.min(most, Math.max(blocks, spare));
    const at = this.#slabs.indexOf(null);
    const slab = at >= 0 ? at : this.#slabs.length;
    if (slab >= MAX_SLABS) {
      throw new OutOfMemoryError(
        `Cannot make room for ${this.#what} of the KV cache: there are ${MAX_SLABS} buffers of them a layer; ` +
          "read a shorter text",
        blocks * this.blockBytes * this.#numLayers,
        MAX_SLABS * device.bindingBytes,
      );
    }
    const layers: DeviceBuffer[] = [];
    for (let layer = 0; layer < this.#numLayers; layer++) {
      layers.push(device.allocate(slots * this.blockBytes, `${this.#what} of the KV cache`));
    }
    // The first slot is given out first.
    const free = Array.from({ length: slots }, (_, i) => slots - 1 - i);
    this.#slabs[slab] = { layers, free, slots };
    return slab;
  }

  #free(slab: number): void {
    for (const buffer of this.#slabs[slab]!.layers) this.#owner.device.release(buffer);
    this.#slabs[slab] = null;
  }
}
