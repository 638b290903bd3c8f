/**
 * Opens a backend by name.
 *
 * @module
 */

import type { Backend, BackendName } from "./backend.ts";

/** Options of {@linkcode openBackend}. */
export interface BackendOptions {
  /** Threads, the caller's included. Default: the cores there are; 1 where memory cannot be shared. */
  readonly threads?: number;
  /** Compiled kernels, for hosts that forbid compiling bytes at run time (some edge workers). */
  readonly module?: WebAssembly.Module;
}

/**
 * Opens a machine to compute on.
 *
 * @param name `"auto"` is `"wasm"`; `"reference"` is the slow float64 oracle.
 * @throws {BackendUnavailableError} If it cannot run here.
 */
export async function openBackend(
  name: BackendName | "auto" = "auto",
  options: BackendOptions = {},
): Promise<Backend> {
  if (name === "reference") {
    const { ReferenceBackend } = await import("./reference/backend.ts");
    return new ReferenceBackend();
  }
  const { openWasmBackend } = await import("./wasm/backend.ts");
  return await openWasmBackend(options);
}
