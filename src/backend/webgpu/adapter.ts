/**
 * Where a GPU comes from: the host's own WebGPU, or npm `webgpu` where there is none; and what it is.
 *
 * @module
 */

import type { Gpu, GpuAdapter } from "./gpu.ts";

/** A GPU that was found, or a program that acts as one. */
export interface FoundAdapter {
  readonly adapter: GpuAdapter;
  /** For people: what it says of itself. */
  readonly label: string;
  /** Whether a processor computes, as all do who have no GPU: the wasm backend does that faster. */
  readonly isSoftware: boolean;
  /** Whose WebGPU it is. */
  readonly host: "navigator.gpu" | "npm webgpu";
}

/** What adapters say of themselves that are programs, or nothing at all. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|software|\bwarp\b|basic render|null.?backend/i;

/** Where the object of npm `webgpu` stays: when it is collected, the process crashes. */
const KEPT = Symbol.for("reattention.webgpu");

/**
 * Looks for a GPU.
 *
 * @returns Why there is none, or what was found.
 */
export async function findAdapter(): Promise<FoundAdapter | { readonly why: string }> {
  const own = (globalThis as { navigator?: { gpu?: Gpu } }).navigator?.gpu;
  const host = own ? "navigator.gpu" : "npm webgpu";
  const gpu = own ?? await openDawn();
  if ("why" in gpu) return gpu;
  let adapter: GpuAdapter | null;
  try {
    adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  } catch (error) {
    return { why: `${host} gave an error: ${messageOf(error)}` };
  }
  if (adapter === null) return { why: `${host} found no adapter: no GPU, or no driver for it` };
  const { info = {} } = adapter;
  const parts = [info.description, info.vendor, info.architecture, info.device]
    .filter((part) => part && !/^\d+$/.test(part));
  const label = [...new Set(parts)].join(" ") || "a GPU that does not say what it is";
  const isSoftware = SOFTWARE.test(label) || Boolean(info.isFallbackAdapter) ||
    Boolean(adapter.isFallbackAdapter);
  return { adapter, label, isSoftware, host };
}

/** Dawn, by npm `webgpu`, for hosts that have no WebGPU of their own. */
async function openDawn(): Promise<Gpu | { readonly why: string }> {
  const kept = globalThis as { [KEPT]?: Gpu };
  if (kept[KEPT]) return kept[KEPT];
  // Optional, and not to be seen by bundlers.
  const name = "webgpu";
  let module: { create(options: readonly string[]): Gpu };
  try {
    module = await import(name);
  } catch {
    return { why: "this host has no WebGPU of its own, and npm webgpu is not installed" };
  }
  try {
    return kept[KEPT] = module.create([]);
  } catch (error) {
    return { why: `npm webgpu gave an error: ${messageOf(error)}` };
  }
}

/** What went wrong, of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
