/**
 * The backends that tests run on.
 *
 * @module
 */

import type { Backend } from "../../src/backend/backend.ts";
import { openBackend } from "../../src/backend/open.ts";
import { openWasmBackend } from "../../src/backend/wasm/backend.ts";
import { WebGpuBackend } from "../../src/backend/webgpu/backend.ts";
import type { Device } from "../../src/backend/webgpu/device.ts";
import { openDevice } from "../../src/backend/webgpu/open.ts";
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

/** The device that WebGPU's tests share, a program that acts as one included; or why there is none. */
export const gpu: Device | string = await openDevice({ allowSoftware: true }).catch((error) =>
  String(error)
);

if (typeof gpu === "string") console.log(`!! the tests of webgpu were skipped: ${gpu}`);

function webGpu(device: Device): BackendUnderTest {
  return {
    label: "webgpu",
    open: () => Promise.resolve(new WebGpuBackend(device, 2 ** 32, false)),
  };
}

/** All that must agree with the oracle and can run here. */
export const machines: readonly BackendUnderTest[] = [
  wasm(false),
  ...hasRelaxedSimd() ? [wasm(true)] : [],
  { label: "wasm on 2 threads", open: () => openBackend("wasm", { threads: 2 }) },
  {
    // Enough of them that no cache lies where the tensors are.
    label: "wasm in many arenas",
    open: () => openWasmBackend({ threads: 2, memoryLimit: 2 ** 28 }, { arenaBytes: 2 ** 24 }),
  },
  ...typeof gpu === "string" ? [] : [webGpu(gpu)],
];

/** The oracle first. */
export const backends: readonly BackendUnderTest[] = [reference, ...machines];
