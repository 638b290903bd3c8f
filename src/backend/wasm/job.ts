/**
 * How the caller's thread and its workers share one kernel's range of work: a few words of shared
 * memory that all of them see.
 *
 * The caller writes a job and opens the gate; whoever is awake enters, takes items until none are
 * left, and leaves; the caller closes the gate and waits for those inside. A worker that comes late,
 * or never, costs nothing: it finds the gate closed.
 *
 * @module
 */

import type { Kernels } from "../../../wasm/loader.ts";

/** The kernels whose work can be shared. */
export const SHARED_KERNELS = [
  "attend",
  "attendFew",
  "matmul",
  "matmulQuantised",
  "packPairs",
  "quantizeRows",
  "selectKeys",
  "swiGlu",
] as const;

/** A kernel whose last two arguments are a range of work, and one of whose others may be scratch. */
export interface Job {
  readonly kernel: typeof SHARED_KERNELS[number];
  /** All arguments but the range; `0` where the scratch goes. */
  readonly args: readonly number[];
  /** Which argument is the scratch; -1 if none is. */
  readonly scratchAt: number;
  /** What one thread needs as scratch, in bytes. */
  readonly scratchBytes: number;
  /** The range is [0, items). */
  readonly items: number;
  /** About how many multiplications it is in all: little work is not worth sharing. */
  readonly cost: number;
}

/** Words of the control block, i32. */
const GATE = 0; // odd while a job is open
const INSIDE = 1; // threads at work on it, the caller not counted
const NEXT = 2; // the first item that nobody has taken
const FAILED = 3; // workers that trapped
const LEAVE = 4; // whether all workers shall end
const KERNEL = 5;
const ITEMS = 6;
const SHARES = 7; // of what is left, one is taken at once
const SCRATCH = 8;
const SCRATCH_BYTES = 9; // of each thread
const SCRATCH_AT = 10;
const NUM_ARGS = 11;
const ARENA = 12; // which of the backend's memories the job works in
const ARGS = 13;
const MAX_ARGS = 20;
const SEATS = ARGS + MAX_ARGS; // of each thread: 0 free, or one of these

/** A worker's seat while it is being started, and from when it is there. */
const EXPECTED = 1;
const SITTING = 2;

/** The most threads, the caller's included. */
export const MAX_THREADS = 64;

/** Bytes of a control block, all zero at first. */
export const CONTROL_BYTES = 4 * (SEATS + MAX_THREADS);

/** How long a worker looks for the next job before it sleeps, and sleeps before it ends, in ms. */
const SPIN_MS = 0.1;
const IDLE_MS = 1000;
/** How long one sleep lasts, in ms: a worker that is terminated meanwhile only notices afterwards. */
const NAP_MS = 100;

/** Takes items until none are left. */
function takeItems(control: Int32Array, kernels: Kernels, seat: number): void {
  const args: number[] = Array.from(control.subarray(ARGS, ARGS + control[NUM_ARGS]!));
  const scratchAt = control[SCRATCH_AT]!;
  if (scratchAt >= 0) args[scratchAt] = control[SCRATCH]! + seat * control[SCRATCH_BYTES]!;
  const kernel = kernels[SHARED_KERNELS[control[KERNEL]!]!] as (...args: number[]) => void;
  const items = control[ITEMS]!;
  const shares = control[SHARES]!;
  for (;;) {
    const start = Atomics.load(control, NEXT);
    if (start >= items) return;
    // Less and less at once, so that all end together: equal parts would leave one thread with one
    // part more than another, 7 % of a small matrix.
    const end = start + Math.ceil((items - start) / shares);
    if (Atomics.compareExchange(control, NEXT, start, end) === start) kernel(...args, start, end);
  }
}

/**
 * The caller's side of a job.
 *
 * @param kernels Those of the memory that the job works in, and which of the backend's memories it is.
 * @param scratch Where the scratch of all threads is, one after the other.
 * @param mayWait Whether this thread may sleep: a browser's main thread may not.
 */
