/**
 * Opens a backend by name.
 *
 * @module
 */

import { BackendUnavailableError } from "../errors.ts";
import type { Backend, BackendName, BackendOptions } from "./backend.ts";

export type { BackendOptions };

/**
 * Opens a machine to compute on.
 *
 * @param name `"auto"` is `"webgpu"` where there is a GPU and nothing was asked of the processor (`threads`,
 * `module`), else `"wasm"`; `"reference"` is the slow float64 oracle.
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
  if (name === "webgpu") return await openWebGpu(options);
  const isForProcessor = options.threads !== undefined || options.module !== undefined;
  if (name === "auto" && !isForProcessor && await mayHaveGpu()) {
    try {
      return await openWebGpu(options);
    } catch (error) {
      if (!(error instanceof BackendUnavailableError)) throw error;
      // The backend that is opened instead says what it is.
    }
  }
  const { openWasmBackend } = await import("./wasm/backend.ts");
  return await openWasmBackend(options);
}

async function openWebGpu(options: BackendOptions): Promise<Backend> {
  const { openWebGpuBackend } = await import("./webgpu/open.ts");
  return await openWebGpuBackend(options);
}

/** False where it is known that there is none: asking WebGPU takes long. */
async function mayHaveGpu(): Promise<boolean> {
  if (!("process" in globalThis)) return true;
  try {
    // Not at the top, because browsers have no such modules.
    return (await import("../system/gpu.ts")).mayHaveGpu();
  } catch {
    return true;
  }
}
