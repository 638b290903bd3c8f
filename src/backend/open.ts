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
 * @param name `"auto"` is `"webgpu"` where there is a GPU, else `"wasm"`; `"reference"` is the slow float64 oracle.
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
  if (name === "webgpu") {
    const { openWebGpuBackend } = await import("./webgpu/open.ts");
    return await openWebGpuBackend(options);
  }
  const { openWasmBackend } = await import("./wasm/backend.ts");
  return await openWasmBackend(options);
}