export function lead(
  control: Int32Array,
  kernels: Kernels,
  arena: number,
  job: Job,
  scratch: number,
  scratchBytes: number,
  threads: number,
  mayWait: boolean,
): void {
  control[KERNEL] = SHARED_KERNELS.indexOf(job.kernel);
  control[ITEMS] = job.items;
  control[SHARES] = threads * 3;
  control[SCRATCH] = scratch;
  control[SCRATCH_BYTES] = scratchBytes;
  control[SCRATCH_AT] = job.scratchAt;
  control[NUM_ARGS] = job.args.length;
  control[ARENA] = arena;
  control.set(job.args, ARGS);
  Atomics.store(control, NEXT, 0);
  Atomics.add(control, GATE, 1);
  Atomics.notify(control, GATE);
  try {
    takeItems(control, kernels, 0);
  } finally {
    Atomics.add(control, GATE, 1);
    for (let spins = 0;; spins++) {
      const inside = Atomics.load(control, INSIDE);
      if (inside === 0) break;
      if (mayWait && spins > 2000) Atomics.wait(control, INSIDE, inside, 1);
    }
  }
  if (Atomics.exchange(control, FAILED, 0) !== 0) {
    throw new Error(`Cannot run the kernel "${job.kernel}": a worker thread failed in it`);
  }
}

/**
 * A worker's side: joins jobs until it is told to leave, or none has come for a second, or one has come in a
 * memory that it does not know: who comes in its place will know it.
 *
 * @param arenas Kernels of each memory.
 */
export function follow(control: Int32Array, arenas: readonly Kernels[], seat: number): void {
  Atomics.store(control, SEATS + seat, SITTING);
  let seen = 0;
  let idleSince = performance.now();
  while (Atomics.load(control, LEAVE) === 0) {
    const gate = Atomics.load(control, GATE);
    if (gate === seen || gate % 2 === 0) {
      const idle = performance.now() - idleSince;
      if (idle > IDLE_MS) break;
      if (idle > SPIN_MS) Atomics.wait(control, GATE, gate, NAP_MS);
      continue;
    }
    seen = gate;
    Atomics.add(control, INSIDE, 1);
    let known = true;
    try {
      if (Atomics.load(control, GATE) === gate) {
        const kernels = arenas[control[ARENA]!];
        known = kernels !== undefined;
        if (kernels !== undefined) takeItems(control, kernels, seat);
      }
    } catch {
      Atomics.add(control, FAILED, 1);
    } finally {
      Atomics.sub(control, INSIDE, 1);
      Atomics.notify(control, INSIDE);
    }
    if (!known) break;
    idleSince = performance.now();
  }
  Atomics.store(control, SEATS + seat, 0);
}

/** Whether a worker is missing. */
export function hasFreeSeat(control: Int32Array, threads: number): boolean {
  for (let seat = 1; seat < threads; seat++) {
    if (Atomics.load(control, SEATS + seat) === 0) return true;
  }
  return false;
}

/** Reserves a free seat for a worker to be started. Returns 0 if all are taken. */
export function takeSeat(control: Int32Array, threads: number): number {
  for (let seat = 1; seat < threads; seat++) {
    if (Atomics.compareExchange(control, SEATS + seat, 0, EXPECTED) === 0) return seat;
  }
  return 0;
}

/** Whether the worker of a seat has not come yet. */
export function isExpected(control: Int32Array, seat: number): boolean {
  return Atomics.load(control, SEATS + seat) === EXPECTED;
}

/** Gives back the seat of a worker that could not start. */
export function leaveSeat(control: Int32Array, seat: number): void {
  Atomics.store(control, SEATS + seat, 0);
}

/** Tells all workers to end. */
export function dismiss(control: Int32Array): void {
  Atomics.store(control, LEAVE, 1);
  Atomics.notify(control, GATE);
}
