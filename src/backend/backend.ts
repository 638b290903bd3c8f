/**
 * What a machine must offer: handles and verbs. The verbs are a layer's sentences, not a tensor
 * library's words, so that a backend can fuse inside each as it likes.
 *
 * Outputs come first; verbs return nothing and take effect in order; only `read`, `largest` and `sync` wait.
 * So do `reserve` and `attend` where values must leave a device for the spill file, or come back to it: what they return
 * then must be awaited before the next verb, and with it whatever goes wrong.
 * Handles are opaque and belong to the backend that made them. Inside one call `out` may be the
 * same tensor as an input only where the verb says so.
 *
 * @module
 */

import type { Scope, ScopeConfig } from "../reattention/scope.ts";
import type { Rope } from "../reattention/rope.ts";

/** The backends there are. */
export type BackendName = "reference" | "wasm" | "webgpu";

/** How a backend is opened. */
export interface BackendOptions {
  /** Threads, the caller's included. Default: the cores there are; 1 where memory cannot be shared. */
  readonly threads?: number;
  /** Compiled kernels, for hosts that forbid compiling bytes at run time (some edge workers). */
  readonly module?: WebAssembly.Module;
  /** The most memory to hold, in bytes. Default: 4 GiB, which is all that one WebAssembly memory can. */
  readonly memoryLimit?: number;
  /**
   * Whether `"webgpu"` may be a program that acts as a GPU (SwiftShader, lavapipe), which is slower than `"wasm"`:
   * for tests. Default false.
   */
  readonly allowSoftware?: boolean;
}

/**
 * How a weight's numbers are stored in its file. Those from `q8_0` on are GGUF's: rows are blocks of 32
 * numbers, or of 256 where the name ends with k, that share scales and, in `q4_1`, `q5_1`, `q4_k` and
 * `q5_k`, minima. The bytes are as ggml-common.h has them.
 */
export type WeightFormat =
  | "f32"
  | "f16"
  | "bf16"
  | "q8_0"
  | "q4_0"
  | "q4_1"
  | "q5_0"
  | "q5_1"
  | "q4_k"
  | "q5_k"
  | "q6_k";

/**
 * How the KV cache stores numbers. `i16`: keys as 15-bit integers and one f32 scale a token and KV head,
 * their channels centred and weighed alike, of which selection reads the upper seven bits; values as f16.
 * `f32`: as they came, for oracles, and the upper bits of keys besides.
 */
export type KvFormat = "f32" | "i16";

/** A tensor in a file, and the way to its bytes. Row-major, little-endian, `rows * cols` numbers, no padding. */
export interface WeightSource {
  /** For messages, e.g. `model.layers.0.self_attn.q_proj.weight`. */
  readonly name: string;
  readonly format: WeightFormat;
  /** Output features; 1 for a vector. */
  readonly rows: number;
  /** Input features; a multiple of what the format's blocks hold. */
  readonly cols: number;
  /** Fills `target` with the bytes from `byteOffset` of the tensor on, or throws. */
  read(target: Uint8Array, byteOffset: number): Promise<void>;
}

/** f32 activations; rows are tokens. */
export interface Tensor extends Disposable {
  readonly rows: number;
  readonly cols: number;
}

/** A weight in whatever packing the backend chose. */
export interface Weight extends Disposable {
  readonly rows: number;
  readonly cols: number;
  /** What it occupies, in bytes. */
  readonly byteLength: number;
}

/** What attention looks like, for all layers. Query head `h` reads KV head `floor(h / (numHeads / numKvHeads))`. */
export interface AttentionShape {
  readonly numLayers: number;
  readonly numHeads: number;
  /** Divides `numHeads`. */
  readonly numKvHeads: number;
  /** Even. */
  readonly headDim: number;
}

/** How a KV store keeps its tokens. */
export interface KvStoreOptions {
  /** Default `"i16"`: the bytes of f16, and for keys eight times its precision. */
  readonly format?: KvFormat;
  /** Tokens per chunk, a multiple of 16. Default 256. */
  readonly chunkSize?: number;
  /** What the cache and its forks may occupy in memory, in bytes. Default: all that the backend may. */
  readonly cacheBytes?: number;
  /**
   * Where values go that no longer fit, the oldest first; keys stay, because selection reads all of them.
   * The caller closes it, after the last of the store and its forks is disposed.
   */
  readonly spill?: SpillFile;
  /**
   * What to do when nothing fits any more: fail (default), or forget the oldest tokens, which are never
   * selected again; those that a fork shares in the fork, too.
   */
  readonly forget?: "oldest";
  /** What stays whatever happens. Must be given with `spill` or `forget`. */
  readonly keep?: KeptEnds;
}

