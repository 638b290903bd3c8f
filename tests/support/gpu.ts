/**
 * The device that WebGPU's tests share.
 *
 * @module
 */

import type { Device } from "../../src/backend/webgpu/device.ts";
import { openDevice } from "../../src/backend/webgpu/open.ts";

/** A device, a program that acts as one included; or why there is none. */
export const gpu: Device | string = await openDevice({ allowSoftware: true }).catch((error) =>
  String(error)
);

if (typeof gpu === "string") console.log(`!! the tests of webgpu were skipped: ${gpu}`);
// So that the driver's threads are idle when Deno ends the process: Mesa has been seen to fail then.
else globalThis.addEventListener("unload", () => gpu.destroy());
