/**
 * The KV cache on the device: chunks of tokens, shared by forks. Keys stay there; the values of old chunks may go to
 * a spill file. What the host knows is which chunks there are, and where.
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
import { assertKept, forgottenRanges } from "../kv_forgotten.ts";
import type { ChunkHolder } from "../kv_holders.ts";
import { clearRows, contentBytes } from "../kv_planes.ts";
import type { DeviceBuffer } from "./device.ts";
import { type Bound, keyParams, type Range, slabsOf, valueParams } from "./kv_bindings.ts";
import { type Chunk, ChunkPool } from "./kv_chunks.ts";
import { readContents, writeContents } from "./kv_contents.ts";
import { ChunkTable } from "./kv_table.ts";
import type { Owner } from "./owner.ts";
import { CENTER_CHANNELS } from "./shaders/center_channels.ts";
import { FETCHED_SLAB, type KeyParam, type ValueParam } from "./shaders/kv_layout.ts";
import { STORE_KEYS } from "./shaders/store_keys.ts";
import { STORE_ROWS } from "./shaders/store_rows.ts";
import type { WebGpuTensor } from "./tensor.ts";

/** The bytes of asm/kv_layout.ts; numbers of keys may be rounded otherwise, so that files are the device's own. */
const LAYOUT_NAME = "planes 1, webgpu";

/** The webgpu backend's {@linkcode KvStore}. */
export class WebGpuKvStore implements KvStore, ChunkHolder<Chunk> {
  readonly shape: AttentionShape;
  readonly format: KvFormat;
  readonly chunkSize: number;
  readonly layoutName: string = LAYOUT_NAME;
  readonly owner: Owner;
  /** Vectors of four in a head. */
  readonly quads: number;
  /** Bytes from a KV head's keys to the next's. */
  readonly headStride: number;
  /** Bytes from a token's values to the next's. */
  readonly valueStride: number;
  /** f32[numLayers][numKvHeads][3][4 * quads]: shaders/center_channels.ts. */
  readonly channels: DeviceBuffer;
  /** The last selection from this store, which is given back with it. */
  selection: Disposable | null = null;
  /** Shared with forks. */
  readonly #pool: ChunkPool;
  /** Null where they were forgotten. */
  readonly #chunks: (Chunk | null)[] = [];
  readonly #forgets: boolean;
  readonly #keep: KeptEnds;
  #forgottenChunks = 0;
  /** Tokens that may be there; the next may only overwrite what comes after. */
  #length = 0;
  readonly #table: ChunkTable;
  #disposed = false;

  /** @param pool That of a fork's origin. */
  constructor(owner: Owner, shape: AttentionShape, options: KvStoreOptions, pool?: ChunkPool) {
    const { format, chunkSize, cacheBytes, spill, forget, keep } = resolveKvStore(shape, options);
    this.owner = owner;
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
    this.#table = new ChunkTable(owner.device);
    const sizes = {
      keys: shape.numKvHeads * this.headStride,
      values: chunkSize * this.valueStride,
    };
    this.#pool = pool ?? new ChunkPool(owner, shape.numLayers, sizes, cacheBytes, spill);
    owner.ledger.take("the KV cache's channels", this.channelBytes);
    try {
      this.channels = owner.device.allocate(this.channelBytes, "the KV cache's channels");
    } catch (error) {
      owner.ledger.give(this.channelBytes);
      throw error;
    }
    if (pool === undefined) {
      const plain = plainChannels(this.quads * 4);
      const all = new Float32Array(this.channelBytes / 4);
      for (let at = 0; at < all.length; at += plain.length) all.set(plain, at);
      owner.device.write(this.channels, 0, all);
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
    return this.chunkSize * this.#chunks.filter((chunk) => chunk?.values === null).length;
  }

  get forgottenTokens(): number {
    return this.chunkSize * this.#forgottenChunks;
  }

  get forgotten(): readonly TokenRange[] {
    return this.#forgottenChunks === 0 ? [] : forgottenRanges(this.#chunks, this.chunkSize);
  }

  /** Whether tokens are missing. */
  get hasHoles(): boolean {
    return this.#forgottenChunks > 0;
  }

  /** Whether values may be elsewhere than on the device. */
  get spills(): boolean {
    return this.#pool.spills;
  }

  /** Where a layer's channels begin, in numbers. */
  channelsAt(layer: number): number {
    return layer * this.shape.numKvHeads * this.quads * 12;
  }

  /** Where each chunk's keys and values are: shaders/kv_layout.ts. */
  table(): DeviceBuffer {
    return this.#table.of(this.#chunks, this.#pool.moves);
  }

  /** The slabs with a layer's keys of some tokens. */
  keySlabs(layer: number, ranges: readonly Range[]): Bound<KeyParam>[] {
    return slabsOf(this.#chunks, "keys", ranges, this.chunkSize).map((slab) => ({
      buffer: this.#pool.buffer("keys", slab, layer),
      params: keyParams(this.#pool, this, slab),
    }));
  }

