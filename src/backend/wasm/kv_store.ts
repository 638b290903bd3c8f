/**
 * The KV cache in wasm memory: chunks of tokens, shared by forks.
 *
 * @module
 */

import { resolveKvStore } from "../checks.ts";
import type { AttentionShape, KvFormat, KvStore, KvStoreOptions } from "../backend.ts";
import { channelsOf, plainChannels } from "../key_channels.ts";
import { kvBytesPerToken } from "../kv_bytes.ts";
import { type Arenas, lend } from "./arenas.ts";
import type { WasmTensor } from "./handles.ts";
import { type Block, type Chunk, ChunkPool } from "./kv_chunks.ts";
import { clearRows, contentBytes, readContents, writeContents } from "./kv_contents.ts";
import type { Machine } from "./machine.ts";
import type { Frame } from "./memory.ts";

/** What precedes a layer's channels: its record, and room for their alignment. */
const RECORD_BYTES = 64;

/** The oldest chunk has the sinks, and those before the last may be local: they are the last to go. */
const FIRST_CHUNKS = 1;
const LAST_CHUNKS = 2;

/** The layout of asm/kv_layout.ts, layer by layer; another one needs another name. */
const LAYOUT_NAME = "planes 1";

/** The wasm backend's {@linkcode KvStore}. */
export class WasmKvStore implements KvStore {
  readonly shape: AttentionShape;
  readonly format: KvFormat;
  readonly chunkSize: number;
  readonly layoutName: string = LAYOUT_NAME;
  readonly arenas: Arenas;
  /** Vectors of four in a head. */
  readonly quads: number;
  /** Bytes from a KV head's keys to the next's. */
  readonly headStride: number;
  /** Bytes from a token's values to the next's. */
  readonly valueStride: number;
  /** Shared with forks. */
  readonly #pool: ChunkPool;
  /** Of each layer: its record, then its channels. */
  readonly #layouts: readonly number[];
  /** Null where they were forgotten. */
  readonly #chunks: (Chunk | null)[] = [];
  readonly #forgets: boolean;
  /** Tokens that may be there; the next may only overwrite what comes after. */
  #length = 0;
  #disposed = false;

  /** @param pool That of a fork's origin. */
  constructor(arenas: Arenas, shape: AttentionShape, options: KvStoreOptions, pool?: ChunkPool) {
    const { format, chunkSize, cacheBytes, spill, forget } = resolveKvStore(shape, options);
    this.arenas = arenas;
    this.shape = shape;
    this.format = format;
    this.chunkSize = chunkSize;
    this.quads = Math.ceil(shape.headDim / 4);
    const plane = chunkSize * this.quads * 4;
    const exactAt = plane + chunkSize * 4;
    this.headStride = exactAt + (format === "i16" ? plane : 4 * plane);
    this.valueStride = shape.numKvHeads * this.quads * (format === "i16" ? 8 : 16);
    this.#forgets = forget === "oldest";
    const sizes = {
      keys: shape.numKvHeads * this.headStride,
      values: chunkSize * this.valueStride,
    };
    this.#pool = pool ?? new ChunkPool(arenas, shape.numLayers, sizes, cacheBytes, spill);
    const half = format === "i16" ? 1 : 0;
    const record = [this.quads, half, plane, exactAt, this.headStride, this.valueStride];
    const channels = plainChannels(this.quads * 4);
    const layouts: number[] = [];
    this.#layouts = layouts;
    try {
      for (const { memory } of this.#pool.homes) {
        const size = RECORD_BYTES + shape.numKvHeads * channels.byteLength;
        const layout = memory.allocate(size, "the KV cache's channels", "use a smaller model");
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
    return this.#chunks.reduce((sum, chunk) => sum + (chunk && this.#pool.bytesOf(chunk) || 0), 0);
  }

  get spilledTokens(): number {
    return this.chunkSize *
      this.#chunks.filter((chunk) => chunk !== null && chunk.slot >= 0).length;
  }

  get forgottenTokens(): number {
    return this.chunkSize * this.#chunks.filter((chunk) => chunk === null).length;
  }

  /** Where a layer's tokens are. */
  home(layer: number): Machine {
    return this.#pool.homes[layer]!;
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
    // After a truncation the last chunk may be one that a fork reads: it is copied, not written.
    const writable = Math.floor(this.#length / this.chunkSize);
    const shared = this.#chunks[writable];
    const written = shared !== undefined && length > this.#length;
    const copies = written && shared !== null && (shared.owners > 1 || shared.slot >= 0);
    const missing = Math.max(0, numChunks - this.#chunks.length) + (copies ? 1 : 0);
    this.#admit(length, missing);
    const before = this.#chunks.length;
    try {
      if (copies) {
        this.#makeRoom(length, missing);
        const copy = this.#pool.copy(shared);
        this.#pool.release(shared);
        this.#chunks[writable] = copy;
      }
      while (this.#chunks.length < numChunks) {
        this.#makeRoom(length, numChunks - this.#chunks.length);
        this.#chunks.push(this.#pool.allocate());
      }
    } catch (error) {
      for (const chunk of this.#chunks.splice(before)) if (chunk) this.#pool.release(chunk);
      throw error;
    }
  }

  truncate(length: number): void {
    this.#check("truncate", length, Infinity);
    this.#length = Math.min(this.#length, length);
    for (const chunk of this.#chunks.splice(Math.ceil(length / this.chunkSize))) {
      if (chunk) this.#pool.release(chunk);
    }
  }

  fork(length: number): WasmKvStore {
    this.#check("fork", length, this.#chunks.length * this.chunkSize);
    const { format, chunkSize, shape } = this;
    const forget = this.#forgets ? "oldest" : undefined;
    const options = { format, chunkSize, forget } as const;
    const fork = new WasmKvStore(this.arenas, shape, options, this.#pool);
    const numFull = Math.floor(length / chunkSize);
    try {
      for (const chunk of this.#chunks.slice(0, numFull)) {
        if (chunk) chunk.owners++;
        fork.#chunks.push(chunk);
      }
      const last = length % chunkSize > 0 ? this.#chunks[numFull]! : undefined;
      if (last !== undefined) {
        if (last !== null) fork.#makeRoom(length, 1);
        fork.#chunks.push(last && this.#pool.copy(last));
      }
    } catch (error) {
      fork[Symbol.dispose]();
      throw error;
    }
    this.#pool.homes.forEach(({ memory }, layer) => {
      const from = this.layout(layer);
      memory.u8.copyWithin(fork.layout(layer), from, from + memory.sizeOf(from));
    });
    fork.#length = length;
    return fork;
  }

  get channelBytes(): number {
    return this.shape.numLayers * this.#layerChannelBytes;
  }

  get chunkBytes(): number {
    return contentBytes(this);
  }

  readChannels(out: Uint8Array): void {
    const bytes = this.#layerChannelBytes;
    this.#pool.homes.forEach(({ memory }, layer) => {
      const from = this.channels(layer);
      out.set(memory.u8.subarray(from, from + bytes), layer * bytes);
    });
  }

  writeChannels(bytes: Uint8Array): void {
    const size = this.#layerChannelBytes;
    this.#pool.homes.forEach(({ memory }, layer) => {
      memory.u8.set(bytes.subarray(layer * size, (layer + 1) * size), this.channels(layer));
    });
  }

