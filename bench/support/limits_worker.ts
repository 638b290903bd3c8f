/**
 * One more thread for limits.ts.
 *
 * @module
 */

import { parentPort, workerData } from "node:worker_threads";
import { LIMIT_NUMBERS, LimitKernels, ORDER, type WorkerStart } from "./limit_kernels.ts";

const { module, orders: buffer } = workerData as WorkerStart;
const orders = new Int32Array(buffer);
const kernels = new LimitKernels(module);
let generation = Atomics.load(orders, ORDER.generation);
parentPort!.postMessage("ready");
while (true) {
  Atomics.wait(orders, ORDER.generation, generation);
  generation = Atomics.load(orders, ORDER.generation);
  const limit = Atomics.load(orders, ORDER.limit);
  if (limit === LIMIT_NUMBERS.leave) break;
  try {
    kernels.run(limit === LIMIT_NUMBERS.fma ? "fma" : "read");
  } finally {
    Atomics.add(orders, ORDER.done, 1);
  }
}
Atomics.add(orders, ORDER.left, 1);
