/**
 * How much memory this machine has for the process.
 *
 * @module
 */

import { readFileSync } from "node:fs";
import process from "node:process";
import { getHeapStatistics } from "node:v8";

/** What a backend takes of it, at most: the rest is for the runtime, for files being read, for others. */
const SHARE = 3 / 4;

/** Where Linux shows control groups. */
const GROUPS = "/sys/fs/cgroup";

/** The contents of a file; null if there is none, or none that may be read. */
type Reader = (path: string) => string | null;

/** What a backend may hold here, in bytes: three quarters of what is available; null where that is unknown. */
export function memoryLimit(): number | null {
  const available = availableMemoryBytes();
  return available === null ? null : Math.floor(available * SHARE);
}

/**
 * What the process may still take, in bytes, without the system swapping or ending it: what Linux counts as
 * available, and no more than is left to its control groups (v1 and v2), as in containers. Null where the system
 * does not tell: elsewhere, or without the permission to read /proc.
 */
export function availableMemoryBytes(read: Reader = readText): number | null {
  const kibibytes = /^MemAvailable:\s*(\d+) kB$/m.exec(read("/proc/meminfo") ?? "")?.[1];
  if (kibibytes === undefined) return null;
  return Math.max(0, Math.min(Number(kibibytes) * 1024, ...roomsOfGroups(read)));
}

/**
 * What WebAssembly can hold before the engine collects garbage without a pause, in bytes; null where it never
 * does. V8 counts shared memory as garbage to be (15.0 does, in Node 20 it did not), bounds all that it counts by
 * twice its heap's limit, and marks again and again beyond it: a quarter of two cores, measured at 8 GiB.
 */
export function calmMemoryBytes(): number | null {
  return "deno" in process.versions ? 2 * getHeapStatistics().heap_size_limit : null;
}

/** What is left to each of the groups that the process is in. */
function roomsOfGroups(read: Reader): number[] {
  const rooms: number[] = [];
  for (const line of (read("/proc/self/cgroup") ?? "").split("\n")) {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    const isSecond = controllers === "";
    if (!isSecond && !controllers.split(",").includes("memory")) continue;
    // A group is bounded by those around it, too; within a container only the outermost may be visible.
    for (let group = path;; group = group.slice(0, group.lastIndexOf("/"))) {
      const folder = `${GROUPS}${isSecond ? "" : "/memory"}${group === "/" ? "" : group}`;
      rooms.push(isSecond ? roomOfSecond(read, folder) : roomOfFirst(read, folder));
      if (group === "" || group === "/") break;
    }
  }
  return rooms.filter((room) => !Number.isNaN(room));
}

/** Of a group of version 2; NaN without a limit, or where it is not visible. */
function roomOfSecond(read: Reader, folder: string): number {
  return numberIn(read, `${folder}/memory.max`) - numberIn(read, `${folder}/memory.current`) +
    reclaimable(read, folder, "inactive_file");
}

function roomOfFirst(read: Reader, folder: string): number {
  return numberIn(read, `${folder}/memory.limit_in_bytes`) -
    numberIn(read, `${folder}/memory.usage_in_bytes`) +
    reclaimable(read, folder, "total_inactive_file");
}

function numberIn(read: Reader, path: string): number {
  const text = read(path)?.trim();
  return text === undefined || !/^\d+$/.test(text) ? NaN : Number(text);
}

/** Pages of files, which count but go when memory is wanted. */
function reclaimable(read: Reader, folder: string, name: string): number {
  const text = read(`${folder}/memory.stat`) ?? "";
  return Number(new RegExp(`^${name} (\\d+)$`, "m").exec(text)?.[1] ?? 0);
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return null;
  }
}
