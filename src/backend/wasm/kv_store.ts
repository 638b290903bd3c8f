/**
 * The KV cache in wasm memory: chunks of tokens, shared by forks.
 *
 * @module
 */

import { checkKept, resolveKvStore } from "../checks.ts";
import type {
  AttentionShape,
  KeptEnds,
  KvFormat,
  KvStore,
  KvStoreOptions,
  TokenRange,
} from "../backend.ts";
import { plainChannels } from "../key_channels.ts";
import { kvBytesPerToken } from "../kv_bytes.ts";
import { assertAppendable, assertLastChunk, assertLength, middleChunks } from "../kv_checks.ts";
import { assertKept, forgottenRanges, withoutForgotten } from "../kv_forgotten.ts";
import type { ChunkHolder } from "../kv_holders.ts";
import { clearRows, contentBytes } from "../kv_planes.ts";
import { type Arenas, lend } from "./arenas.ts";
import type { WasmTensor } from "./handles.ts";
import { centreChannels } from "./kv_channels.ts";
import { type Block, type Chunk, ChunkPool } from "./kv_chunks.ts";
import { readContents, writeContents } from "./kv_contents.ts";
import type { Machine } from "./machine.ts";
import type { Frame } from "./memory.ts";

/** What precedes a layer's channels: its record, and room for their alignment. */
const RECORD_BYTES = 64;

/** The layout of asm/kv_layout.ts, layer by layer; another one needs another name. */
const LAYOUT_NAME = "planes 1";

/** The wasm backend's {@linkcode KvStore}. */
export class WasmKvStore implements KvStore, ChunkHolder<Chunk> {
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
  readonly #keep: KeptEnds;
  #forgottenChunks = 0;
  /** Chunks between the ends before these have no values in memory, or are forgotten: nobody looks there again. */
  #spilledTo = 0;
  #forgottenTo = 0;
  /** Tokens that may be there; the next may only overwrite what comes after. */
  #length = 0;
  #disposed = false;

  /** @param pool That of a fork's origin. */
  constructor(arenas: Arenas, shape: AttentionShape, options: KvStoreOptions, pool?: ChunkPool) {
    const { format, chunkSize, cacheBytes, spill, forget, keep } = resolveKvStore(shape, options);
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
    this.#keep = keep;
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
    this.#pool.holders.add(this);
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
    return this.chunkSize * this.#forgottenChunks;
  }

  get forgotten(): readonly TokenRange[] {
    return this.#forgottenChunks === 0 ? [] : forgottenRanges(this.#chunks, this.chunkSize);
  }

