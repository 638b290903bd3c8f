/**
 * The KV cache on the device: chunks of tokens, shared by forks. Keys and values stay there; what the host
 * knows is which chunks there are.
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
import { clearRows, contentBytes, sizesOf } from "../kv_planes.ts";
import type { DeviceBuffer } from "./device.ts";
import { type Chunk, type ChunkHolder, ChunkSlabs, type LayerSlab } from "./kv_slabs.ts";
import type { Owner } from "./owner.ts";
import { CENTER_CHANNELS } from "./shaders/center_channels.ts";
import type { KvParam } from "./shaders/kv_layout.ts";
import { STORE_KEYS } from "./shaders/store_keys.ts";
import { STORE_ROWS } from "./shaders/store_rows.ts";
import type { WebGpuTensor } from "./tensor.ts";

/** The bytes of asm/kv_layout.ts; numbers of keys may be rounded otherwise, so that files are the device's own. */
const LAYOUT_NAME = "planes 1, webgpu";

/** A table's entry where a chunk was forgotten. */
const NOWHERE = 0xffffffff;

/** The webgpu backend's {@linkcode KvStore}. */
export class WebGpuKvStore implements KvStore, ChunkHolder {
  readonly shape: AttentionShape;
  readonly format: KvFormat;
  readonly chunkSize: number;
  readonly layoutName: string = LAYOUT_NAME;
  /** The device keeps everything. */
  readonly spilledTokens = 0;
  readonly owner: Owner;
  /** Vectors of four in a head. */
  readonly quads: number;
  /** Bytes from a KV head's keys to the next's. */
  readonly headStride: number;
  /** Bytes from a token's values to the next's. */
  readonly valueStride: number;
  /** f32[numLayers][numKvHeads][3][4 * quads]: shaders/center_channels.ts. */
  readonly channels: DeviceBuffer;
  /** Shared with forks. */
  readonly #slabs: ChunkSlabs;
  /** Null where they were forgotten. */
  readonly #chunks: (Chunk | null)[] = [];
  readonly #forgets: boolean;
  readonly #keep: KeptEnds;
  #forgottenChunks = 0;
  /** Tokens that may be there; the next may only overwrite what comes after. */
  #length = 0;
  #table: DeviceBuffer | null = null;
  /** Whether the table on the device is of the chunks that there are. */
  #isTold = false;
  #disposed = false;

  /** @param slabs Those of a fork's origin. */
  constructor(owner: Owner, shape: AttentionShape, options: KvStoreOptions, slabs?: ChunkSlabs) {
    const { format, chunkSize, cacheBytes, spill, forget, keep } = resolveKvStore(shape, options);
    if (spill !== null) {
      throw new TypeError(
        "Cannot make a KV store: the webgpu backend keeps everything on the device, so spill must be " +
          'absent; use forget: "oldest" or the wasm backend',
      );
    }
    this.owner = owner;
    this.shape = shape;
    this.format = format;
    this.chunkSize = chunkSize;
    this.quads = Math.ceil(shape.headDim / 4);
    const plane = chunkSize * this.quads * 4;
    this.headStride = this.#exactAt + (format === "i16" ? plane : 4 * plane);
    this.valueStride = shape.numKvHeads * this.quads * (format === "i16" ? 8 : 16);
    this.#forgets = forget === "oldest";
    this.#keep = keep;
    this.#slabs = slabs ?? new ChunkSlabs(owner, shape.numLayers, sizesOf(this), cacheBytes);
    owner.ledger.take("the KV cache's channels", this.channelBytes);
    try {
      this.channels = owner.device.allocate(this.channelBytes, "the KV cache's channels");
    } catch (error) {
      owner.ledger.give(this.channelBytes);
      throw error;
    }
    if (slabs === undefined) {
      const plain = plainChannels(this.quads * 4);
      const all = new Float32Array(this.channelBytes / 4);
      for (let at = 0; at < all.length; at += plain.length) all.set(plain, at);
      owner.device.write(this.channels, 0, all);
    }
    this.#slabs.holders.add(this);
  }

  get bytesPerToken(): number {
    return kvBytesPerToken(this.shape, this.format);
  }

