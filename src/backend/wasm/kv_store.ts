/**
 * The KV cache in wasm memory: chunks of tokens, shared by forks.
 *
 * @module
 */

import { resolveKvStore } from "../checks.ts";
import type { AttentionShape, KvFormat, KvStore, KvStoreOptions } from "../backend.ts";
import { OutOfMemoryError } from "../../errors.ts";
import { channelsOf, plainChannels } from "../key_channels.ts";
import { kvBytesPerToken } from "../kv_bytes.ts";
import type { WasmTensor } from "./handles.ts";
import type { Machine } from "./machine.ts";

/** What to change when a chunk does not fit. */
const ADVICE = 'keep the cache in "i16", or read a shorter text';

/** What precedes the channels: the layout's record, and room for their alignment. */
const RECORD_BYTES = 64;

/** `chunkSize` tokens of all layers: [layer][KV head], each as asm/kv_layout.ts says. */
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
  /** Where the layout's record is. */
  readonly layout: number;
  /** Bytes from the start of a KV head's tokens to their exact keys. */
  readonly exactAt: number;
  /** Bytes from the start of a KV head's tokens to their values. */
  readonly valuesAt: number;
  /** Bytes from a KV head to the next. */
  readonly headStride: number;
  /** Bytes of one number of a value. */
  readonly valueWidth: number;
  readonly #chunks: Chunk[] = [];
  /** Tokens that may be there; the next may only overwrite what comes after. */
  #length = 0;
  #disposed = false;

  constructor(machine: Machine, shape: AttentionShape, options: KvStoreOptions) {
    const { format, chunkSize } = resolveKvStore(shape, options);
    this.machine = machine;
    this.shape = shape;
    this.format = format;
    this.chunkSize = chunkSize;
    this.quads = Math.ceil(shape.headDim / 4);
    this.valueWidth = format === "i16" ? 2 : 4;
    const plane = chunkSize * this.quads * 4;
    const scales = chunkSize * 4;
    this.exactAt = plane + scales;
    this.valuesAt = this.exactAt + (format === "i16" ? plane : 4 * plane);
    this.headStride = this.valuesAt + this.valueWidth * plane;
    const { memory } = machine;
    this.layout = memory.allocate(
      RECORD_BYTES + shape.numLayers * this.#layerChannels,
      "the KV cache's channels",
      ADVICE,
    );
    memory.u32.set(
      [this.quads, format === "i16" ? 1 : 0, plane, this.exactAt, this.valuesAt, this.headStride],
      this.layout / 4,
    );
    const plain = plainChannels(this.quads * 4);
    for (let i = 0; i < shape.numLayers * shape.numKvHeads; i++) {
      memory.f32.set(plain, (this.channels(0) / 4) + i * plain.length);
    }
  }

  /** Bytes of a layer's channels. */
  get #layerChannels(): number {
    return this.shape.numKvHeads * this.quads * 48;
  }

  /** Where a layer's channels are. */
  channels(layer: number): number {
    return this.layout + RECORD_BYTES + layer * this.#layerChannels;
  }

  get bytesPerToken(): number {
    return kvBytesPerToken(this.shape, this.format);
  }

  get byteLength(): number {
    return this.#chunks.length * this.#chunkBytes;
  }

  get #chunkBytes(): number {
    return this.shape.numLayers * this.shape.numKvHeads * this.headStride;
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
    let last: Chunk[];
    try {
      last = length % chunkSize > 0 ? [this.#copy(this.#chunks[numFull]!)] : [];
    } catch (error) {
      fork[Symbol.dispose]();
      throw error;
    }
    const channels = this.channels(0);
    const end = this.channels(this.shape.numLayers);
    this.machine.memory.u8.copyWithin(fork.channels(0), channels, end);
    for (const chunk of this.#chunks.slice(0, numFull)) {
      chunk.owners++;
      fork.#chunks.push(chunk);
    }
    fork.#chunks.push(...last);
    fork.#length = length;
    return fork;
  }

  /** Where the chunk of a token has a layer's tokens of KV head 0. The token must be reserved. */
  chunkPtr(layer: number, token: number): number {
    const chunk = this.#chunks[Math.floor(token / this.chunkSize)]!;
    return chunk.ptr + layer * this.shape.numKvHeads * this.headStride;
  }

  /**
   * Writes keys and values at tokens [start, start + rows).
   *
   * In `i16` the tokens that come first decide how the channels of all are centred and weighed; in `f32`
   * channels stay as they are, so that a score is the plain dot.
   */
  append(layer: number, start: number, key: WasmTensor, value: WasmTensor): void {
    const { kernels, memory } = this.machine;
    const { numKvHeads, headDim } = this.shape;
    this.#extend(layer, start, start + key.rows);
    using frame = memory.frame();
    const scratch = frame.take(this.quads * 16, "a key");
    const channels = this.channels(layer);
    if (start === 0 && this.format === "i16") this.#centre(channels, key);
    for (let r = 0; r < key.rows;) {
      const row = (start + r) % this.chunkSize;
      const count = Math.min(key.rows - r, this.chunkSize - row);
      const chunk = this.chunkPtr(layer, start + r);
      const keys = key.ptr + r * key.stride;
      const sizes = [numKvHeads, headDim, row, count] as const;
      kernels.storeKeys(chunk, this.layout, channels, scratch, keys, key.stride, ...sizes);
      kernels.storeRows(
        chunk + this.valuesAt + row * this.quads * 4 * this.valueWidth,
        value.ptr + r * value.stride,
        this.headStride,
        value.stride,
        numKvHeads,
        headDim,
        this.valueWidth === 2 ? 1 : 0,
        count,
      );
      r += count;
    }
  }

  #centre(channels: number, key: WasmTensor): void {
    const { numKvHeads, headDim } = this.shape;
    const { f32 } = this.machine.memory;
    const width = 4 * this.quads;
    for (let head = 0; head < numKvHeads; head++) {
      const rows = Array.from({ length: key.rows }, (_, r) => {
        const at = (key.ptr + r * key.stride) / 4 + head * headDim;
        return f32.subarray(at, at + headDim);
      });
      const { centres, weights, inverses } = channelsOf(rows, headDim);
      const at = channels / 4 + head * 3 * width;
      f32.set(centres, at);
      f32.set(weights, at + width);
      f32.set(inverses, at + 2 * width);
    }
  }

  /**
   * Counts tokens that are about to be written.
   *
   * @throws {RangeError} If they were not reserved.
   */
  #extend(layer: number, start: number, end: number): void {
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
    if (this.#disposed) return;
    this.#disposed = true;
    this.machine.memory.free(this.layout);
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
