// What the benchmarks write into model files, against files that llama.cpp wrote.

import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { fromHalf, toHalf } from "../bench/support/half.ts";
import { normals } from "../bench/support/numbers.ts";
import { BLOCKS, decode, encode, type Format } from "../bench/support/quantize.ts";
import { readBytes } from "../src/files/byte_source.ts";
import { readGguf } from "../src/files/gguf.ts";
import type { TensorTable } from "../src/files/tensor_table.ts";
import { openFile } from "../src/system/file_source.ts";
import { missing, readJson, sharedUrl } from "./support/shared.ts";

const MODEL = "models/stories260K/stories260K";

async function withTable<T>(path: string, use: (table: TensorTable) => Promise<T>): Promise<T> {
  const file = await openFile(fileURLToPath(sharedUrl(path)));
  try {
    return await use(await readGguf(file));
  } finally {
    await file.close?.();
  }
}

for (const format of ["f16", "q8_0", "q4_0"] as const) {
  const paths = [`${MODEL}.gguf`, `${MODEL}-${format}.gguf`] as const;
  test(`encode gives the bytes that llama.cpp's quantizer gives in ${format}`, {
    skip: missing(...paths),
  }, async () => {
    await withTable(paths[0], (plain) =>
      withTable(paths[1], async (packed) => {
        let compared = 0;
        for (const { name, dtype, source, byteOffset, byteLength } of packed.tensors.values()) {
          if (dtype !== format.toUpperCase()) continue;
          const from = plain.tensors.get(name)!;
          const end = from.byteOffset + from.byteLength;
          const values = decode("f32", await readBytes(from.source, from.byteOffset, end));
          const expected = await readBytes(source, byteOffset, byteOffset + byteLength);
          ok(encode(format, values).every((byte, i) => byte === expected[i]), name);
          compared++;
        }
        ok(compared >= 32);
      }));
  });
}

test("decode gives the numbers of the golden vectors", {
  skip: missing("golden/dequant_vectors.json"),
}, () => {
  const golden = readJson<Record<string, { bytes_hex: string; values: number[] }>>(
    "golden/dequant_vectors.json",
  );
  for (
    const name of [
      "Q4_0",
      "Q4_1",
      "Q5_0",
      "Q5_1",
      "Q8_0",
      "Q4_K",
      "Q5_K",
      "Q6_K",
      "BF16",
    ]
  ) {
    const { bytes_hex: hex, values } = golden[name]!;
    const bytes = Uint8Array.from(
      { length: hex.length / 2 },
      (_, i) => parseInt(hex.slice(2 * i, 2 * i + 2), 16),
    );
    const found = decode(name.toLowerCase() as Format, bytes);
    equal(found.length, values.length);
    // They have nine digits, which name an f32.
    deepEqual(found, Float32Array.from(values), name);
  }
});

test("every f16 but NaN comes back from its number", () => {
  for (let bits = 0; bits < 0x10000; bits++) {
    const value = fromHalf(bits);
    if (!Number.isNaN(value)) equal(toHalf(value), bits);
  }
});

test("toHalf goes to the nearest f16, to the even one from half-way", () => {
  for (let bits = 0; bits < 0x7c00; bits++) {
    const [low, high] = [fromHalf(bits), bits + 1 === 0x7c00 ? 65536 : fromHalf(bits + 1)];
    const middle = (low + high) / 2;
    equal(toHalf(middle), bits % 2 === 0 ? bits : bits + 1);
    equal(toHalf(low + (high - low) * 0.49), bits);
    equal(toHalf(-low - (high - low) * 0.51), 0x8000 | bits + 1);
  }
  equal(toHalf(1e9), 0x7c00);
});

test("encode refuses numbers that do not fill blocks", () => {
  throws(() => encode("q8_0", new Float32Array(33)), /multiple of 32, got 33/);
});

const QUANTIZED = (Object.keys(BLOCKS) as Format[]).filter((each) => BLOCKS[each].numbers > 1);

test("a block of zeros stays one", () => {
  for (const format of QUANTIZED) {
    const zeros = new Float32Array(BLOCKS[format].numbers);
    ok(decode(format, encode(format, zeros)).every((value) => value === 0), format);
  }
});

test("blocks are as near to numbers as their bits allow", () => {
  // In 32 normal numbers the largest is about 2.1 deviations, in 16 about 1.8: the largest range
  // there is, in so many steps, each off by a twelfth of its square; scales of six bits add a little.
  const most = { q8_0: 0.006, q6_k: 0.022, q5: 0.055, q4: 0.11 };
  const values = normals(256 * 64, 3);
  const squares = values.reduce((sum, x) => sum + x * x, 0);
  for (const format of QUANTIZED) {
    const found = decode(format, encode(format, values));
    const errors = found.reduce((sum, x, i) => sum + (x - values[i]!) ** 2, 0);
    const limit = format === "q8_0" || format === "q6_k"
      ? most[format]
      : most[format.startsWith("q5") ? "q5" : "q4"];
    ok(Math.sqrt(errors / squares) < limit, `${format}: ${Math.sqrt(errors / squares)}`);
  }
});
