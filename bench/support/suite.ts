/**
 * What a group of benchmarks is made of.
 *
 * @module
 */

import type { Backend } from "../../src/backend/backend.ts";
import { openBackend } from "../../src/backend/open.ts";
import type { Contestant } from "./contest.ts";
import type { LimitName } from "./limit_kernels.ts";

/** The same work done by the library and by its peers. */
export interface Contest {
  /** Group, kind, shape: `matmul/q8_0/Llama-3.2-1B gate 8192x2048/256 rows`. */
  readonly name: string;
  /** Where it runs, if not in the runtime of the benchmark. */
  readonly runtime?: string;
  /** Threads of `ours`. */
  readonly threads: number;
  readonly unit: "GFLOPS" | "GB/s" | "tokens/s";
  /** What one operation comes to: its time divides this. */
  readonly work: number;
  /** The limit that it is held against, and what of that one operation needs: operations, or bytes. */
  readonly limit: { readonly name: LimitName; readonly work: number } | null;
  /** At most so many rounds, where each takes long. */
  readonly rounds?: number;
  readonly ours: Contestant;
  readonly peers: readonly Contestant[];
}

/** A result that is no contest: a share, a size. */
export interface Figure {
  readonly name: string;
  readonly threads: number;
  readonly value: number;
  readonly unit: string;
  /** Where it is a part of a whole: shares of one whole are shown side by side. */
  readonly share?: { readonly of: string; readonly part: string };
}

/** A group. What it yields is measured before it goes on; then it gives back what it held. */
export type Suite = (settings: Settings) => AsyncGenerator<Contest | Figure>;

/** What the command line says. */
export interface Settings {
  /** The numbers of threads to run with. */
  readonly threads: readonly number[];
  /** Whether peers take part. */
  readonly peers: boolean;
  /** The synthetic models of the group `model`: `<shape>:<format>`. */
  readonly models: readonly string[];
  /** Where they are written, and found the next time. */
  readonly modelFolder: string;
  /** Whether a result of that name was asked for; whose name is not need not be prepared. */
  wants(name: string): boolean;
}

/** What is measured: the wasm backend, and with several threads the same with one. */
export interface Machines extends Disposable {
  readonly ours: Backend;
  readonly single: Backend | null;
}

/** What the backend of one thread is called among the peers of several. */
export const ONE_THREAD = "reattention, 1 thread";

/**
 * Opens the wasm backend.
 *
 * @throws {Error} If it has fewer threads here than were asked for.
 */
export async function openMachines(threads: number): Promise<Machines> {
  const ours = await openBackend("wasm", { threads });
  try {
    checkThreads(ours.description, threads);
  } catch (error) {
    ours[Symbol.dispose]();
    throw error;
  }
  const single = threads > 1 ? await openBackend("wasm", { threads: 1 }) : null;
  return {
    ours,
    single,
    [Symbol.dispose]() {
      ours[Symbol.dispose]();
      single?.[Symbol.dispose]();
    },
  };
}

/**
 * What a backend says of itself is all that is known of its threads.
 *
 * @throws {Error} If it has others than were asked for.
 */
export function checkThreads(description: string, threads: number): void {
  const found = Number(/(\d+) threads?/.exec(description)?.[1] ?? 1);
  if (found !== threads) {
    throw new Error(`the backend has ${found} of the ${threads} threads asked for`);
  }
}