/** The tokens that every attention call reads: they are neither spilled nor forgotten. */
export interface KeptEnds {
  /** First tokens. */
  readonly first: number;
  /** Last tokens, of those that are there when room is made. */
  readonly last: number;
}

/** Tokens [start, end). */
export interface TokenRange {
  readonly start: number;
  readonly end: number;
}

/** A place for bytes that comes and goes with a store: a file. Both calls return when it is done. */
export interface SpillFile {
  /** @throws {Error} If the bytes could not all be written. */
  write(byteOffset: number, bytes: Uint8Array): void;
  /** Fills `target` with what was written there. */
  read(byteOffset: number, target: Uint8Array): void;
}

/**
 * Unrotated keys, and values, of all layers, in chunks. A full chunk never changes, so forks share
 * it; appending never copies what is there.
 */
export interface KvStore extends Disposable {
  readonly shape: AttentionShape;
  readonly format: KvFormat;
  readonly chunkSize: number;
  /** Keys and values of all layers, in bytes. */
  readonly bytesPerToken: number;
  /** What its chunks occupy in memory, those shared with forks included, in bytes. */
  readonly byteLength: number;
  /** Tokens whose values are in the spill file. */
  readonly spilledTokens: number;
  /** Tokens that were forgotten to make room. */
  readonly forgottenTokens: number;
  /** Where they were, ascending. */
  readonly forgotten: readonly TokenRange[];
  /**
   * Makes room for `length` tokens in all layers, so that no append can fail half-way.
   *
   * Waits only where values must leave a device first.
   *
   * @param spare Tokens beyond those for which there must be room too, without taking it: what a caller may
   * want to append when reading on is no longer possible.
   * @throws {OutOfMemoryError} If there is no room; nothing was forgotten then.
   * @throws {Error} If the spill file fails; nothing was forgotten then.
   */
  reserve(length: number, spare?: number): void | Promise<void>;
  /**
   * Forgets all tokens from `length` on and gives back the chunks that are empty then.
   *
   * @throws {RangeError} If the last chunk that would be left was forgotten.
   */
  truncate(length: number): void;
  /**
   * A second store of the first `length` tokens. Chunks are shared, spilled ones too; whoever writes to one
   * that others read copies it first, in `reserve`.
   *
   * @param keep Default: what this store keeps.
   * @throws {RangeError} If the last chunk was forgotten.
   */
  fork(length: number, keep?: KeptEnds): KvStore;

  /**
   * How the bytes below are laid out: those of one name fit every store of that name, of the same shape, format
   * and chunk size, wherever it is.
   */
  readonly layoutName: string;
  /** What tells how keys are centred and weighed, in bytes. */
  readonly channelBytes: number;
  /** A chunk's keys and values, in bytes. */
  readonly chunkBytes: number;
  /** out = how keys are centred and weighed, u8[channelBytes]; not shared memory. */
  readChannels(out: Uint8Array): void | Promise<void>;
  /** Before the first chunk is written. */
  writeChannels(bytes: Uint8Array): void;
  /** Whether a chunk is there: reserved and not forgotten. */
  hasChunk(chunk: number): boolean;
  /** out = the first `tokens` tokens of a chunk that is there and zeros after them, u8[chunkBytes]; not shared memory. */
  readChunk(out: Uint8Array, chunk: number, tokens: number): void | Promise<void>;
  /** Sets the first `tokens` tokens of a chunk that was just reserved; null: the one after those reserved is forgotten. */
  writeChunk(chunk: number, tokens: number, bytes: Uint8Array | null): void;
  /** @throws {OutOfMemoryError} If `length` tokens cannot be reserved, whatever is spilled and forgotten of them. */
  admit(length: number): void;
}

/** The greatest numbers of a row. */
export interface Largest {
  /** Descending; NaN stands before all numbers, and zeros have no sign. */
  readonly values: Float32Array;
  /** Where they are in the row; of equal ones the earlier first. */
  readonly indices: Uint32Array;
}

/** What one `select` chose. Read it before the next `select` on the same store, or never. */
export interface Selection {
  /**
   * The selected tokens, ascending, within the middle: one list for the layer, or one per KV head
   * (`sharing: "kvHead"`). The values are those at the time of the call, not of the awaiting.
   */
  tokens(): Promise<Uint32Array[]>;
}

