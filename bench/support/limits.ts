/**
 * What one core, or several, can do at best through 128-bit WebAssembly: fused multiply-adds, and
 * reads of memory beyond all caches. Kernels are measured against these, in the same rounds.
 *
 * @module
 */

import asc from "assemblyscript/asc";
import { Worker } from "node:worker_threads";
import { hasRelaxedSimd } from "../../wasm/loader.ts";
import type { Contestant } from "./contest.ts";
import {
  CHAINS,
  FMA_OPERATIONS,
  LIMIT_NUMBERS,
  LimitKernels,
  type LimitName,
  ORDER,
  READ_BYTES,
  type WorkerStart,
} from "./limit_kernels.ts";

const chains = Array.from({ length: CHAINS }, (_, i) => `a${i}`);

/**
 * AssemblyScript. What is multiplied comes from outside and from the chain itself, so that nothing
 * can be computed ahead or taken out of the loop.
 */
const SOURCE = `
@inline function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

export function fma(rounds: u32, x: f32): f32 {
  const factor = f32x4.splat(x);
  ${chains.map((a, i) => `let ${a} = f32x4.splat(<f32>${i + 1});`).join("\n  ")}
  for (let i: u32 = 0; i < rounds; i++) {
    ${chains.map((a) => `${a} = madd(${a}, factor, ${a});`).join("\n    ")}
  }
  let sum = f32x4.splat(0);
  ${chains.map((a) => `sum = f32x4.add(sum, ${a});`).join("\n  ")}
  return f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 1) +
    f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3);
}

export function read(ptr: usize, bytes: usize): i32 {
  let a = i32x4.splat(0);
  let b = i32x4.splat(0);
  let c = i32x4.splat(0);
  let d = i32x4.splat(0);
  for (const end = ptr + bytes; ptr < end; ptr += 64) {
    a = v128.xor(a, v128.load(ptr));
    b = v128.xor(b, v128.load(ptr, 16));
    c = v128.xor(c, v128.load(ptr, 32));
    d = v128.xor(d, v128.load(ptr, 48));
  }
  const all = v128.xor(v128.xor(a, b), v128.xor(c, d));
  return i32x4.extract_lane(all, 0) ^ i32x4.extract_lane(all, 1) ^
    i32x4.extract_lane(all, 2) ^ i32x4.extract_lane(all, 3);
}
`;

/** The limits of some threads at once. */
export interface Limits {
  readonly threads: number;
  /** Work of one call: floating-point operations, or bytes. */
  work(limit: LimitName): number;
  contestant(limit: LimitName): Contestant;
  /** Lets the workers leave. */
  close(): Promise<void>;
}

let compiled: Promise<WebAssembly.Module> | null = null;

/**
 * Opens the limits for a number of threads, the caller's included.
 *
 * @throws {Error} If a worker cannot start.
 */
export async function openLimits(threads: number): Promise<Limits> {
  const module = await (compiled ??= compile());
  const kernels = new LimitKernels(module);
  const orders = new Int32Array(new SharedArrayBuffer(ORDER.length * 4));
  const workers = await Promise.all(
    Array.from({ length: threads - 1 }, () => startWorker({ module, orders: orders.buffer })),
  );
  const order = (limit: keyof typeof LIMIT_NUMBERS) => {
    Atomics.store(orders, ORDER.done, 0);
    Atomics.store(orders, ORDER.limit, LIMIT_NUMBERS[limit]);
    Atomics.add(orders, ORDER.generation, 1);
    Atomics.notify(orders, ORDER.generation);
  };
  return {
    threads,
    work: (limit) => threads * (limit === "fma" ? FMA_OPERATIONS : READ_BYTES),
    contestant: (limit) => ({
      name: limit === "fma" ? "the 128-bit FMA peak" : "the read bandwidth",
      run() {
        if (workers.length > 0) order(limit);
        kernels.run(limit);
        while (Atomics.load(orders, ORDER.done) < workers.length) {
          // Its part takes as long as ours: a wait would take longer to wake than is left.
        }
      },
    }),
    async close() {
      // A worker that is terminated while it waits would keep Deno from ending.
      order("leave");
      while (Atomics.load(orders, ORDER.left) < workers.length) {
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      for (const worker of workers) await worker.terminate();
    },
  };
}

async function startWorker(start: WorkerStart): Promise<Worker> {
  const worker = new Worker(new URL("./limits_worker.ts", import.meta.url), { workerData: start });
  await new Promise<void>((resolve, reject) => {
    worker.once("message", () => resolve());
    worker.once("error", reject);
  });
  return worker;
}

async function compile(): Promise<WebAssembly.Module> {
  const { error, binary, stderr } = await asc.compileString(SOURCE, {
    runtime: "stub",
    // Not 3: that chains the independent sums again.
    optimizeLevel: 2,
    noAssert: true,
    enable: ["simd", ...hasRelaxedSimd() ? ["relaxed-simd"] : []],
  });
  if (error || !binary) {
    throw new Error(`Cannot compile the limits: ${error ?? stderr.toString()}`);
  }
  return await WebAssembly.compile(binary as Uint8Array<ArrayBuffer>);
}
