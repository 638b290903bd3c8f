/**
 * Whether looking for a GPU is worth the while.
 *
 * @module
 */

import { existsSync, readdirSync } from "node:fs";
import { platform } from "node:process";

/**
 * Whether the machine may have a GPU. On Linux each has a node in /dev; where there is none, asking WebGPU
 * would take half a second to find a program that acts as one.
 */
export function mayHaveGpu(): boolean {
  if (platform !== "linux" && (platform as string) !== "android") return true;
  if (existsSync("/dev/dxg")) return true; // Windows' subsystem for Linux
  try {
    if (existsSync("/dev/nvidiactl")) return true;
    return readdirSync("/dev/dri").some((name) => name.startsWith("renderD"));
  } catch {
    return false;
  }
}
