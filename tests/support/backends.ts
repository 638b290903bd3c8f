/**
 * The backends that tests run on.
 *
 * @module
 */

import { WebGpuBackend } from "../../src/backend/webgpu/backend.ts";
import type { Device } from "../../src/backend/webgpu/device.ts";
import { gpu } from "./gpu.ts";
import { type BackendUnderTest, processors, reference } from "./processors.ts";

function webGpu(device: Device): BackendUnderTest {
  return {
    label: "webgpu",
    open: () => Promise.resolve(new WebGpuBackend(device, 2 ** 32, false)),
  };
}

/** All that must agree with the oracle and can run here. */
export const machines: readonly BackendUnderTest[] = [
  ...processors,
  ...typeof gpu === "string" ? [] : [webGpu(gpu)],
];

/** The oracle first. */
export const backends: readonly BackendUnderTest[] = [reference, ...machines];
