/**
 * The threads there are: the caller's, and workers that come when there is work and go when there
 * is none, so that a process ends by itself even if its backend was never disposed.
 *
 * @module
 */

import type { Kernels } from "../../../wasm/loader.ts";
import type { WorkerStart } from "./worker.ts";
import {
  CONTROL_BYTES,
  dismiss,
  hasFreeSeat,
  isExpected,
  type Job,
  lead,
  leaveSeat,
  MAX_THREADS,
  takeSeat,
} from "./job.ts";
import type { Memory } from "./memory.ts";

/** Multiplications below which a job is done before a worker has heard of it: some 10 us. */
const LEAST_COST = 200_000;

/** How long a worker may take to start, in ms; 5 to 45 are usual. */
const START_MS = 5000;

/** How workers are started here. */
export interface WorkerHost {
  /** How many threads to use where nobody says. */
  readonly cores: number;
  /**
   * Starts worker.ts, without keeping the process from ending.
   *
   * @param ready Called when it posts a message.
   * @param fail Called with the reason when it cannot be started, or has thrown.
   * @returns How to post it a message.
   */
  start(ready: () => void, fail: (reason: string) => void): (message: unknown) => void;
}

/** What a host must have for more than one thread: shared memory and workers. Null if it has not. */
export async function findWorkerHost(): Promise<WorkerHost | null> {
  if (typeof SharedArrayBuffer !== "function") return null;
  if (typeof Worker === "function") return { cores: atMost(webCores()), start: startWebWorker };
  try {
    // Not at the top, because only Node needs it and only Node has it.
    const { cores, startWorker } = await import("../../system/node_workers.ts");
    const file = new URL(isSource ? "./worker.ts" : "./worker.js", import.meta.url);
    return { cores: atMost(cores), start: (...told) => startWorker(file, ...told) };
  } catch {
    return null;
  }
}

function webCores(): number {
  return typeof navigator === "object" ? navigator.hardwareConcurrency || 1 : 1;
}

function atMost(threads: number): number {
  return Math.min(MAX_THREADS, threads);
}

/** A memory that kernels work in, and the scratch of all threads there. */
interface Arena {
  readonly memory: Memory;
  readonly kernels: Kernels;
  scratch: number;
  scratchBytes: number; // of each thread
}

/** Runs kernels, on as many threads as are awake. */
export class Crew implements Disposable {
  /** The first has the control block. */
  readonly #arenas: Arena[] = [];
  readonly #module: WebAssembly.Module;
  readonly #host: WorkerHost | null;
  readonly #control: Int32Array | null;
  readonly #controlPtr: number;
  readonly #mayWait: boolean;
  #threads: number;
  #failure: string | null = null;

