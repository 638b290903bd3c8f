/**
 * Whether another process is still there.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import process from "node:process";

/** Whether a process of this system has ended; false, too, where that may not be asked. */
export function hasEnded(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch (cause) {
    return (cause as { code?: string }).code === "ESRCH";
  }
}

/**
 * A mark of the processes whose ids mean here what they mean to them: those since the same start of the same
 * system and, of containers, in the same namespace.
 *
 * @returns Eight hexadecimal digits; null where nobody tells: other systems than Linux, or without permission.
 */
export function processSpace(): string | null {
  try {
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8");
    const namespace = readlinkSync("/proc/self/ns/pid");
    return createHash("sha256").update(boot + namespace).digest("hex").slice(0, 8);
  } catch {
    return null;
  }
}
