/**
 * A thread that helps with kernels. Started by threads.ts.
 *
 * @module
 */

import { instantiateKernels } from "../../../wasm/loader.ts";
import { CONTROL_BYTES, follow } from "./job.ts";

/** What a worker is started with. */
export interface WorkerStart {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  /** Where the control block is. */
  readonly control: number;
  readonly seat: number;
}

/** What there is of a worker's global scope. */
interface WorkerScope {
  postMessage(message: unknown): void;
  close(): void;
}

addEventListener("message", async (event) => {
  const { module, memory, control, seat } = (event as MessageEvent<WorkerStart>).data;
  const scope = globalThis as unknown as WorkerScope;
  const kernels = await instantiateKernels(module, memory);
  scope.postMessage("ready");
  follow(new Int32Array(memory.buffer, control, CONTROL_BYTES / 4), kernels, seat);
  scope.close();
});
