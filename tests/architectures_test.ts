/**
 * Every architecture against a plain decoder in float64 that shares no code with the library, and
 * its GGUF against its safetensors. (tests/llama_cpp_architectures_test.ts: against llama.cpp.)
 */
import { deepEqual, ok } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Format } from "../bench/support/quantize.ts";
import { type NamedShape, writeSyntheticModel } from "../bench/synthetic_model.ts";
import { fromBytes } from "../src/files/byte_source.ts";
import { openModelFiles } from "../src/llama/model_files.ts";
import { slidingWindow } from "../src/reattention/presets.ts";
import { fitScope } from "../src/reattention/scope.ts";
import { concatBytes, joinParts, numberBytes, partsOfGguf } from "./support/fuzz/parts.ts";
import { divergence, logitsOf } from "./support/logits.ts";
import { plainLogits } from "./support/plain_decoder.ts";
import { integers } from "./support/random.ts";
import { SMALL_MODELS } from "./support/small_models.ts";

/** More than the lengths that scalings begin from. */
const tokens = Array.from(integers(1, 160, 150), (x) => 150 + x);

/** Writes a model for as long as `use` takes. */
async function withModel(
  shape: NamedShape,
  use: (write: (format: Format, container: "gguf" | "safetensors") => Promise<string>) => Promise<
    void
  >,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "reattention-test-"));
  try {
    await use((format, container) =>
      writeSyntheticModel({ shape, format, container, folder, outputNorm: 1 })
    );
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Fails where a logit is further off than f32 makes it: they are of the size of 1. */
function assertNear(actual: readonly Float32Array[], expected: readonly Float64Array[]): void {
  for (const [t, logits] of actual.entries()) {
    for (const [i, logit] of logits.entries()) {
      const difference = Math.abs(logit - expected[t]![i]!);
      ok(difference < 2e-5, `logit ${i} of token ${t} is off by ${difference}`);
    }
  }
}

const { name: _, ...internLm } = SMALL_MODELS.find(({ architecture }) =>
  architecture === "internlm2"
)!;
const models: readonly NamedShape[] = [
  ...SMALL_MODELS,
  { ...internLm, name: "InternLM2 with biases", attentionBias: true },
];

for (const shape of models) {
  test(`${shape.name}: logits are those of a plain decoder in float64`, () =>
    withModel(shape, async (write) => {
      const folder = await write("f32", "safetensors");
      assertNear(
        await logitsOf(folder, tokens, tokens.length),
        await plainLogits(folder, tokens),
      );
    }));

  test(`${shape.name}: in steps, with everything selected, it is full attention`, () =>
    withModel(shape, async (write) => {
      // Dynamic NTK would bend each step beyond the trained length by its own length.
      const text = tokens.slice(0, 120);
      const folder = await write("f32", "safetensors");
      const everything = { ...fitScope(64), topK: 120, maxSpans: Infinity };
      const [full, selected] = [
        await logitsOf(folder, text, text.length),
        await logitsOf(folder, text, text.length, { scope: everything, stepSize: 7 }),
      ];
      assertNear(selected, full.map((row) => Float64Array.from(row)));
    }));

  test(`${shape.name}: GGUF and safetensors are the same model to the last bit`, () =>
    withModel(shape, async (write) => {
      // GGUF has no word for dynamic NTK, which is in force only beyond the trained length.
      const text = shape.ropeScaling?.type === "dynamic"
        ? tokens.slice(0, shape.trainedLength)
        : tokens;
      // Half precision, so that both hold the same numbers; llama3's factors round by themselves.
      const [hf, gguf] = [
        await logitsOf(await write("f16", "safetensors"), text, 10),
        await logitsOf(await write("f16", "gguf"), text, 10),
      ];
      if (shape.ropeScaling?.type !== "llama3") return deepEqual(gguf, hf);
      assertNear(gguf, hf.map((row) => Float64Array.from(row)));
    }));
}

for (const shape of models.filter(({ ropeScaling }) => ropeScaling !== undefined)) {
  test(`${shape.name}: without its scaling it would be another model`, () =>
    withModel(shape, async (write) => {
      const scaled = await logitsOf(await write("f32", "safetensors"), tokens, 1);
      const { ropeScaling: _, ...unscaled } = shape;
      await withModel({ ...unscaled, name: "unscaled" }, async (write) => {
        const plain = await logitsOf(await write("f32", "safetensors"), tokens, 1);
        ok(divergence(scaled[0]!, plain[0]!) > 1e-3);
      });
    }));
}

test("a Mistral whose window slides is read as it was trained, a token at a time", () => {
  const mistral = SMALL_MODELS.find(({ architecture }) => architecture === "mistral")!;
  return withModel({ ...mistral, name: "window", slidingWindow: 48 }, async (write) => {
    const folder = await write("f32", "safetensors");
    const actual = await logitsOf(folder, tokens, tokens.length, {
      scope: slidingWindow(48),
      stepSize: 1,
    });
    assertNear(actual, await plainLogits(folder, tokens));
  });
});

test("a Mistral's GGUF is the same model, whether it calls itself llama or mistral", () => {
  const mistral = SMALL_MODELS.find(({ architecture }) => architecture === "mistral")!;
  return withModel({ ...mistral, name: "window", slidingWindow: 48 }, async (write) => {
    const bytes = new Uint8Array(readFileSync(await write("f16", "gguf")));
    // llama.cpp's converter writes the one, and llama.cpp knows no other.
    const parts = partsOfGguf(bytes);
    const dataStart = Math.ceil(joinParts(parts).length / 32) * 32;
    for (const [i, part] of parts.entries()) {
      const text = part.kind === "text" ? new TextDecoder().decode(part.bytes) : "";
      if (!/^llama(\.|$)/.test(text)) continue;
      const renamed = new TextEncoder().encode(text.replace("llama", "mistral"));
      parts[i - 1] = { ...parts[i - 1]!, bytes: numberBytes(BigInt(renamed.length), 8) };
      parts[i] = { ...part, bytes: renamed };
    }
    const header = joinParts(parts);
    const padding = new Uint8Array(-header.length & 31);
    const other = concatBytes(header, padding, bytes.subarray(dataStart));
    const files = [bytes, other].map((file) => ({ "model.gguf": fromBytes(file, "model.gguf") }));
    const [one, two] = await Promise.all(files.map((file) => openModelFiles(file)));
    deepEqual([one!.config.architecture, two!.config.architecture], ["llama", "mistral"]);
    deepEqual([one!.config.slidingWindow, two!.config.slidingWindow], [48, 48]);
    deepEqual(await logitsOf(files[1]!, tokens, 10), await logitsOf(files[0]!, tokens, 10));
  });
});
