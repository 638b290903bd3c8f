/**
 * The backends that need no GPU.
 *
 * @module
 */

import type { Backend } from "../../src/backend/backend.ts";
import { openBackend } from "../../src/backend/open.ts";
import { openWasmBackend } from "../../src/backend/wasm/backend.ts";
import { compileKernels, hasRelaxedSimd } from "../../wasm/loader.ts";

/** A backend, and what to call it in a test's name. */
export interface BackendUnderTest {
  readonly label: string;
  open(): Promise<Backend>;
}

/** The oracle. */
export const reference: BackendUnderTest = {
  label: "reference",
  open: () => openBackend("reference"),
};

/** One build of the kernels on one thread. */
function wasm(relaxed: boolean): BackendUnderTest {
  return {
    label: relaxed ? "wasm with relaxed SIMD" : "wasm",
    open: async () =>
      openBackend("wasm", { threads: 1, module: await compileKernels({ relaxed, shared: false }) }),
  };
}

/** All builds of the kernels that can run here, on one thread and on several. */
export const processors: readonly BackendUnderTest[] = [
  wasm(false),
  ...hasRelaxedSimd() ? [wasm(true)] : [],
  { label: "wasm on 2 threads", open: () => openBackend("wasm", { threads: 2 }) },
  {
    // Enough of them that no cache lies where the tensors are.
    label: "wasm in many arenas",
    open: () => openWasmBackend({ threads: 2, memoryLimit: 2 ** 28 }, { arenaBytes: 2 ** 24 }),
  },
];
