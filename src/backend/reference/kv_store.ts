/**
 * Unrotated keys, and values, in chunks of plain arrays.
 *
 * @module
 */

import { resolveKvStore } from "../checks.ts";
import type { AttentionShape, KvFormat, KvStore, KvStoreOptions } from "../backend.ts";
import { channelsOf, type KeyChannels } from "../key_channels.ts";
import type { Ledger } from "./ledger.ts";
import { bytesOf, cloneNumbers, createNumbers, type Numbers, pack, unpack } from "./numbers.ts";
import { roundKey } from "./round_key.ts";

/** Some tokens' keys and values in all layers: [numLayers][chunkSize, numKvHeads * headDim]. */
interface Chunk {
  readonly keys: Numbers[];
  readonly values: Numbers[];
  /** Stores that hold it; more than one must not write. */
  owners: number;
}

/** Numbers in the order of the arrays; another order needs another name. */
const LAYOUT_NAME = "plain 1";

/** The reference backend's {@linkcode KvStore}. */
export class ReferenceKvStore implements KvStore {
  readonly shape: AttentionShape;
  readonly format: KvFormat;
  readonly chunkSize: number;
  readonly bytesPerToken: number;
  readonly layoutName: string = LAYOUT_NAME;
  readonly #chunks: Chunk[] = [];
  /** [numLayers][numKvHeads], of `i16`; set by the first tokens. */
  readonly #channels: KeyChannels[][] = [];
  readonly #ledger: Ledger;

  constructor(shape: AttentionShape, options: KvStoreOptions, ledger: Ledger) {
    const { format, chunkSize, cacheBytes, spill, forget } = resolveKvStore(shape, options);
    if (cacheBytes !== Infinity || spill !== null || forget !== undefined) {
      throw new TypeError(
        "Cannot make a KV store: the reference backend keeps everything in memory, so cacheBytes, spill " +
          "and forget must be absent; use the wasm backend",
      );
    }
    const { numLayers, numKvHeads, headDim } = shape;
    this.shape = shape;
    this.format = format;
    this.chunkSize = chunkSize;
    const numbers = numLayers * numKvHeads * headDim;
    // Keys of `i16` are kept as the f32 that they stand for.
    this.bytesPerToken = bytesOf("f32", numbers) + bytesOf(this.#valueFormat, numbers);
    this.#ledger = ledger;
  }

  /** None: it is the plainest of stores. */
  readonly spilledTokens = 0;
  readonly forgottenTokens = 0;
  readonly forgotten = [];

  get byteLength(): number {
    return this.#chunks.length * this.chunkBytes;
  }

  get chunkBytes(): number {
    return this.chunkSize * this.bytesPerToken;
  }

  get channelBytes(): number {
    const { numLayers, numKvHeads, headDim } = this.shape;
    return this.format === "i16" ? numLayers * numKvHeads * headDim * 12 : 0;
  }

  get #valueFormat(): "f32" | "f16" {
    return this.format === "i16" ? "f16" : "f32";
  }