  get byteLength(): number {
    return (this.#chunks.length - this.#forgottenChunks) * this.#slabs.chunkBytes;
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

  /** Where a layer's channels begin, in numbers. */
  channelsAt(layer: number): number {
    return layer * this.shape.numKvHeads * this.quads * 12;
  }

  /** Which slab and slot each chunk has: shaders/kv_layout.ts. */
  table(): DeviceBuffer {
    const { device } = this.owner;
    const bytes = 4 * this.#chunks.length;
    if (this.#table === null || this.#table.size < bytes) {
      if (this.#table) device.release(this.#table);
      this.#table = device.allocate(2 * bytes, "the table of the KV cache");
      this.#isTold = false;
    }
    if (!this.#isTold) {
      device.write(
        this.#table,
        0,
        Uint32Array.from(this.#chunks, (chunk) => chunk ? chunk.slab << 20 | chunk.slot : NOWHERE),
      );
      this.#isTold = true;
    }
    return this.#table;
  }

  /** The slabs in which tokens [start, end) are, with a layer's buffers, and what kernels want to know of each. */
  slabs(
    layer: number,
    start: number,
    end: number,
  ): { readonly buffers: LayerSlab; readonly params: Record<KvParam, number> }[] {
    const found = new Set<number>();
    for (let i = Math.floor(start / this.chunkSize); i * this.chunkSize < end; i++) {
      const chunk = this.#chunks[i];
      if (chunk) found.add(chunk.slab);
    }
    const { keys, values } = sizesOf(this);
    return [...found].map((slab) => ({
      buffers: this.#slabs.layer(slab, layer),
      params: {
        quads: this.quads,
        is_half: this.format === "i16" ? 1 : 0,
        chunkSize: this.chunkSize,
        keyWords: keys / 4,
        valueWords: values / 4,
        headWords: this.headStride / 4,
        scalesAt: this.chunkSize * this.quads,
        exactAt: this.#exactAt / 4,
        rowWords: this.valueStride / 4,
        slab,
      },
    }));
  }

  reserve(length: number, spare = 0): void {
    this.owner.device.check();
    assertLength("reserve", length, Infinity);
    const numChunks = Math.ceil(length / this.chunkSize);
    const spareChunks = Math.ceil((length + spare) / this.chunkSize) - numChunks;
    // The last chunk may be one that a fork reads: it is copied, not written.
    const writable = Math.floor(this.#length / this.chunkSize);
    const shared = this.#chunks[writable];
    const copies = shared && length > this.#length && shared.owners > 1;
    const missing = Math.max(0, numChunks - this.#chunks.length) + (copies ? 1 : 0);
    if (missing === 0 && spareChunks === 0) return;
    const tokens = `${length} tokens${spare > 0 ? `, and ${spare} to go on with,` : ""}`;
    const refuse = () => this.#slabs.refuse(tokens, missing + spareChunks, this.#forgets);
    // Asked at once: what is forgotten does not return.
    if (!this.#canYield((missing + spareChunks) * this.#slabs.chunkBytes)) refuse();
    while (this.#slabs.roomBytes < (missing + spareChunks) * this.#slabs.chunkBytes) {
      if (!this.#forgetOldest()) refuse();
    }
    const before = this.#chunks.length;
    try {
      if (copies) {
        const copy = this.#slabs.allocate(numChunks - before);
        this.#slabs.copy(copy, shared);
        this.#slabs.release(shared);
        this.#chunks[writable] = copy;
      }
      while (this.#chunks.length < numChunks) {
        this.#chunks.push(this.#slabs.allocate(numChunks - this.#chunks.length - 1));
      }
    } catch (error) {
      for (const chunk of this.#chunks.splice(before)) if (chunk) this.#slabs.release(chunk);
      throw error;
    } finally {
      this.#isTold = false;
    }
  }

  truncate(length: number): void {
    assertLength("truncate", length, Infinity);
    assertLastChunk("truncate", length, this.#chunks, this.chunkSize);
    this.#length = Math.min(this.#length, length);
    for (const chunk of this.#chunks.splice(Math.ceil(length / this.chunkSize))) {
      if (chunk === null) this.#forgottenChunks--;
      else this.#slabs.release(chunk);
      this.#isTold = false;
    }
  }

  fork(length: number, keep: KeptEnds = this.#keep): WebGpuKvStore {
    assertLength("fork", length, this.#chunks.length * this.chunkSize);
    assertLastChunk("fork", length, this.#chunks, this.chunkSize);
    checkKept("fork", keep);
    const { format, chunkSize, shape, owner } = this;
    const forget = this.#forgets ? "oldest" : undefined;
    const options = { format, chunkSize, forget, keep } as const;
    const fork = new WebGpuKvStore(owner, shape, options, this.#slabs);
    for (const chunk of this.#chunks.slice(0, Math.ceil(length / chunkSize))) {
      if (chunk) chunk.owners++;
      else fork.#forgottenChunks++;
      fork.#chunks.push(chunk);
    }
    owner.device.copy(fork.channels, 0, this.channels, 0, this.channelBytes);
    fork.#length = length;
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
    const { device } = this.owner;
    const { keys, values } = sizesOf(this);
    const whole = device.allocate(this.chunkBytes, "a chunk that is to be read");
    try {
      for (let layer = 0, at = 0; layer < this.shape.numLayers; layer++, at += keys + values) {
        const slab = this.#slabs.layer(chunk.slab, layer);
        device.copy(whole, at, slab.keys, chunk.slot * keys, keys);
        device.copy(whole, at + keys, slab.values, chunk.slot * values, values);
      }
      out.set(new Uint8Array(await device.read(whole, 0, this.chunkBytes)));
    } finally {
      device.release(whole);
    }
    // What was there before, of this sequence or of another, is nobody's business.
    if (tokens < this.chunkSize) clearRows(out, this, tokens);
  }

  writeChunk(index: number, tokens: number, bytes: Uint8Array | null): void {
    const chunk = this.#chunks[index];
    if (bytes === null && index === this.#chunks.length) {
      this.#chunks.push(null);
      this.#forgottenChunks++;
      this.#isTold = false;
    } else if (bytes !== null && chunk?.owners === 1) {
      const { keys, values } = sizesOf(this);
      const { device } = this.owner;
      for (let layer = 0, at = 0; layer < this.shape.numLayers; layer++, at += keys + values) {
        const slab = this.#slabs.layer(chunk.slab, layer);
        device.write(slab.keys, chunk.slot * keys, bytes.subarray(at, at + keys));
        device.write(
          slab.values,
          chunk.slot * values,
          bytes.subarray(at + keys, at + keys + values),
        );
      }
    } else {
      throw new RangeError(
        `Cannot write a chunk: it must be one of the ${this.#chunks.length} reserved, or the next to be ` +
          `forgotten, got ${index}`,
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
    const leaving = this.#forgets ? Math.max(0, end - Math.max(start, this.#chunks.length)) : 0;
    if (!this.#canYield((missing - leaving) * this.#slabs.chunkBytes)) {
      this.#slabs.refuse(`${length} tokens`, missing, this.#forgets);
    }
  }

  holds(index: number, chunk: Chunk): boolean {
    return this.#chunks[index] === chunk;
  }

  canForget(index: number): boolean {
    const [start, end] = this.#middle();
    return index >= start && index < end;
  }

  forget(index: number): void {
    this.#slabs.release(this.#chunks[index]!);
    this.#chunks[index] = null;
    this.#forgottenChunks++;
    this.#isTold = false;
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
    for (const { buffers, params } of this.slabs(layer, start, start + rows)) {
      device.run(
        STORE_KEYS,
        { keys: buffers.keys, x: key.buffer, channels, table },
        { ...params, rows, kvHeads, headDim, start, xAt: key.offset, channelsAt },
        [kvHeads, rows],
      );
      device.run(
        STORE_ROWS,
        { values: buffers.values, x: value.buffer, table },
        { ...params, rows, kvHeads, headDim, start, xAt: value.offset },
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
    this.truncate(0);
    this.#slabs.leave(this);
    device.release(this.channels);
    if (this.#table) device.release(this.#table);
    ledger.give(this.channelBytes);
  }

  /** Bytes before a KV head's exact keys: high bytes, and scales. */
  get #exactAt(): number {
    return this.chunkSize * this.quads * 4 + this.chunkSize * 4;
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
      ({ owners }) => owners === 1,
    );
    this.#length = Math.max(this.#length, end);
  }

  /** The chunks between the ends that stay. */
  #middle(length = this.#length): readonly [start: number, end: number] {
    return middleChunks(length, this.#keep, this.chunkSize);
  }

  /** Whether there is room for so many bytes, or could be. */
  #canYield(bytes: number): boolean {
    let room = this.#slabs.roomBytes;
    const [start, end] = this.#middle();
    for (let i = start; i < end && room < bytes && this.#forgets; i++) {
      const chunk = this.#chunks[i];
      if (chunk && this.#slabs.canForget(i, chunk)) room += this.#slabs.chunkBytes;
    }
    return room >= bytes;
  }

  /** Forgets the oldest chunk that nobody needs; false if there is none. */
  #forgetOldest(): boolean {
    const [start, end] = this.#middle();
    for (let i = start; i < end && this.#forgets; i++) {
      const chunk = this.#chunks[i];
      if (!chunk || !this.#slabs.canForget(i, chunk)) continue;
      this.#slabs.forget(i, chunk);
      return true;
    }
    return false;
  }
}
