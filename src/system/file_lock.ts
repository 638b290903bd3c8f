/**
 * One process at a time, by a file that is there while somebody works. No runtime but the system
 * knows locks that go with their process, so the file says whose it is and is touched now and then.
 *
 * @module
 */

import { open, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { hostname } from "node:os";
import process from "node:process";
import { hasEnded } from "./process_life.ts";
import { explain } from "./system.ts";

/** Milliseconds between two touches. */
const HEARTBEAT = 3_000;
/** Milliseconds without a touch after which its owner counts as gone. */
const STALE = 30_000;
/** Milliseconds between two looks at a lock that is held. */
const POLL = 200;

/** A lock that is held. */
export interface FileLock extends AsyncDisposable {
  /**
   * @throws {Error} If it was taken away: this process stood still so long that it counted as gone.
   */
  check(): Promise<void>;
}

let taken = 0;

/**
 * Waits until the lock is free, or its owner is gone, and takes it.
 *
 * @param options `onWait` is called once if there is anything to wait for; `until` ends the waiting
 * when what the lock is for is done: then null is returned.
 * @throws {Error} If no lock can be written there.
 */
export async function takeLock(
  path: string,
  options: {
    readonly signal?: AbortSignal;
    readonly onWait?: () => void;
    readonly until?: () => Promise<boolean>;
  } = {},
): Promise<FileLock | null> {
  const { signal, onWait, until } = options;
  const owner = JSON.stringify({ host: host(), pid: process.pid, count: taken++ });
  for (let waits = 0;; waits++) {
    signal?.throwIfAborted();
    if (await create(path, owner)) return hold(path, owner);
    if (await until?.()) return null;
    if (await isAbandoned(path)) {
      // Only one process can rename it away; whoever comes too late finds a new one, and waits.
      const away = `${path}.${process.pid}-${taken++}`;
      const wasAbandoned = await rename(path, away).then(() => isAbandoned(away), () => false);
      if (!wasAbandoned) await rename(away, path).catch(() => {});
      await rm(away, { force: true });
      continue;
    }
    if (waits === 0) onWait?.();
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
}

async function create(path: string, owner: string): Promise<boolean> {
  try {
    const handle = await open(path, "wx");
    try {
      await handle.writeFile(owner);
    } finally {
      await handle.close();
    }
    return true;
  } catch (cause) {
    if ((cause as { code?: string }).code === "EEXIST") return false;
    throw explain(cause, path, "write");
  }
}

function hold(path: string, owner: string): FileLock {
  const heart = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => {});
  }, HEARTBEAT);
  const isOurs = async () => await readFile(path, "utf8").catch(() => "") === owner;
  return {
    async check(): Promise<void> {
      if (await isOurs()) return;
      throw new Error(`Cannot go on: "${path}" must be held, but another process has taken it`);
    },
    async [Symbol.asyncDispose](): Promise<void> {
      clearInterval(heart);
      if (await isOurs()) await rm(path, { force: true });
    },
  };
}

/** Whether nobody touches it any more, or its owner is known to have ended. */
async function isAbandoned(path: string): Promise<boolean> {
  const info = await stat(path).catch(() => null);
  if (info === null) return false;
  if (Date.now() - info.mtimeMs > STALE) return true;
  let owner: { host?: unknown; pid?: unknown };
  try {
    owner = JSON.parse(await readFile(path, "utf8"));
  } catch {
    return false; // being written
  }
  // Where that may not be asked, time tells.
  return owner.host === host() && Number.isInteger(owner.pid) && hasEnded(owner.pid as number);
}

/** Empty where it may not be asked. */
function host(): string {
  try {
    return hostname();
  } catch {
    return "";
  }
}
