/**
 * Workers where the web's are missing: Node's own.
 *
 * @module
 */

import { availableParallelism } from "node:os";
import { parentPort, Worker } from "node:worker_threads";

/** The processor's cores, as far as this process may use them. */
export const cores: number = availableParallelism();

/**
 * Starts a worker that does not keep the process from ending.
 *
 * @param ready Called when it posts a message.
 * @param fail Called with the reason when it cannot be started, or has thrown.
 * @returns How to post it a message.
 */
export function startWorker(
  file: URL,
  ready: () => void,
  fail: (reason: string) => void,
): (message: unknown) => void {
  // What the main thread was started with (`--eval`, `--input-type`) may be refused for a file.
  const worker = new Worker(file, { execArgv: [] });
  worker.on("message", ready);
  worker.on("error", (error) => fail(String(error)));
  worker.unref();
  return (message) => worker.postMessage(message);
}

/** A worker's side of it; null on the main thread. */
export const workerScope: typeof parentPort = parentPort;
