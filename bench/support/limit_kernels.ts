/**
 * The kernels that measure a machine's limits, and how a thread is told to run one.
 *
 * @module
 */

/** The limits that there are, and the work that one second of each allows. */
export type LimitName = "fma" | "read";

/**
 * Independent sums: with the factor they fill 15 of 16 registers, and they cover the latency of a
 * product and a sum where the engine does not fuse (12 reach 47 of 59 GFLOPS in Bun, 14 all).
 */
export const CHAINS = 14;

/** Rounds of {@linkcode CHAINS} multiply-adds of four lanes in one call: about two milliseconds. */
const FMA_ROUNDS = 1_000_000;

/** Floating-point operations of one call on one thread. */
export const FMA_OPERATIONS = FMA_ROUNDS * CHAINS * 4 * 2;

/** Several times any level-3 cache that a core can have to itself. */
export const READ_BYTES = 256 * 2 ** 20;

/** Where {@linkcode READ_BYTES} begin: not at the start, which AssemblyScript keeps. */
const READ_START = 65536;

/** One thread's instance of the kernels above, with a memory of its own. */
export class LimitKernels {
  readonly #fma: (rounds: number, x: number) => number;
  readonly #read: (ptr: number, bytes: number) => number;
  readonly #memory: WebAssembly.Memory;
  #touched = false;

  constructor(module: WebAssembly.Module) {
    const exports = new WebAssembly.Instance(module, {}).exports;
    this.#fma = exports["fma"] as (rounds: number, x: number) => number;
    this.#read = exports["read"] as (ptr: number, bytes: number) => number;
    this.#memory = exports["memory"] as WebAssembly.Memory;
  }

  /** One operation. @throws {Error} If it was not computed. */
  run(limit: LimitName): void {
    if (limit === "fma") {
      // The factor is too small to change what it is multiplied with, so the sum is known exactly.
      const sum = this.#fma(FMA_ROUNDS, 2 ** -60);
      const expected = 4 * CHAINS * (CHAINS + 1) / 2;
      if (sum !== expected) {
        throw new Error(`the chains of multiply-adds must sum to ${expected}, got ${sum}`);
      }
      return;
    }
    if (!this.#touched) this.#fill();
    const parity = this.#read(READ_START, READ_BYTES);
    if (parity !== 0x5a5a5a5a) {
      throw new Error(`the parity of what is read is wrong: ${parity}`);
    }
  }

  /** Pages that were never written are all the same one, and in the cache. */
  #fill(): void {
    this.#memory.grow(READ_BYTES / 65536 + 1);
    const words = new Int32Array(this.#memory.buffer, READ_START, READ_BYTES / 4);
    for (let i = 0; i < words.length; i += 1024) words.fill(i | 1, i, i + 1024);
    // An even number of each word so far: one word more shows in the parity.
    words[0] = words[0]! ^ 0x5a5a5a5a;
    this.#touched = true;
  }
}

/** What threads share: their orders, as indices into an Int32Array. */
export const ORDER = { generation: 0, limit: 1, done: 2, left: 3, length: 4 } as const;

/** The limit's number in {@linkcode ORDER}; `leave` ends a worker. */
export const LIMIT_NUMBERS = { leave: 0, fma: 1, read: 2 } as const;

/** What a worker is started with. */
export interface WorkerStart {
  readonly module: WebAssembly.Module;
  readonly orders: ArrayBufferLike;
}