  /** The slabs with a layer's values of some tokens, as far as they are on the device. */
  valueSlabs(layer: number, ranges: readonly Range[]): Bound<ValueParam>[] {
    return slabsOf(this.#chunks, "values", ranges, this.chunkSize).map((slab) => ({
      buffer: this.#pool.buffer("values", slab, layer),
      params: valueParams(this.#pool, this, slab),
    }));
  }

  /** A buffer with values that were fetched, as a slab. */
  fetchedSlab(buffer: DeviceBuffer): Bound<ValueParam> {
    return { buffer, params: valueParams(this.#pool, this, FETCHED_SLAB) };
  }

  /** The parts of tokens [start, end) whose values are in the spill file; none reaches into two chunks. */
  spilledWithin(start: number, end: number): Range[] {
    const found: Range[] = [];
    for (let t = start; t < end && this.spills;) {
      const stop = Math.min(end, t - t % this.chunkSize + this.chunkSize);
      if (this.#chunks[Math.floor(t / this.chunkSize)]?.values === null) found.push([t, stop]);
      t = stop;
    }
    return found;
  }

  /** out = spilled values of tokens from `start` on, of one chunk: whole rows of all KV heads. */
  readSpilled(out: Uint8Array, layer: number, start: number): void {
    const chunk = this.#chunks[Math.floor(start / this.chunkSize)]!;
    this.#pool.readSpilled(out, chunk, layer, start % this.chunkSize * this.valueStride);
  }

  reserve(length: number, spare = 0): void | Promise<void> {
    this.owner.device.check();
    assertLength("reserve", length, Infinity);
    const numChunks = Math.ceil(length / this.chunkSize);
    const spareChunks = Math.ceil((length + spare) / this.chunkSize) - numChunks;
    // The last chunk may be one that a fork reads, or be in the spill file: it is copied, not written.
    const writable = Math.floor(this.#length / this.chunkSize);
    const shared = this.#chunks[writable];
    const written = shared && length > this.#length;
    const copies = written && (shared.owners > 1 || shared.values === null);
    const missing = Math.max(0, numChunks - this.#chunks.length) + (copies ? 1 : 0);
    if (missing === 0 && spareChunks === 0) return;
    const tokens = `${length} tokens${spare > 0 ? `, and ${spare} to go on with,` : ""}`;
    const refuse = () => this.#pool.refuse(tokens, missing + spareChunks, this.#forgets);
    const bytes = (missing + spareChunks) * this.#pool.chunkBytes;
    // Asked at once: what is forgotten does not return.
    if (!this.#canYield(bytes)) refuse();
    while (this.#pool.roomBytes < bytes) {
      const old = this.#oldestToSpill();
      if (old) return this.#reserveWithout(old, length, spare);
      if (!this.#forgetOldest()) refuse();
    }
    const before = this.#chunks.length;
    try {
      if (copies) this.#chunks[writable] = this.#pool.copy(shared, numChunks - before);
      while (this.#chunks.length < numChunks) {
        this.#chunks.push(this.#pool.allocate(numChunks - this.#chunks.length - 1));
      }
    } catch (error) {
      for (const chunk of this.#chunks.splice(before)) if (chunk) this.#pool.release(chunk);
      throw error;
    } finally {
      this.#table.forget();
    }
  }

  truncate(length: number): void {
    assertLength("truncate", length, Infinity);
    assertLastChunk("truncate", length, this.#chunks, this.chunkSize);
    this.#length = Math.min(this.#length, length);
    for (const chunk of this.#chunks.splice(Math.ceil(length / this.chunkSize))) {
      if (chunk === null) this.#forgottenChunks--;
      else this.#pool.release(chunk);
      this.#table.forget();
    }
  }

  fork(length: number, keep: KeptEnds = this.#keep): WebGpuKvStore {
    assertLength("fork", length, this.#chunks.length * this.chunkSize);
    assertLastChunk("fork", length, this.#chunks, this.chunkSize);
    checkKept("fork", keep);
    const { format, chunkSize, shape, owner } = this;
    // A step that waits may be writing behind the length: what it writes into is not to be shared.
    const isWritten = length < this.#length && length % chunkSize !== 0;
    if (isWritten && this.#pool.roomBytes < this.#pool.chunkBytes) {
      this.#pool.refuse(`a fork of ${length} tokens`, 1, false);
    }
    const forget = this.#forgets ? "oldest" : undefined;
    const options = { format, chunkSize, forget, keep } as const;
    const fork = new WebGpuKvStore(owner, shape, options, this.#pool);
    for (const chunk of this.#chunks.slice(0, Math.ceil(length / chunkSize))) {
      if (chunk) chunk.owners++;
      else fork.#forgottenChunks++;
      fork.#chunks.push(chunk);
    }
    owner.device.copy(fork.channels, 0, this.channels, 0, this.channelBytes);
    fork.#length = length;
    if (isWritten) {
      const last = fork.#chunks.length - 1;
      fork.#chunks[last] = this.#pool.copy(fork.#chunks[last]!, 0);
    }
    return fork;
  }

  get channelBytes(): number {
    return this.shape.numLayers * this.shape.numKvHeads * this.quads * 48;
  }

  get chunkBytes(): number {
    return contentBytes(this);
  }

  async readChannels(out: Uint8Array): Promise<void> {
    out.set(new Uint8Array(await this.owner.device.read(this.channels, 0, this.channelBytes)));
  }

  writeChannels(bytes: Uint8Array): void {
    this.owner.device.write(this.channels, 0, bytes);
  }

  hasChunk(index: number): boolean {
    return Boolean(this.#chunks[index]);
  }

  readChunk(out: Uint8Array, index: number, tokens: number): Promise<void> {
    const chunk = this.#chunks[index];
    if (!chunk) {
      throw new RangeError(
        `Cannot read a chunk: it must be one of the ${this.#chunks.length} reserved and not forgotten, got ${index}`,
      );
    }
    return this.#readChunk(out, chunk, tokens);
  }

  async #readChunk(out: Uint8Array, chunk: Chunk, tokens: number): Promise<void> {
    await readContents(out, this.#pool, chunk);
    // What was there before, of this sequence or of another, is nobody's business.
    if (tokens < this.chunkSize) clearRows(out, this, tokens);
  }

  writeChunk(index: number, tokens: number, bytes: Uint8Array | null): void {
    const chunk = this.#chunks[index];
    if (bytes === null && index === this.#chunks.length) {
      this.#chunks.push(null);
      this.#forgottenChunks++;
      this.#table.forget();
    } else if (bytes !== null && chunk?.owners === 1 && chunk.values !== null) {
      writeContents(this.#pool, chunk, bytes);
    } else {
      throw new RangeError(
        `Cannot write a chunk: it must be one of the ${this.#chunks.length} reserved and on the device, or the ` +
          `next to be forgotten, got ${index}`,
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
    this.#table.forget();
  }

  /**
   * Writes keys and values at tokens [start, start + rows).
   *
   * In `i16` the tokens that come first decide how the channels of all are centred and weighed; in `f32`
   * channels stay as they are, so that a score is the plain dot.
   */
  append(layer: number, start: number, key: WebGpuTensor, value: WebGpuTensor): void {
    const { rows } = key;
    this.#extend(layer, start, start + rows);
    if (rows === 0) return;
    const { device } = this.owner;
    const { numKvHeads: kvHeads, headDim } = this.shape;
    const { channels } = this;
    const channelsAt = this.channelsAt(layer);
    if (start === 0 && this.format === "i16") {
      const params = { rows, kvHeads, headDim, width: 4 * this.quads, xAt: key.offset, channelsAt };
      device.run(CENTER_CHANNELS, { channels, x: key.buffer }, params, [kvHeads]);
    }
    const table = this.table();
    const range = [[start, start + rows]] as const;
    const what = { rows, kvHeads, headDim, start };
    for (const { buffer, params } of this.keySlabs(layer, range)) {
      device.run(
        STORE_KEYS,
        { keys: buffer, x: key.buffer, channels, table },
        { ...params, ...what, xAt: key.offset, channelsAt },
        [kvHeads, rows],
      );
    }
    for (const { buffer, params } of this.valueSlabs(layer, range)) {
      device.run(
        STORE_ROWS,
        { values: buffer, x: value.buffer, table },
        { ...params, ...what, xAt: value.offset },
        [Math.ceil(params.rowWords / 64), rows],
      );
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
    if (this.#disposed) return;
    this.#disposed = true;
    const { device, ledger } = this.owner;
    this.selection?.[Symbol.dispose]();
    this.truncate(0);
    this.#pool.holders.delete(this);
    this.#pool.clear();
    device.release(this.channels);
    this.#table[Symbol.dispose]();
    ledger.give(this.channelBytes);
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
      ({ owners, values }) => owners === 1 && values !== null,
    );
    this.#length = Math.max(this.#length, end);
  }

  /** The chunks between the ends that stay. */
  #middle(length = this.#length): readonly [start: number, end: number] {
    return middleChunks(length, this.#keep, this.chunkSize);
  }

  /** Whether there is room for so many bytes, or could be. */
  #canYield(bytes: number): boolean {
    let room = this.#pool.roomBytes;
    const [start, end] = this.#middle();
    for (let i = start; i < end && room < bytes; i++) {
      const chunk = this.#chunks[i];
      if (!chunk) continue;
      if (this.#forgets && this.#pool.holders.canForget(i, chunk)) {
        room += this.#pool.bytesOf(chunk);
      } else if (this.#pool.spills && chunk.values) room += this.#pool.spillableBytes;
    }
    return room >= bytes;
  }

  /** Reserves once the values of a chunk have left. */
  async #reserveWithout(old: Chunk, length: number, spare: number): Promise<void> {
    await this.#pool.spill(old);
    if (this.#disposed) {
      throw new TypeError(`Cannot reserve ${length} tokens: the store was disposed of meanwhile`);
    }
    await this.reserve(length, spare);
  }

  /** The oldest chunk whose values may leave; null if all of them have. */
  #oldestToSpill(): Chunk | null {
    const [start, end] = this.#middle();
    for (let i = start; i < end && this.#pool.spills; i++) {
      const chunk = this.#chunks[i];
      if (chunk?.values) return chunk;
    }
    return null;
  }

  /** Forgets the oldest chunk that nobody needs; false if there is none. */
  #forgetOldest(): boolean {
    const [start, end] = this.#middle();
    for (let i = start; i < end && this.#forgets; i++) {
      const chunk = this.#chunks[i];
      if (!chunk || !this.#pool.holders.canForget(i, chunk)) continue;
      this.#pool.holders.forget(i, chunk);
      return true;
    }
    return false;
  }
}