  /**
   * @param memory The first of the memories to work in.
   * @param threads More than 1 only if the memory is shared.
   * @param host Null only if there is 1 thread.
   */
  constructor(
    memory: Memory,
    kernels: Kernels,
    module: WebAssembly.Module,
    threads: number,
    host: WorkerHost | null,
  ) {
    this.add(memory, kernels);
    this.#module = module;
    this.#threads = threads;
    this.#host = host;
    this.#controlPtr = 0;
    this.#control = null;
    this.#mayWait = false;
    if (threads > 1) {
      this.#controlPtr = memory.allocate(CONTROL_BYTES, "a block for threads", "use one thread");
      kernels.fill(this.#controlPtr, 0, CONTROL_BYTES);
      this.#control = new Int32Array(memory.memory.buffer, this.#controlPtr, CONTROL_BYTES / 4);
      this.#mayWait = canWait(this.#control);
    }
  }

  /** Why there is only one thread, where more were to be. */
  get failure(): string | null {
    return this.#failure;
  }

  /** Threads that share the work, the caller's included. */
  get threads(): number {
    return this.#threads;
  }

  /** Scratch and the like, in bytes. */
  get byteLength(): number {
    return this.#arenas[0]!.memory.sizeOf(this.#controlPtr) +
      this.#arenas.reduce((sum, { memory, scratch }) => sum + memory.sizeOf(scratch), 0);
  }

  /** Another memory to work in; returns its number. */
  add(memory: Memory, kernels: Kernels): number {
    return this.#arenas.push({ memory, kernels, scratch: 0, scratchBytes: 0 }) - 1;
  }

  /** Starts the workers that are missing; where one cannot start, there is one thread from now on. */
  async start(): Promise<void> {
    const starting: Promise<void>[] = [];
    if (this.#control !== null && this.#host !== null) {
      for (;;) {
        const seat = takeSeat(this.#control, this.#threads);
        if (seat === 0) break;
        starting.push(this.#startWorker(this.#host, this.#control, seat));
      }
    }
    await Promise.all(starting);
  }

  /** Runs a kernel over all its items, in the memory of that number. */
  run(number: number, job: Job): void {
    if (job.items === 0) return;
    const arena = this.#arenas[number]!;
    const { kernels } = arena;
    const scratch = this.#scratchOf(arena, job.scratchBytes);
    if (this.#control !== null && this.#threads > 1 && job.items > 1 && job.cost >= LEAST_COST) {
      // They went because nothing was to be done for a while.
      if (hasFreeSeat(this.#control, this.#threads)) void this.start();
      const [threads, mayWait] = [this.#threads, this.#mayWait];
      const each = arena.scratchBytes;
      lead(this.#control, kernels, number, job, scratch, each, threads, mayWait);
      return;
    }
    const args = [...job.args, 0, job.items];
    if (job.scratchAt >= 0) args[job.scratchAt] = scratch;
    (kernels[job.kernel] as (...args: number[]) => void)(...args);
  }

  /** Dismisses the workers. */
  [Symbol.dispose](): void {
    if (this.#control === null) return;
    dismiss(this.#control);
    this.#threads = 1;
    this.#failure ??= "the backend has been disposed of";
  }

  /** Resolves when the worker is there, or will not come. */
  #startWorker(host: WorkerHost, control: Int32Array, seat: number): Promise<void> {
    return new Promise((resolve) => {
      const fail = (reason: string) => {
        clearTimeout(patience);
        // What becomes of one that was there is told by its seat.
        if (!isExpected(control, seat)) return resolve();
        leaveSeat(control, seat);
        this.#threads = 1;
        this.#failure ??= `a worker did not start: ${reason}`;
        resolve();
      };
      // What is called Worker here may be another library's, and never answer. One that has come may not have been
      // heard: a step of a large model is seconds in which this thread listens to nobody.
      const patience = setTimeout(() => fail(`no answer within ${START_MS} ms`), START_MS);
      const ready = () => {
        clearTimeout(patience);
        resolve();
      };
      try {
        const post = host.start(ready, fail);
        const start: WorkerStart = {
          module: this.#module,
          memories: this.#arenas.map(({ memory }) => memory.memory),
          control: this.#controlPtr,
          seat,
        };
        post(start);
      } catch (error) {
        fail(String(error));
      }
    });
  }

  #scratchOf(arena: Arena, bytes: number): number {
    const { memory } = arena;
    if (bytes > arena.scratchBytes) {
      if (arena.scratchBytes > 0) memory.free(arena.scratch);
      arena.scratchBytes = 0;
      const size = Math.ceil(bytes / 65536) * 65536;
      arena.scratch = memory.allocate(
        size * this.#threads,
        `the scratch of ${this.#threads} threads`,
        "use shorter steps or fewer threads",
      );
      arena.scratchBytes = size;
    }
    return arena.scratch;
  }
}

/** The worker's file lies beside this one; a bundle has it beside itself, as worker.js. */
const isSource = import.meta.url.endsWith(".ts");

function startWebWorker(
  ready: () => void,
  fail: (reason: string) => void,
): (message: unknown) => void {
  // Two literals, because tools that bundle look for them.
  const worker = isSource
    ? new Worker(new URL("./worker.ts", import.meta.url), { type: "module" })
    : new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  // Bun would wait for it at the end of the process; Deno waits until it ends by itself.
  (worker as { unref?(): void }).unref?.();
  worker.onmessage = ({ data }) => {
    if (data === "left") worker.terminate();
    else ready();
  };
  worker.onerror = (event) => {
    event.preventDefault();
    fail(event.message);
  };
  return (message) => worker.postMessage(message);
}

/** Whether this thread may sleep. */
function canWait(control: Int32Array): boolean {
  try {
    // Never equal to the word, so that it returns at once.
    Atomics.wait(control, 0, control[0]! + 1, 0);
    return true;
  } catch {
    return false;
  }
}
