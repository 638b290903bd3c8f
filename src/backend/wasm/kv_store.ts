/**
 * The KV cache in wasm memory: chunks of tokens, shared by forks.
 *
 * @module
 */

import { resolveKvStore } from "../checks.ts";
import type { AttentionShape, KvFormat, KvStore, KvStoreOptions } from "../backend.ts";
import { OutOfMemoryError } from "../../errors.ts";
import type { Machine } from "./machine.ts";

/** What to change when a chunk does not fit. */
const ADVICE = 'keep the cache in "f16", or read a shorter text';

/** `chunkSize` tokens of all layers: [layer][KV head][keys, values][chunkSize][4 * quads]. */
interface Chunk {
  readonly ptr: number;
  /** Stores that hold it; more than one must not write. */
  owners: number;
}

/** The wasm backend's {@linkcode KvStore}. */
export class WasmKvStore implements KvStore {
  readonly shape: AttentionShape;
  readonly format: KvFormat;
  readonly chunkSize: number;
  readonly machine: Machine;
  /** Vectors of four in a head. */
  readonly quads: number;
  /** Bytes from a token's key to the next token's. */
  readonly rowBytes: number;
  /** Bytes from a key to its value. */
  readonly valueOffset: number;
  /** Bytes from a KV head to the next. */
  readonly headStride: number;
  readonly #chunks: Chunk[] = [];
  /** Tokens that may be there; the next may only overwrite what comes after. */
  #length = 0;

  constructor(machine: Machine, shape: AttentionShape, options: KvStoreOptions) {
    const { format, chunkSize } = resolveKvStore(shape, options);
    this.machine = machine;
    this.shape = shape;
    this.format = format;
    this.chunkSize = chunkSize;
    this.quads = Math.ceil(shape.headDim / 4);
    this.rowBytes = this.quads * (format === "f16" ? 8 : 16);
    this.valueOffset = chunkSize * this.rowBytes;
    this.headStride = 2 * this.valueOffset;
  }

  get bytesPerToken(): number {
    return this.shape.numLayers * this.shape.numKvHeads * 2 * this.rowBytes;
  }

  get byteLength(): number {
    return this.#chunks.length * this.#chunkBytes;
  }

  get #chunkBytes(): number {
    return this.chunkSize * this.bytesPerToken;
  }

  reserve(length: number): void {
    this.#check("reserve", length, Infinity);
    const numChunks = Math.ceil(length / this.chunkSize);
    const added: Chunk[] = [];
    // After a truncation the last chunk may be one that a fork reads: it is copied, not written.
    const writable = Math.floor(this.#length / this.chunkSize);
    const shared = this.#chunks[writable];
    const copies = shared !== undefined && shared.owners > 1 && length > this.#length;
    const missing = Math.max(0, numChunks - this.#chunks.length) + (copies ? 1 : 0);
    const { limitBytes, usedBytes } = this.machine.memory;
    // Asked at once: memory that was grown in vain would never shrink again.
    if (missing * this.#chunkBytes > limitBytes - usedBytes) {
      throw new OutOfMemoryError(
        `Cannot make room for ${length} tokens in the KV cache: they need ${
          missing * this.#chunkBytes
        } bytes more, and the wasm backend holds ${usedBytes} of the ${limitBytes} that it can; ${ADVICE}`,
        missing * this.#chunkBytes,
        limitBytes,
      );
    }
    try {
      for (let i = this.#chunks.length; i < numChunks; i++) added.push(this.#allocate());
      if (copies) {
        const copy = this.#copy(shared);
        shared.owners--;
        this.#chunks[writable] = copy;
      }
    } catch (error) {
      for (const chunk of added) this.#release(chunk);
      throw error;
    }
    this.#chunks.push(...added);
  }

  truncate(length: number): void {
    this.#check("truncate", length, Infinity);
    this.#length = Math.min(this.#length, length);
    for (const chunk of this.#chunks.splice(Math.ceil(length / this.chunkSize))) {
      this.#release(chunk);
    }
  }

  fork(length: number): WasmKvStore {
    this.#check("fork", length, this.#chunks.length * this.chunkSize);
    const { format, chunkSize } = this;
    const fork = new WasmKvStore(this.machine, this.shape, { format, chunkSize });
    const numFull = Math.floor(length / chunkSize);
    const last = length % chunkSize > 0 ? [this.#copy(this.#chunks[numFull]!)] : [];
    for (const chunk of this.#chunks.slice(0, numFull)) {
      chunk.owners++;
      fork.#chunks.push(chunk);
    }
    fork.#chunks.push(...last);
    fork.#length = length;
    return fork;
  }

  /** Where the key of a token, layer and KV head 0 is. The token must be reserved. */
  keyPtr(layer: number, token: number): number {
    const chunk = this.#chunks[Math.floor(token / this.chunkSize)]!;
    return chunk.ptr + layer * this.shape.numKvHeads * this.headStride +
      token % this.chunkSize * this.rowBytes;
  }

  /**
   * Counts tokens that are about to be written.
   *
   * @throws {RangeError} If they were not reserved.
   */
  extend(layer: number, start: number, end: number): void {
    const room = this.#chunks.length * this.chunkSize;
    if (!(layer >= 0 && layer < this.shape.numLayers) || !(start >= 0) || end > room) {
      throw new RangeError(
        `Cannot append: the layer must be below ${this.shape.numLayers} and the tokens within the ` +
          `${room} reserved, got layer ${layer}, tokens [${start}, ${end})`,
      );
    }
    for (let i = Math.floor(start / this.chunkSize); i * this.chunkSize < end; i++) {
      if (this.#chunks[i]!.owners > 1) {
        throw new RangeError(
          `Cannot append: tokens [${start}, ${end}) must be reserved after the last truncation, ` +
            `since a fork still reads them`,
        );
      }
    }
    this.#length = Math.max(this.#length, end);
  }

  /**
   * @param verb For the message.
   * @throws {RangeError} If there is no such layer or tokens up to `end` were not reserved.
   */
  checkRead(verb: string, layer: number, end: number): void {
    const room = this.#chunks.length * this.chunkSize;
    if (layer >= 0 && layer < this.shape.numLayers && end <= room) return;
    throw new RangeError(
      `Cannot ${verb}: the layer must be below ${this.shape.numLayers} and the scope within the ` +
        `${room} tokens reserved, got layer ${layer}, ${end} tokens`,
    );
  }

  [Symbol.dispose](): void {
    this.truncate(0);
  }

  #check(verb: string, length: number, most: number): void {
    if (Number.isSafeInteger(length) && length >= 0 && length <= most) return;
    throw new RangeError(
      `Cannot ${verb}: the length must be a count of tokens${
        most === Infinity ? "" : `, at most the ${most} reserved`
      }, got ${length}`,
    );
  }

  #allocate(): Chunk {
    const { chunkSize } = this;
    const what = `${chunkSize} tokens of the KV cache`;
    return { ptr: this.machine.memory.allocate(this.#chunkBytes, what, ADVICE), owners: 1 };
  }

  #copy(chunk: Chunk): Chunk {
    const copy = this.#allocate();
    this.machine.memory.u8.copyWithin(copy.ptr, chunk.ptr, chunk.ptr + this.#chunkBytes);
    return copy;
  }

  #release(chunk: Chunk): void {
    if (--chunk.owners === 0) this.machine.memory.free(chunk.ptr);
  }
}
