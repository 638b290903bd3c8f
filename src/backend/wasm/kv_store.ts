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
import { type Arenas, lend } from "./arenas.ts";
import type { WasmTensor } from "./handles.ts";
import type { Machine } from "./machine.ts";

/** What to change when a chunk does not fit. */
const ADVICE = 'keep the cache in "i16", or read a shorter text';

/** What precedes a layer's channels: its record, and room for their alignment. */
const RECORD_BYTES = 64;

/** A layer's part of a chunk, in the layer's arena: asm/kv_layout.ts. */
interface Block {
  readonly keys: number;
  readonly values: number;
}

/** `chunkSize` tokens of all layers. */
interface Chunk {
  readonly blocks: readonly Block[];
  /** Stores that hold it; more than one must not write. */
  owners: number;
}

/** The wasm backend's {@linkcode KvStore}. */
export class WasmKvStore implements KvStore {
  readonly shape: AttentionShape;
  readonly format: KvFormat;
  readonly chunkSize: number;
  readonly arenas: Arenas;
  /** Vectors of four in a head. */
  readonly quads: number;
  /** Bytes from a KV head's keys to the next's. */
  readonly headStride: number;
  /** Bytes from a token's values to the next's. */
  readonly valueStride: number;
  /** The arena of each layer; forks have the same. */
  readonly #homes: readonly Machine[];
  /** Of each layer: its record, then its channels. */
  readonly #layouts: readonly number[];
  readonly #chunks: Chunk[] = [];
  /** Tokens that may be there; the next may only overwrite what comes after. */
  #length = 0;
  #disposed = false;

  /** @param homes The arenas of a fork's origin. */
  constructor(
    arenas: Arenas,
    shape: AttentionShape,
    options: KvStoreOptions,
    homes?: readonly Machine[],
  ) {
    const { format, chunkSize } = resolveKvStore(shape, options);
    this.arenas = arenas;
    this.shape = shape;
    this.format = format;
    this.chunkSize = chunkSize;
    this.quads = Math.ceil(shape.headDim / 4);
    const plane = chunkSize * this.quads * 4;
    const exactAt = plane + chunkSize * 4;
    this.headStride = exactAt + (format === "i16" ? plane : 4 * plane);
    this.valueStride = shape.numKvHeads * this.quads * (format === "i16" ? 8 : 16);
    this.#homes = homes ?? arenas.forLayers(shape.numLayers);
    const half = format === "i16" ? 1 : 0;
    const record = [this.quads, half, plane, exactAt, this.headStride, this.valueStride];
    const channels = plainChannels(this.quads * 4);
    const layouts: number[] = [];
    this.#layouts = layouts;
    try {
      for (const { memory } of this.#homes) {
        const size = RECORD_BYTES + shape.numKvHeads * channels.byteLength;
        const layout = memory.allocate(size, "the KV cache's channels", ADVICE);
        layouts.push(layout);
        memory.u32.set(record, layout / 4);
        for (let head = 0; head < shape.numKvHeads; head++) {
          memory.f32.set(channels, (layout + RECORD_BYTES) / 4 + head * channels.length);
        }
      }
    } catch (error) {
      this.#freeLayouts();
      throw error;
    }
  }

  get bytesPerToken(): number {
    return kvBytesPerToken(this.shape, this.format);
  }

  get byteLength(): number {
    return this.#chunks.length * this.#chunkBytes;
  }

