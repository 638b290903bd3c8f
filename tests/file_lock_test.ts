// One process at a time, by a file.

import { equal, ok, rejects } from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { takeLock } from "../src/system/file_lock.ts";

async function withFolder(use: (path: string, folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "reattention-lock-"));
  try {
    await use(join(folder, "some.lock"), folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const owner = (pid: number, host = hostname()) => JSON.stringify({ host, pid, count: 0 });

test("a lock is there while it is held, and the next waits for it", async () => {
  await withFolder(async (path, folder) => {
    const events: string[] = [];
    const first = (await takeLock(path))!;
    await first.check();
    const waits = Promise.withResolvers<void>();
    const second = takeLock(path, { onWait: waits.resolve }).then((lock) => {
      events.push("takes");
      return lock!;
    });
    await waits.promise;
    events.push("gives");
    await first[Symbol.asyncDispose]();
    await (await second)[Symbol.asyncDispose]();
    equal(events.join(), "gives,takes");
    equal(readdirSync(folder).length, 0);
  });
});

test("a lock is not waited for when what it is for is done, or a signal says so", async () => {
  await withFolder(async (path) => {
    await using _held = await takeLock(path);
    let looks = 0;
    equal(await takeLock(path, { until: () => Promise.resolve(++looks > 1) }), null);
    await rejects(() => takeLock(path, { signal: AbortSignal.timeout(100) }), {
      name: "TimeoutError",
    });
    ok(existsSync(path));
  });
});

test("a lock of a process that has ended, or that was not touched for long, is taken", async () => {
  for (
    const [content, age] of [[owner(2 ** 22 + 1), 0], [owner(1, "elsewhere"), 31], [
      "",
      31,
    ]] as const
  ) {
    await withFolder(async (path, folder) => {
      writeFileSync(path, content);
      const touched = new Date(Date.now() - 1000 * age);
      utimesSync(path, touched, touched);
      const lock = (await takeLock(path, { signal: AbortSignal.timeout(5000) }))!;
      await lock.check();
      equal(readdirSync(folder).length, 1);
      await lock[Symbol.asyncDispose]();
    });
  }
});

test("a lock of a process that runs, or of another machine, is not taken", async () => {
  for (const content of [owner(process.pid), owner(2 ** 22 + 1, "elsewhere"), ""]) {
    await withFolder(async (path) => {
      writeFileSync(path, content);
      await rejects(() => takeLock(path, { signal: AbortSignal.timeout(300) }), {
        name: "TimeoutError",
      });
      ok(existsSync(path));
    });
  }
});

test("who has lost a lock hears of it, and leaves it to the other", async () => {
  await withFolder(async (path) => {
    const lock = (await takeLock(path))!;
    writeFileSync(path, owner(1));
    await rejects(() => lock.check(), /must be held, but another process has taken it/);
    await lock[Symbol.asyncDispose]();
    ok(existsSync(path));
  });
});