  /** Whether values may be elsewhere than in memory. */
  get spills(): boolean {
    return this.#pool.spills;
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

  reserve(length: number, spare = 0): void {
    assertLength("reserve", length, Infinity);
    const numChunks = Math.ceil(length / this.chunkSize);
    const spareChunks = Math.ceil((length + spare) / this.chunkSize) - numChunks;
    // The last chunk may be one that a fork reads, or be in the spill file: it is copied, not written.
    const writable = Math.floor(this.#length / this.chunkSize);
    const shared = this.#chunks[writable];
    const written = shared && length > this.#length;
    const copies = written && (shared.owners > 1 || shared.slot >= 0);
    const missing = Math.max(0, numChunks - this.#chunks.length) + (copies ? 1 : 0);
    if (missing === 0 && spareChunks === 0) return;
    const tokens = `${length} tokens${spare > 0 ? `, and ${spare} to go on with,` : ""}`;
    const refuse = () => this.#pool.refuse(tokens, missing + spareChunks, this.#forgets);
    // Asked at once: memory that was grown in vain would never shrink again, nor does what is forgotten return.
    if (!this.#canYield((missing + spareChunks) * this.#pool.chunkBytes)) refuse();
    const before = this.#chunks.length;
    try {
      if (copies) {
        const copy = this.#obtain(spareChunks) ?? refuse();
        try {
          this.#pool.copy(copy, shared);
        } catch (error) {
          this.#pool.release(copy);
          throw error;
        }
        this.#pool.release(shared);
        this.#chunks[writable] = copy;
        this.#rewind(writable);
      }
      while (this.#chunks.length < numChunks) {
        this.#chunks.push(this.#obtain(spareChunks) ?? refuse());
      }
      if (!this.#clear(spareChunks)) refuse();
    } catch (error) {
      for (const chunk of this.#chunks.splice(before)) if (chunk) this.#pool.release(chunk);
      throw error;
    }
  }

  truncate(length: number): void {
    assertLength("truncate", length, Infinity);
    assertLastChunk("truncate", length, this.#chunks, this.chunkSize);
    this.#length = Math.min(this.#length, length);
    for (const chunk of this.#chunks.splice(Math.ceil(length / this.chunkSize))) {
      if (chunk === null) this.#forgottenChunks--;
      else this.#pool.release(chunk);
    }
    this.#rewind(this.#chunks.length);
  }

  fork(length: number, keep: KeptEnds = this.#keep): WasmKvStore {
    assertLength("fork", length, this.#chunks.length * this.chunkSize);
    assertLastChunk("fork", length, this.#chunks, this.chunkSize);
    checkKept("fork", keep);
    const { format, chunkSize, shape } = this;
    const forget = this.#forgets ? "oldest" : undefined;
    const options = { format, chunkSize, forget, keep } as const;
    const fork = new WasmKvStore(this.arenas, shape, options, this.#pool);
    for (const chunk of this.#chunks.slice(0, Math.ceil(length / chunkSize))) {
      if (chunk) chunk.owners++;
      else fork.#forgottenChunks++;
      fork.#chunks.push(chunk);
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
    if (bytes === null && index === this.#chunks.length) {
      this.#chunks.push(null);
      this.#forgottenChunks++;
    } else if (bytes !== null && chunk?.owners === 1 && chunk.slot < 0) {
      writeContents(this.#pool, chunk, bytes, this);
    } else {
      throw new RangeError(
        `Cannot write a chunk: it must be one of the ${this.#chunks.length} reserved and in memory, or the next ` +
          `to be forgotten, got ${index}`,
      );
    }
    this.#length = Math.max(this.#length, index * this.chunkSize + tokens);
  }

  admit(length: number): void {
    assertLength("admit", length, Infinity);
    const { chunkSize } = this;
    const missing = Math.ceil(length / chunkSize) - this.#chunks.length;
    // As it will be when the last of them is reserved.
    const [start, end] = this.#middle(length - (length % chunkSize || Math.min(chunkSize, length)));
    const leaving = Math.max(0, end - Math.max(start, this.#chunks.length));
    const { chunkBytes, spillableBytes } = this.#pool;
    const yielded = this.#forgets ? chunkBytes : this.#pool.spills ? spillableBytes : 0;
    const bytes = missing * chunkBytes - leaving * yielded;
    if (!this.#canYield(bytes)) this.#pool.refuse(`${length} tokens`, missing, this.#forgets);
  }

  holds(index: number, chunk: Chunk): boolean {
    return this.#chunks[index] === chunk;
  }

  canForget(index: number): boolean {
    const [start, end] = this.#middle();
    return index >= start && index < end;
  }

  forget(index: number): void {
    this.#pool.release(this.#chunks[index]!);
    this.#chunks[index] = null;
    this.#forgottenChunks++;
  }

  /** Runs of tokens, u32[runs][start, end], without those that were forgotten. */
  withoutForgotten(runs: Uint32Array): Uint32Array {
    return this.#forgottenChunks === 0
      ? runs
      : withoutForgotten(runs, this.#chunks, this.chunkSize);
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
    if (start === 0 && this.format === "i16") centreChannels(memory.f32, channels, keys, this);
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

  /** @throws {RangeError} If tokens that every call reads were forgotten. */
  checkKept(verb: string, start: number, end: number): void {
    if (this.#forgottenChunks === 0) return;
    assertKept(verb, start, end, this.#chunks, this.chunkSize);
  }

  [Symbol.dispose](): void {
    this.truncate(0);
    if (!this.#disposed) this.#freeLayouts();
    this.#pool.holders.delete(this);
    this.#disposed = true;
  }

  /**
   * Counts tokens that are about to be written.
   *
   * @throws {RangeError} If they were not reserved.
   */
  #extend(layer: number, start: number, end: number): void {
    const { chunkSize, shape: { numLayers } } = this;
    assertAppendable(
      { layer, numLayers, start, end, chunkSize },
      this.#chunks,
      ({ owners, slot }) => owners === 1 && slot < 0,
    );
    this.#length = Math.max(this.#length, end);
  }

  /** What a layer's channels are, of all KV heads. */
  get #layerChannelBytes(): number {
    return this.shape.numKvHeads * this.quads * 48;
  }

  /** The chunks between the ends that stay. */
  #middle(length = this.#length): readonly [start: number, end: number] {
    return middleChunks(length, this.#keep, this.chunkSize);
  }

  /** Whether there is room for so many bytes, or could be. */
  #canYield(bytes: number): boolean {
    let room = this.#pool.roomBytes;
    if (room >= bytes) return true;
    const end = this.#middle()[1];
    const first = this.#forgets ? this.#firstKept() : this.#firstResident();
    for (let i = first; i < end && room < bytes; i++) {
      const chunk = this.#chunks[i];
      if (!chunk) continue;
      if (this.#forgets && this.#pool.holders.canForget(i, chunk)) {
        room += this.#pool.bytesOf(chunk);
      } else if (this.#pool.spills && chunk.slot < 0) room += this.#pool.spillableBytes;
    }
    return room >= bytes;
  }

  /** A chunk, with room for so many more; null if there is none. */
  #obtain(spareChunks: number): Chunk | null {
    while (this.#clear(1 + spareChunks)) {
      const chunk = this.#pool.allocate();
      // What seemed free was in pieces: one that goes leaves a whole.
      if (chunk !== null || !this.#shrink()) return chunk;
    }
    return null;
  }

  /** Lets old chunks go until there is room for so many more; false if there never is. */
  #clear(chunks: number): boolean {
    while (!this.#pool.hasRoom(chunks)) if (!this.#shrink()) return false;
    return true;
  }

  /** Spills the oldest values; if all are, forgets the oldest tokens. False if nothing more can go. */
  #shrink(): boolean {
    const end = this.#middle()[1];
    if (this.#pool.spills) {
      const oldest = this.#firstResident();
      if (oldest < end) {
        this.#pool.spill(this.#chunks[oldest]!);
        return true;
      }
    }
    if (!this.#forgets) return false;
    for (let i = this.#firstKept(); i < end; i++) {
      const chunk = this.#chunks[i];
      if (!chunk || !this.#pool.holders.canForget(i, chunk)) continue;
      this.#pool.holders.forget(i, chunk);
      return true;
    }
    return false;
  }

  /** The first chunk after those that stay whose values are in memory. Looked for from where it was last. */
  #firstResident(): number {
    let i = Math.max(this.#spilledTo, this.#middle()[0]);
    for (; i < this.#chunks.length; i++) if ((this.#chunks[i]?.slot ?? 0) < 0) break;
    return this.#spilledTo = i;
  }

  /** The first chunk after those that stay that was not forgotten. */
  #firstKept(): number {
    let i = Math.max(this.#forgottenTo, this.#middle()[0]);
    while (i < this.#chunks.length && this.#chunks[i] === null) i++;
    return this.#forgottenTo = i;
  }

  /** Chunks from here on are others than they were. */
  #rewind(chunk: number): void {
    this.#spilledTo = Math.min(this.#spilledTo, chunk);
    this.#forgottenTo = Math.min(this.#forgottenTo, chunk);
  }

  #freeLayouts(): void {
    this.#layouts.forEach((layout, layer) => this.home(layer).memory.free(layout));
  }
}