  /** Bytes of a layer's keys in a chunk. */
  get #keyBytes(): number {
    return this.shape.numKvHeads * this.headStride;
  }

  /** Bytes of a layer's values in a chunk. */
  get #valueBytes(): number {
    return this.chunkSize * this.valueStride;
  }

  get #chunkBytes(): number {
    return this.shape.numLayers * (this.#keyBytes + this.#valueBytes);
  }

  /** Where a layer's tokens are. */
  home(layer: number): Machine {
    return this.#homes[layer]!;
  }

  /** Where a layer's record is, in its arena. */
  layout(layer: number): number {
    return this.#layouts[layer]!;
  }

  /** Where a layer's channels are, in its arena. */
  channels(layer: number): number {
    return this.#layouts[layer]! + RECORD_BYTES;
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
    const { limitBytes, usedBytes } = this.arenas.budget;
    // Asked at once: memory that was grown in vain would never shrink again.
    if (missing * this.#chunkBytes > limitBytes - usedBytes) this.#refuse(length, missing);
    try {
      for (let i = this.#chunks.length; i < numChunks; i++) {
        added.push(this.#allocate(length, missing));
      }
      if (copies) {
        const copy = this.#copy(shared, length, missing);
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
    const { format, chunkSize, shape } = this;
    const fork = new WasmKvStore(this.arenas, shape, { format, chunkSize }, this.#homes);
    const numFull = Math.floor(length / chunkSize);
    try {
      const last = length % chunkSize > 0 ? [this.#copy(this.#chunks[numFull]!, length, 1)] : [];
      for (const chunk of this.#chunks.slice(0, numFull)) {
        chunk.owners++;
        fork.#chunks.push(chunk);
      }
      fork.#chunks.push(...last);
    } catch (error) {
      fork[Symbol.dispose]();
      throw error;
    }
    this.#homes.forEach(({ memory }, layer) => {
      const from = this.layout(layer);
      memory.u8.copyWithin(fork.layout(layer), from, from + memory.sizeOf(from));
    });
    fork.#length = length;
    return fork;
  }

  /** A layer's part of the chunk that a token is in. The token must be reserved. */
  block(layer: number, token: number): Block {
    return this.#chunks[Math.floor(token / this.chunkSize)]!.blocks[layer]!;
  }

  /**
   * Writes keys and values at tokens [start, start + rows).
   *
   * In `i16` the tokens that come first decide how the channels of all are centred and weighed; in `f32`
   * channels stay as they are, so that a score is the plain dot.
   */
  append(layer: number, start: number, key: WasmTensor, value: WasmTensor): void {
    this.#extend(layer, start, start + key.rows);
    const home = this.home(layer);
    const { kernels, memory } = home;
    const { numKvHeads, headDim } = this.shape;
    using frame = memory.frame();
    const scratch = frame.take(this.quads * 16, "a key");
    const [keys, values] = [lend(frame, key, home), lend(frame, value, home)];
    const [layout, channels] = [this.layout(layer), this.channels(layer)];
    if (start === 0 && this.format === "i16") this.#centre(layer, keys);
    for (let r = 0; r < keys.rows;) {
      const row = (start + r) % this.chunkSize;
      const count = Math.min(keys.rows - r, this.chunkSize - row);
      const block = this.block(layer, start + r);
      kernels.storeKeys(
        block.keys,
        layout,
        channels,
        scratch,
        keys.ptr + r * keys.stride,
        keys.stride,
        numKvHeads,
        headDim,
        row,
        count,
      );
      kernels.storeRows(
        block.values + row * this.valueStride,
        values.ptr + r * values.stride,
        values.stride,
        numKvHeads,
        headDim,
        this.format === "i16" ? 1 : 0,
        count,
      );
      r += count;
    }
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
    if (!this.#disposed) this.#freeLayouts();
    this.#disposed = true;
  }

  /** Sets a layer's channels by its first keys. */
  #centre(layer: number, key: WasmTensor): void {
    const { numKvHeads, headDim } = this.shape;
    const { f32 } = this.home(layer).memory;
    const width = 4 * this.quads;
    for (let head = 0; head < numKvHeads; head++) {
      const rows = Array.from({ length: key.rows }, (_, r) => {
        const at = (key.ptr + r * key.stride) / 4 + head * headDim;
        return f32.subarray(at, at + headDim);
      });
      const { centres, weights, inverses } = channelsOf(rows, headDim);
      const at = this.channels(layer) / 4 + head * 3 * width;
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

  #check(verb: string, length: number, most: number): void {
    if (Number.isSafeInteger(length) && length >= 0 && length <= most) return;
    throw new RangeError(
      `Cannot ${verb}: the length must be a count of tokens${
        most === Infinity ? "" : `, at most the ${most} reserved`
      }, got ${length}`,
    );
  }

  /** One of `missing` chunks for `length` tokens. */
  #allocate(length: number, missing: number): Chunk {
    const what = `${this.chunkSize} tokens of the KV cache`;
    const blocks: Block[] = [];
    try {
      for (const home of this.#homes) {
        const { memory } = home;
        if (!this.arenas.hasRoom(home, this.#keyBytes + this.#valueBytes)) {
          this.#refuse(length, missing);
        }
        const keys = memory.allocate(this.#keyBytes, what, ADVICE);
        blocks.push({ keys, values: -1 });
        const values = memory.allocate(this.#valueBytes, what, ADVICE);
        blocks[blocks.length - 1] = { keys, values };
      }
    } catch (error) {
      this.#free(blocks);
      throw error;
    }
    return { blocks, owners: 1 };
  }

  #refuse(length: number, chunks: number): never {
    const { limitBytes, usedBytes } = this.arenas.budget;
    const bytes = chunks * this.#chunkBytes;
    throw new OutOfMemoryError(
      `Cannot make room for ${length} tokens in the KV cache: they need ${bytes} bytes more, and the ` +
        `wasm backend holds ${usedBytes} of the ${limitBytes} that it can; ${ADVICE}`,
      bytes,
      limitBytes,
    );
  }

  #copy(chunk: Chunk, length: number, missing: number): Chunk {
    const copy = this.#allocate(length, missing);
    this.#homes.forEach(({ memory }, layer) => {
      const [from, to] = [chunk.blocks[layer]!, copy.blocks[layer]!];
      memory.u8.copyWithin(to.keys, from.keys, from.keys + this.#keyBytes);
      memory.u8.copyWithin(to.values, from.values, from.values + this.#valueBytes);
    });
    return copy;
  }

  #release(chunk: Chunk): void {
    if (--chunk.owners === 0) this.#free(chunk.blocks);
  }

  #free(blocks: readonly Block[]): void {
    blocks.forEach(({ keys, values }, layer) => {
      const { memory } = this.home(layer);
      memory.free(keys);
      if (values >= 0) memory.free(values);
    });
  }

  #freeLayouts(): void {
    this.#layouts.forEach((layout, layer) => this.home(layer).memory.free(layout));
  }
}
