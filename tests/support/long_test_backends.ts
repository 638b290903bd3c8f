/**
 * The backends that tests run on which take long on a program that acts as a GPU, or compile many kernels for it:
 * webgpu in Deno alone. In Bun, where the library's calls go to another implementation of WebGPU, it has the
 * operator's conformance and golden vectors, and whole sessions.
 *
 * @module
 */

import { type BackendUnderTest, processors, reference } from "./processors.ts";

const isBun = "Bun" in globalThis;

if (isBun) console.log("!! the long tests of webgpu are left to Deno");

/** All that must agree with the oracle. */
export const machines: readonly BackendUnderTest[] = isBun
  ? processors
  : (await import("./backends.ts")).machines;

/** The oracle first. */
export const backends: readonly BackendUnderTest[] = [reference, ...machines];
