import { equal, rejects } from "node:assert/strict";
import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fromBlob, fromBytes } from "../src/files/byte_source.ts";
import { kindOf, openFile } from "../src/system/file_source.ts";
import { BYTES, checkSource } from "./support/byte_sources.ts";

/** A temporary folder with a file of `bytes`, removed afterwards. */
async function withFile(bytes: Uint8Array, use: (path: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "reattention-"));
  try {
    const path = join(folder, "some.bytes");
    await writeFile(path, bytes);
    await use(path);
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("fromBytes reads an array by position, also into shared memory", async () => {
  await checkSource(fromBytes(BYTES, "an array"));
  // A view of a larger buffer must not show its neighbours.
  await checkSource(fromBytes(new Uint8Array([9, ...BYTES, 9]).subarray(1, 1001), "a view"));
});

test("fromBlob reads a blob by position, also into shared memory", async () => {
  await checkSource(fromBlob(new Blob([BYTES]), "a blob"));
});

test("openFile reads a file by position, also into shared memory", async () => {
  await withFile(BYTES, async (path) => {
    const source = await openFile(path);
    equal(source.name, path);
    await checkSource(source);
    await source.close!();
  });
});

test("openFile says which path is missing, or is a directory", async () => {
  await withFile(BYTES, async (path) => {
    await rejects(
      () => openFile(path + ".no"),
      /Cannot open ".*some\.bytes\.no": there is no such/,
    );
    await rejects(() => openFile(join(path, "x")), /there is no such file/);
    await rejects(
      () => openFile(join(path, "..")),
      /must be a regular file, but it is a directory/,
    );
    equal(await kindOf(path), "file");
    equal(await kindOf(join(path, "..")), "directory");
    equal(await kindOf(path + ".no"), "missing");
  });
});

test("openFile notices that a file became shorter", async () => {
  await withFile(BYTES, async (path) => {
    const source = await openFile(path);
    await truncate(path, 100);
    await rejects(
      () => source.read(new Uint8Array(50), 80),
      /had 1000 bytes when it was opened, but ends at byte 100 now/,
    );
    await source.close!();
  });
});
