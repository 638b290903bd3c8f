/**
 * Where a store's chunks are, as kernels read it: shaders/kv_layout.ts.
 *
 * @module
 */

import type { Device, DeviceBuffer } from "./device.ts";
import type { Chunk } from "./kv_chunks.ts";
import { FETCHED_SLAB, NOWHERE_ENTRY } from "./shaders/kv_layout.ts";

/** u32[chunks][keys, values] on the device. */
export class ChunkTable {
  readonly #device: Device;
  #buffer: DeviceBuffer | null = null;
  /** The moves that it knows of; -1: none of the chunks that there are. */
  #told = -1;

  /** Empty. */
  constructor(device: Device) {
    this.#device = device;
  }

  /** To be told anew: there are other chunks now. */
  forget(): void {
    this.#told = -1;
  }

  /**
   * The table of these chunks.
   *
   * @param moves How often chunks of the pool have moved.
   */
  of(chunks: readonly (Chunk | null)[], moves: number): DeviceBuffer {
    const bytes = 8 * chunks.length;
    if (this.#buffer === null || this.#buffer.size < bytes) {
      this[Symbol.dispose]();
      this.#buffer = this.#device.allocate(2 * bytes, "the table of the KV cache");
      this.#told = -1;
    }
    if (this.#told !== moves) {
      const entries = new Uint32Array(2 * chunks.length).fill(NOWHERE_ENTRY);
      chunks.forEach((chunk, i) => {
        if (chunk === null) return;
        const { keys, values } = chunk;
        entries[2 * i] = keys.slab << 20 | keys.slot;
        entries[2 * i + 1] = values ? values.slab << 20 | values.slot : FETCHED_SLAB << 20;
      });
      this.#device.write(this.#buffer, 0, entries);
      this.#told = moves;
    }
    return this.#buffer;
  }

  /** Gives the buffer back. */
  [Symbol.dispose](): void {
    if (this.#buffer) this.#device.release(this.#buffer);
    this.#buffer = null;
  }
}
