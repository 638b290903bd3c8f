// Models of random weights: our own loader reads what the benchmarks write.

import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { loadModel } from "../mod.ts";
import { SHAPES } from "../bench/shapes.ts";
import { bytesOf, decode } from "../bench/support/quantize.ts";
import { type SyntheticModel, writeSyntheticModel } from "../bench/synthetic_model.ts";
import { readBytes } from "../src/files/byte_source.ts";
import { openModelFiles } from "../src/llama/model_files.ts";

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "reattention-test-"));
  try {
    await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const tiny = (
  folder: string,
  format: SyntheticModel["format"],
  container: SyntheticModel["container"],
  outputNorm = 1,
) => writeSyntheticModel({ shape: "tiny", format, container, folder, outputNorm });

for (
  const [format, container] of [
    ["f32", "safetensors"],
    ["f16", "safetensors"],
    ["bf16", "safetensors"],
    ["f32", "gguf"],
    ["f16", "gguf"],
  ] as const
) {
  test(`a model written as ${format} in ${container} loads and writes text`, () =>
    inFolder(async (folder) => {
      using model = await loadModel(await tiny(folder, format, container), { threads: 1 });
      for (const [key, value] of Object.entries(SHAPES.tiny)) {
        equal(model.config[key as keyof typeof SHAPES.tiny], value, key);
      }
      using session = model.session({ scope: { globalSize: Infinity }, select: "never" });
      await session.prefill(model.tokenizer.encode("a small text"));
      const logits = await session.logits();
      ok(logits.every(Number.isFinite));
      ok(logits.some((value) => value !== logits[0]));
    }));
}

test("with a last norm of zero the likeliest token is always the first, and no end comes", () =>
  inFolder(async (folder) => {
    using model = await loadModel(await tiny(folder, "f16", "gguf", 0), { threads: 1 });
    using session = model.session({ scope: { globalSize: Infinity }, select: "never" });
    await session.prefill([1, 2, 3]);
    let text = "";
    for await (const piece of session.continue({ maxTokens: 8, temperature: 0 })) text += piece;
    equal(text, "!!!!!!!!");
  }));

for (const format of ["q8_0", "q4_0"] as const) {
  test(`a model written as ${format} has blocks of random numbers in every matrix`, () =>
    inFolder(async (folder) => {
      const files = await openModelFiles(await tiny(folder, format, "gguf"));
      try {
        const matrices = [...files.tensors.tensors.values()].filter((t) => t.shape.length === 2);
        equal(matrices.length, 1 + 7 * SHAPES.tiny.numLayers);
        const seen = new Set<number>();
        for (const { dtype, shape: [rows, cols], source, byteOffset, byteLength } of matrices) {
          equal(dtype, format.toUpperCase());
          equal(byteLength, bytesOf(format, rows! * cols!));
          const bytes = await readBytes(source, byteOffset, byteOffset + byteLength);
          const values = decode(format, bytes);
          const size = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
          // Sums of `cols` products keep the size of what goes in, up to a factor of sqrt(2).
          ok(Math.abs(Math.log2(size * Math.sqrt(cols!))) < 0.6, `${size} for ${cols} columns`);
          seen.add(values[0]! * values[1]!);
        }
        ok(seen.size > matrices.length / 2, "matrices must differ");
      } finally {
        await files.close();
      }
    }));
}

test("a model is written once, and the same for the same seed", () =>
  inFolder(async (folder) => {
    const path = await tiny(folder, "f16", "gguf");
    const before = await readFile(path);
    equal(await tiny(folder, "f16", "gguf"), path);
    await rm(path);
    await tiny(folder, "f16", "gguf");
    deepEqual(await readFile(path), before);
    const model: SyntheticModel = { shape: "tiny", format: "f16", container: "gguf", folder };
    const other = await writeSyntheticModel({ ...model, seed: 2, outputNorm: 1 });
    equal(before.equals(await readFile(other)), false);
    equal(existsSync(`${path}.unfinished`), false);
  }));

test("safetensors cannot hold quantized blocks", () =>
  inFolder((folder) => rejects(tiny(folder, "q8_0", "safetensors"), /only GGUF has such blocks/)));
