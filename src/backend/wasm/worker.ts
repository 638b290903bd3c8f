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
  /** All that the backend has. */
  readonly memories: readonly WebAssembly.Memory[];
  /** Where the control block is, in the first. */
  readonly control: number;
  readonly seat: number;
}

/** A worker's way to the thread that started it: the web's global scope, or Node's port. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<WorkerStart>) => void) | null;
  postMessage(message: unknown): void;
  /** Missing in Bun. */
  close?(): void;
}

function work(scope: WorkerScope): void {
  scope.onmessage = async ({ data: { module, memories, control, seat } }) => {
    const arenas = await Promise.all(memories.map((memory) => instantiateKernels(module, memory)));
    scope.postMessage("ready");
    const block = new Int32Array(memories[0]!.buffer, control, CONTROL_BYTES / 4);
    follow(block, arenas, seat);
    // Who cannot end itself is ended.
    if (scope.close) scope.close();
    else scope.postMessage("left");
  };
}

if (typeof addEventListener === "function") work(globalThis as unknown as WorkerScope);
else {
  // Node's workers have no such global.
  const { workerScope } = await import("../../system/node_workers.ts");
  if (workerScope !== null) work(workerScope as unknown as WorkerScope);
}
