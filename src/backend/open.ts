/**
 * Opens a backend by name.
 *
 * @module
 */

import type { Backend, BackendName, BackendOptions } from "./backend.ts";

export type { BackendOptions };

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