/** A machine that computes. See the module's text for the rules that all verbs share. */
export interface Backend extends Disposable {
  readonly name: BackendName;
  /** For people: which build, how many threads. */
  readonly description: string;
  /** What it holds now for weights, tensors and stores, in bytes. */
  readonly byteLength: number;

  /**
   * Loads a weight, packing it as it arrives: the file's bytes are never held twice.
   *
   * @throws {RangeError} If its columns do not fill the format's blocks.
   * @throws {OutOfMemoryError} Before anything is read, if it does not fit.
   */
  weight(source: WeightSource): Promise<Weight>;
  /** f32[rows, cols]; contents undefined. */
  tensor(rows: number, cols: number): Tensor;
  /** A view of rows [start, end); disposing it does nothing. */
  rows(x: Tensor, start: number, end: number): Tensor;
  /**
   * An empty store.
   *
   * @throws {TypeError} If the backend has no ceiling, and can neither spill nor forget: the reference.
   */
  kvStore(shape: AttentionShape, options?: KvStoreOptions): KvStore;

  /** Sets a tensor from f32[rows, cols]. */
  write(out: Tensor, values: Float32Array): void;
  /** f32[rows, cols], a copy. */
  read(x: Tensor): Promise<Float32Array>;
  /**
   * The `count` greatest numbers of a row, or all where there are fewer: for few of them a GPU need not hand over
   * the row.
   *
   * @throws {TypeError} If `x` has not one row.
   * @throws {RangeError} If `count` is not at least 1.
   */
  largest(x: Tensor, count: number): Promise<Largest>;
  /** Waits until all verbs so far have taken effect. */
  sync(): Promise<void>;

  /** out = x; same shape. */
  copy(out: Tensor, x: Tensor): void;
  /** out[r] = table[tokens[r]]; tokens must be below `table.rows`. */
  embed(out: Tensor, table: Weight, tokens: Uint32Array): void;
  /**
   * out[r] = x[r] / sqrt(mean(x[r]^2) + epsilon) * gain; `out` may be `x`. A gain shorter than a row
   * norms each run of `gain.cols` numbers, a head, by itself: a multiple of 4 that divides `x.cols`.
   */
  rmsNorm(out: Tensor, x: Tensor, gain: Weight, epsilon: number): void;
  /**
   * out[r, o] = sum_i x[r, i] * weight[o, i]. A row's result does not depend, to the last bit, on
   * how many rows there are or which it is: equal tokens get equal keys however steps are cut.
   *
   * With weights in blocks a backend may round activations to int8 too, 32 at a time with one scale,
   * which is largest |x| / 127.
   */
  matmul(out: Tensor, x: Tensor, weight: Weight): void;
  /** out = silu(gate) * up; `out` may be either. */
  swiGlu(out: Tensor, gate: Tensor, up: Tensor): void;
  /** out = a + b; `out` may be either. */
  add(out: Tensor, a: Tensor, b: Tensor): void;
  /** out[r] = x[r] + bias, a weight of one row; `out` may be `x`. */
  addBias(out: Tensor, x: Tensor, bias: Weight): void;

  /** Stores keys and values f32[rows, numKvHeads * headDim], unrotated, at tokens [start, start + rows), reserved before. */
  append(store: KvStore, layer: number, start: number, key: Tensor, value: Tensor): void;
  /**
   * Position-agnostic selection, reattention.md's steps 3 to 5: score every middle key for every
   * query row and head, keep `topK` each, pool the votes, keep `maxSpans`, spread each to its span.
   * Equal scores and equal votes go to the earlier token, exactly: equal keys have equal scores
   * wherever they stand. What was forgotten is not selected.
   *
   * @throws {TypeError} If values count (`config.scores`) and the store spills them.
   * @param query f32[queries, numHeads * headDim], unrotated
   */
  select(
    store: KvStore,
    layer: number,
    query: Tensor,
    scope: Scope,
    config: ScopeConfig,
  ): Selection;
  /**
   * Attention of the newest rows over the scope: global | selected | local, given positions 0..n-1
   * (or their true ones), causal among the newest, scaled by 1 / sqrt(headDim), softmax in f32.
   *
   * Waits only where a device must first be told values that were spilled.
   *
   * @throws {RangeError} If global or local tokens were forgotten.
   * @throws {Error} If the spill file fails.
   * @param out f32[queries, numHeads * headDim]
   * @param query the same shape, unrotated; row r is token `scope.length - queries + r`
   */
  attend(
    out: Tensor,
    query: Tensor,
    store: KvStore,
    layer: number,
    scope: Scope,
    selection: Selection | null,
    rope: Rope,
    positions: ScopeConfig["positions"],
  ): void | Promise<void>;
}
