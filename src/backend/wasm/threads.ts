/**
 * Runs a kernel over a range of work.
 *
 * @module
 */

import type { Kernels } from "../../../wasm/loader.ts";
import type { Memory } from "./memory.ts";

/** A kernel whose last two arguments are a range of work, and one of whose others is scratch. */
export interface Job {
  readonly kernel: "attend" | "matmul" | "selectKeys";
  /** All arguments but the range; `0` where the scratch goes. */
  readonly args: readonly number[];
  /** Which argument is the scratch. */
  readonly scratchAt: number;
  /** What one thread needs as scratch. */
  readonly scratchBytes: number;
  /** The range is [0, items). */
  readonly items: number;
}

/** The threads there are, the caller's included. */
export class Crew implements Disposable {
  readonly threads: number = 1;
  readonly #memory: Memory;
  readonly #kernels: Kernels;
  #scratch = 0;
  #scratchBytes = 0;

  constructor(memory: Memory, kernels: Kernels) {
    this.#memory = memory;
    this.#kernels = kernels;
  }

  /** Scratch, in bytes. */
  get byteLength(): number {
    return this.#scratchBytes;
  }

  /** Runs a kernel over all its items. */
  run(job: Job): void {
    if (job.items === 0) return;
    const args = [...job.args, 0, job.items];
    args[job.scratchAt] = this.#scratchOf(job.scratchBytes);
    (this.#kernels[job.kernel] as (...args: number[]) => void)(...args);
  }

  [Symbol.dispose](): void {
    if (this.#scratchBytes > 0) this.#memory.free(this.#scratch);
    this.#scratchBytes = 0;
  }

  #scratchOf(bytes: number): number {
    if (bytes > this.#scratchBytes) {
      this[Symbol.dispose]();
      const size = Math.ceil(bytes / 65536) * 65536;
      this.#scratch = this.#memory.allocate(
        size,
        "a thread's scratch",
        "use shorter steps or fewer threads",
      );
      this.#scratchBytes = size;
    }
    return this.#scratch;
  }
}