  hasChunk(index: number): boolean {
    return Boolean(this.#chunks[index]);
  }

  readChunk(out: Uint8Array, index: number, tokens: number): void {
    const chunk = this.#chunks[index];
    if (!chunk) {
      throw new RangeError(
        `Cannot read a chunk: it must be one of the ${this.#chunks.length} reserved and not forgotten, got ${index}`,
      );
    }
    readContents(out, this.#pool, chunk, this);
    // What was there before, of this sequence or of another, is nobody's business.
    if (tokens < this.chunkSize) clearRows(out, this, tokens);
  }

  writeChunk(index: number, tokens: number, bytes: Uint8Array | null): void {
    const chunk = this.#chunks[index];
    if (!chunk || chunk.owners > 1 || chunk.slot >= 0) {
      throw new RangeError(
        `Cannot write a chunk: it must be one of the ${this.#chunks.length} reserved and in memory, got ${index}`,
      );
    }
    if (bytes === null) {
      this.#pool.release(chunk);
      this.#chunks[index] = null;
    } else writeContents(this.#pool, chunk, bytes, this);
    this.#length = Math.max(this.#length, index * this.chunkSize + tokens);
  }

  admit(length: number): void {
    this.#check("admit", length, Infinity);
    this.#admit(length, Math.ceil(length / this.chunkSize) - this.#chunks.length);
  }

  /** A layer's part of the chunk that a token is in; null if it was forgotten. The token must be reserved. */
  block(layer: number, token: number): Readonly<Block> | null {
    return this.#chunks[Math.floor(token / this.chunkSize)]?.blocks[layer] ?? null;
  }

  /**
   * Where the chunk of a token has a layer's values, as if all were in memory: those of `count` tokens from
   * this one on are, as long as the frame.
   */
  values(frame: Frame, layer: number, token: number, count: number): number {
    const chunk = this.#chunks[Math.floor(token / this.chunkSize)]!;
    const { values } = chunk.blocks[layer]!;
    if (chunk.slot < 0) return values;
    const at = token % this.chunkSize * this.valueStride;
    const bytes = count * this.valueStride;
    const staged = frame.take(bytes, "values from the spill file");
    this.#pool.readValues(chunk, layer, at, staged, bytes);
    return staged - at;
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
      const block = this.block(layer, start + r)!;
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
      const chunk = this.#chunks[i]!;
      if (chunk === null || chunk.owners > 1 || chunk.slot >= 0) {
        throw new RangeError(
          `Cannot append: tokens [${start}, ${end}) must be reserved after the last truncation, ` +
            `since a fork still reads them, or they were spilled or forgotten`,
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

  /** What a layer's channels are, of all KV heads. */
  get #layerChannelBytes(): number {
    return this.shape.numKvHeads * this.quads * 48;
  }

  /** Asked at once, for all: memory that was grown in vain would never shrink again. */
  #admit(length: number, missing: number): void {
    if (!this.#forgets && this.#pool.exceeds(missing)) this.#pool.refuse(length, missing);
  }

  /** Spills the oldest values, and forgets the oldest tokens, until a chunk more fits. */
  #makeRoom(length: number, missing: number): void {
    const end = this.#chunks.length - LAST_CHUNKS;
    for (let i = FIRST_CHUNKS; i < end && this.#pool.spills && !this.#pool.hasRoom(); i++) {
      const chunk = this.#chunks[i];
      if (chunk) this.#pool.spill(chunk);
    }
    for (let i = FIRST_CHUNKS; i < end && this.#forgets && !this.#pool.hasRoom(); i++) {
      const chunk = this.#chunks[i];
      if (chunk) this.#pool.release(chunk);
      this.#chunks[i] = null;
    }
    if (!this.#pool.hasRoom()) this.#pool.refuse(length, missing);
  }

  #freeLayouts(): void {
    this.#layouts.forEach((layout, layer) => this.home(layer).memory.free(layout));
  }
}
