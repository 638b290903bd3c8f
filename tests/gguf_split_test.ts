// GGUF in several files.

import { deepEqual, equal, rejects } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { writeSyntheticModel } from "../bench/synthetic_model.ts";
import { type ByteSource, fromBytes, readBytes } from "../src/files/byte_source.ts";
import { parseGgufSplit } from "../src/files/gguf_split.ts";
import { type ModelFiles, openModelFiles } from "../src/llama/model_files.ts";

/** A tiny model in three files, and the same in one. */
async function withModels(use: (split: string, whole: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "reattention-test-"));
  try {
    const tiny = { shape: "tiny", format: "q8_0", container: "gguf", folder } as const;
    await use(await writeSyntheticModel({ ...tiny, splits: 3 }), await writeSyntheticModel(tiny));
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function contentOf({ tensors: { tensors } }: ModelFiles): Promise<Map<string, Uint8Array>> {
  const content = new Map<string, Uint8Array>();
  for (const { name, source, byteOffset, byteLength } of tensors.values()) {
    content.set(name, await readBytes(source, byteOffset, byteOffset + byteLength));
  }
  return content;
}

async function sourcesIn(folder: string): Promise<Record<string, ByteSource>> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".gguf"));
  return Object.fromEntries(
    names.map((name) => [name, fromBytes(new Uint8Array(readFileSync(join(folder, name))), name)]),
  );
}

test("a split GGUF is the same model as in one file, whichever of its files is named", () =>
  withModels(async (split, whole) => {
    const one = await openModelFiles(whole);
    const expected = await contentOf(one);
    for (const number of [1, 2, 3]) {
      const files = await openModelFiles(split.replace("00001-of", `0000${number}-of`));
      deepEqual(await contentOf(files), expected);
      deepEqual(files.config, one.config);
      await files.close();
    }
    await one.close();
    const dropped = await openModelFiles(await sourcesIn(dirname(split)));
    deepEqual(await contentOf(dropped), expected);
    await dropped.close();
  }));

test("a split GGUF without one of its files, or with one of another model, is refused", () =>
  withModels(async (split, whole) => {
    const sources = await sourcesIn(dirname(split));
    const [first, second, third] = Object.keys(sources).sort() as [string, string, string];
    const refuses = (files: Record<string, ByteSource>, message: RegExp) =>
      rejects(() => openModelFiles(files), message);
    await refuses({ [first]: sources[first]!, [second]: sources[second]! }, /00003-of-00003.gguf/);
    await refuses({ ...sources, [third]: sources[second]! }, /"split.no" must be 2, got 1/);
    const other = fromBytes(new Uint8Array(readFileSync(whole)), third);
    await refuses({ ...sources, [third]: other }, /"split.no" must be 2, got nothing/);
    await refuses({ "model.gguf": sources[first]! }, /must end in -00001-of-0000N.gguf/);
    const renamed = first.replace("of-00003", "of-00002");
    await refuses({ [renamed]: sources[first]! }, /must be the 2 of the file's name.*got 3/);
  }));

test("the names of split files", () => {
  const split = parseGgufSplit("a-b-00002-of-00012.gguf")!;
  deepEqual([split.number, split.count, split.nameOf(11)], [2, 12, "a-b-00011-of-00012.gguf"]);
  for (const name of ["a.gguf", "a-1-of-2.gguf", "a-00001-of-00002.safetensors"]) {
    equal(parseGgufSplit(name), null);
  }
});