  reserve(length: number, spare = 0): void {
    const numChunks = Math.ceil(length / this.chunkSize);
    const added = Math.max(0, numChunks - this.#chunks.length);
    const spareBytes = (Math.ceil((length + spare) / this.chunkSize) - numChunks) * this.chunkBytes;
    this.#ledger.take(`${length} cached tokens`, added * this.chunkBytes + spareBytes);
    this.#ledger.give(spareBytes);
    const { numLayers, numKvHeads, headDim } = this.shape;
    const size = this.chunkSize * numKvHeads * headDim;
    while (this.#chunks.length < numChunks) {
      this.#chunks.push({
        keys: Array.from({ length: numLayers }, () => createNumbers("f32", size)),
        values: Array.from({ length: numLayers }, () => createNumbers(this.#valueFormat, size)),
        owners: 1,
      });
    }
  }

  truncate(length: number): void {
    const numChunks = Math.ceil(length / this.chunkSize);
    for (const chunk of this.#chunks.splice(numChunks)) this.#release(chunk);
  }

  fork(length: number): ReferenceKvStore {
    if (length > this.#chunks.length * this.chunkSize) {
      throw new RangeError(
        `Cannot fork: the length must be at most the ${this.#chunks.length * this.chunkSize} ` +
          `tokens reserved, got ${length}`,
      );
    }
    const { format, chunkSize } = this;
    const fork = new ReferenceKvStore(this.shape, { format, chunkSize }, this.#ledger);
    for (const chunk of this.#chunks.slice(0, Math.ceil(length / chunkSize))) {
      chunk.owners++;
      fork.#chunks.push(chunk);
    }
    fork.#channels.push(...this.#channels);
    return fork;
  }

  readChannels(out: Uint8Array): void {
    let at = 0;
    for (const channels of this.#channels) {
      for (const { centres, weights, inverses } of channels) {
        for (const numbers of [centres, weights, inverses]) {
          if (at === out.length) return; // in `f32` they are not used
          out.set(bytesIn(numbers), at);
          at += numbers.byteLength;
        }
      }
    }
  }

  writeChannels(bytes: Uint8Array): void {
    const { numLayers, numKvHeads, headDim } = this.shape;
    if (bytes.length === 0) return;
    let at = 0;
    const next = () => {
      const numbers = new Float32Array(headDim);
      bytesIn(numbers).set(bytes.subarray(at, at += numbers.byteLength));
      return numbers;
    };
    for (let layer = 0; layer < numLayers; layer++) {
      this.#channels[layer] = Array.from({ length: numKvHeads }, () => {
        return { centres: next(), weights: next(), inverses: next() };
      });
    }
  }

  hasChunk(index: number): boolean {
    return index in this.#chunks;
  }

  readChunk(out: Uint8Array, index: number, tokens: number): void {
    const { keys, values } = this.#at(index);
    let at = 0;
    for (const { data } of [...keys, ...values]) {
      const size = data.byteLength / this.chunkSize;
      out.set(bytesIn(data), at);
      out.fill(0, at + tokens * size, at += data.byteLength);
    }
  }

  writeChunk(index: number, _tokens: number, bytes: Uint8Array | null): void {
    const { keys, values } = this.#at(index);
    if (bytes === null) {
      throw new TypeError("Cannot forget a chunk: the reference backend keeps all of them");
    }
    let at = 0;
    for (const { data } of [...keys, ...values]) {
      bytesIn(data).set(bytes.subarray(at, at += data.byteLength));
    }
  }

  admit(length: number): void {
    const added = Math.ceil(length / this.chunkSize) - this.#chunks.length;
    this.#ledger.check(`${length} cached tokens`, added * this.chunkBytes);
  }

  /** Stores rows of keys and values at tokens from `start` on, which must be reserved. */
  append(layer: number, start: number, key: Float32Array, value: Float32Array): void {
    const cols = this.shape.numKvHeads * this.shape.headDim;
    const end = start + key.length / cols;
    if (!(layer < this.shape.numLayers) || end > this.#chunks.length * this.chunkSize) {
      throw new RangeError(
        `Cannot append: layer ${layer} must be below ${this.shape.numLayers}, and tokens up to ` +
          `${end} within the ${this.#chunks.length * this.chunkSize} reserved`,
      );
    }
    if (start === 0) this.#channels[layer] = this.#channelsOf(key);
    for (let t = start, r = 0; t < end; t++, r++) {
      const chunk = this.#writable(Math.floor(t / this.chunkSize));
      const at = t % this.chunkSize * cols;
      pack(chunk.keys[layer]!, at, this.#rounded(layer, key.subarray(r * cols, (r + 1) * cols)));
      pack(chunk.values[layer]!, at, value.subarray(r * cols, (r + 1) * cols));
    }
  }

  /** out = the key of one token and KV head; f64[headDim]. */
  readKey(out: Float64Array, layer: number, t: number, kvHead: number): void {
    unpack(out, this.#chunk(t).keys[layer]!, this.#offset(t, kvHead));
  }

  /** out = the value of one token and KV head; f64[headDim]. */
  readValue(out: Float64Array, layer: number, t: number, kvHead: number): void {
    unpack(out, this.#chunk(t).values[layer]!, this.#offset(t, kvHead));
  }

  [Symbol.dispose](): void {
    this.truncate(0);
  }

  /** By KV head, of some tokens' keys. */
  #channelsOf(key: Float32Array): KeyChannels[] {
    const { numKvHeads, headDim } = this.shape;
    const cols = numKvHeads * headDim;
    return Array.from({ length: numKvHeads }, (_, head) => {
      const rows: Float32Array[] = [];
      for (let at = head * headDim; at < key.length; at += cols) {
        rows.push(key.subarray(at, at + headDim));
      }
      return channelsOf(rows, headDim);
    });
  }

  /** One token's keys as the format keeps them. */
  #rounded(layer: number, key: Float32Array): Float32Array {
    if (this.format === "f32") return key;
    const { numKvHeads, headDim } = this.shape;
    const rounded = new Float32Array(key.length);
    for (let head = 0; head < numKvHeads; head++) {
      const own = key.subarray(head * headDim, (head + 1) * headDim);
      rounded.set(roundKey(own, this.#channels[layer]![head]!), head * headDim);
    }
    return rounded;
  }

  #at(index: number): Chunk {
    const chunk = this.#chunks[index];
    if (chunk !== undefined) return chunk;
    throw new RangeError(
      `Cannot use a chunk: it must be one of ${this.#chunks.length}, got ${index}`,
    );
  }

  #chunk(t: number): Chunk {
    return this.#chunks[Math.floor(t / this.chunkSize)]!;
  }

  #offset(t: number, kvHead: number): number {
    const { numKvHeads, headDim } = this.shape;
    return (t % this.chunkSize * numKvHeads + kvHead) * headDim;
  }

  /** A chunk that only this store holds: the last one may be a fork's, too. */
  #writable(index: number): Chunk {
    const chunk = this.#chunks[index]!;
    if (chunk.owners === 1) return chunk;
    this.#ledger.take("a copy of a shared chunk", this.chunkBytes);
    chunk.owners--;
    return this.#chunks[index] = copyOf(chunk);
  }

  #release(chunk: Chunk): void {
    if (--chunk.owners === 0) this.#ledger.give(this.chunkBytes);
  }
}

/** An array's bytes, in place. */
function bytesIn({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function copyOf(chunk: Chunk): Chunk {
  return {
    keys: chunk.keys.map(cloneNumbers),
    values: chunk.values.map(cloneNumbers),
    owners: 1,
  };
}
