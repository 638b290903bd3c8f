/**
 * The packages that the benchmarks compare with, where they are installed.
 *
 * @module
 */

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { notice } from "../support/notice.ts";

/** Where install_peers.ts puts them. */
const PLACE = new URL("../../.tools/peers/", import.meta.url);

/** Loads CommonJS packages from there. */
export const requirePeer: (name: string) => unknown = createRequire(new URL("package.json", PLACE));

/** The URL of a peer's file, or null, said aloud, where the peer is not installed. */
export function peerFile(name: string, file: string): URL | null {
  const folder = new URL(`node_modules/${name}/`, PLACE);
  if (existsSync(fileURLToPath(folder))) return new URL(file, folder);
  notice(`${name} is not installed, so nothing is compared with it: run bench/install_peers.ts`);
  return null;
}

/** The version of a peer that is installed. */
export function peerVersion(name: string): string {
  const folder = fileURLToPath(new URL(`node_modules/${name}/`, PLACE));
  return (requirePeer(`${folder}package.json`) as { version: string }).version;
}

/**
 * Starts a peer, and puts back what it replaced: Emscripten's code for Node sets `Worker` to that of
 * `node:worker_threads`, which workers of the library do not start in.
 */
export async function startPeer<T>(start: () => Promise<T>): Promise<T> {
  const before = Object.getOwnPropertyDescriptor(globalThis, "Worker");
  try {
    return await start();
  } finally {
    if (before) Object.defineProperty(globalThis, "Worker", before);
  }
}
