// Weights of four to six bits with minima, superblocks or upper bits apart: what they stand for, and
// products with them, to the last bit, on every build, engine, way of multiplying and number of threads.

import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import type { WeightFormat } from "../src/backend/backend.ts";
import { backends } from "./support/long_test_backends.ts";
import { reference } from "./support/processors.ts";
import { weightSource } from "./support/handles.ts";
import { assertNear, outputOf } from "./support/outputs.ts";
import { canShare, multiply, quantize, taken, valueOfF16, ways } from "./support/quantised.ts";
import { mulberry32, uniform } from "./support/random.ts";
import { missing, readJson } from "./support/shared.ts";

type Format = Extract<WeightFormat, "q4_k" | "q5_k" | "q6_k" | "q4_1" | "q5_0" | "q5_1">;

/** Numbers of a block, its bytes, its numbers' bits, and what a block takes in memory. */
const FORMATS: Readonly<Record<Format, readonly [number, number, number, number]>> = {
  q4_k: [256, 144, 4, 148],
  q5_k: [256, 176, 5, 180],
  q6_k: [256, 210, 6, 210],
  q4_1: [32, 20, 4, 24],
  q5_0: [32, 22, 5, 24],
  q5_1: [32, 24, 5, 24],
};
const NAMES = Object.keys(FORMATS) as Format[];

/** A weight's bytes, and what is in them: a number stands for scale * number - minimum. */
interface Blocks {
  readonly bytes: Uint8Array;
  /** Unsigned. */
  readonly numbers: Uint8Array; // [rows, cols]
  readonly scales: Float32Array; // [rows, cols / 16]
  readonly minima: Float32Array; // [rows, cols / 32]
}

/** What is asked for a block's numbers, its f16 and its small scales. */
interface Draw {
  number(i: number): number;
  half(): number;
  small(): number;
}

/** Blocks from their definitions in ggml: the numbers are put where its dequantisation takes them from. */
function makeBlocks(format: Format, rows: number, cols: number, draw: Draw): Blocks {
  const [perBlock, size, bits] = FORMATS[format];
  const count = rows * cols / perBlock;
  const bytes = new Uint8Array(count * size);
  const view = new DataView(bytes.buffer);
  const numbers = Uint8Array.from({ length: rows * cols }, (_, i) => draw.number(i));
  const scales = new Float32Array(rows * cols / 16);
  const minima = new Float32Array(rows * cols / 32);
  for (let n = 0; n < count; n++) {
    const at = n * size;
    const [d, m] = [draw.half(), draw.half()];
    const parts = perBlock / 32;
    for (let b = 0; b < parts; b++) {
      const part = n * parts + b;
      const [scale, minimum] = [draw.small(), draw.small()];
      if (format === "q4_k" || format === "q5_k") {
        view.setUint16(at, d, true);
        view.setUint16(at + 2, m, true);
        const low = at + 4;
        if (b < 4) {
          bytes[low + b]! |= scale;
          bytes[low + 4 + b]! |= minimum;
        } else {
          bytes[low + 4 + b]! |= scale & 15 | (minimum & 15) << 4;
          bytes[low + b - 4]! |= scale >> 4 << 6;
          bytes[low + b]! |= minimum >> 4 << 6;
        }
        scales.fill(valueOfF16(d) * scale, 2 * part, 2 * part + 2);
        minima[part] = valueOfF16(m) * minimum;
      } else if (format === "q6_k") {
        view.setUint16(at + 208, d, true);
        for (const [half, byte] of [scale * 4 - 128, minimum * 4 - 125].entries()) {
          view.setInt8(at + 192 + 2 * b + half, byte);
          scales[2 * part + half] = valueOfF16(d) * byte;
        }
      } else {
        view.setUint16(at, d, true);
        if (format !== "q5_0") view.setUint16(at + 2, m, true);
        scales.fill(valueOfF16(d), 2 * part, 2 * part + 2);
        minima[part] = format === "q5_0" ? 16 * valueOfF16(d) : -valueOfF16(m);
      }
      for (let i = 0; i < 32; i++) {
        const number = numbers[32 * part + i]!;
        ok(number < 1 << bits);
        const low = number & 15;
        if (format === "q6_k") {
          const [side, k] = [b >> 2, b & 3];
          bytes[at + 64 * side + 32 * (k & 1) + i]! |= low << (k < 2 ? 0 : 4);
          bytes[at + 128 + 32 * side + i]! |= number >> 4 << 2 * k;
        } else if (perBlock === 256) {
          const lowAt = format === "q4_k" ? 16 : 48;
          bytes[at + lowAt + 32 * (b >> 1) + i]! |= low << 4 * (b & 1);
          if (bits === 5) bytes[at + 16 + i]! |= number >> 4 << b;
        } else {
          bytes[at + size - 16 + i % 16]! |= low << (i < 16 ? 0 : 4);
          if (bits === 5) bytes[at + size - 20 + (i >> 3)]! |= number >> 4 << (i & 7);
        }
      }
    }
  }
  return { bytes, numbers, scales, minima };
}

/** All numbers and small scales there are, f16 of both signs around 0.01. */
function randomBlocks(seed: number, format: Format, rows: number, cols: number): Blocks {
  const random = mulberry32(seed);
  const below = (count: number) => Math.floor(random() * count);
  return makeBlocks(format, rows, cols, {
    number: () => below(1 << FORMATS[format][2]),
    half: () => 0x2000 + below(1024) + (random() < 0.3 ? 0x8000 : 0),
    small: () => below(64),
  });
}

const { fround } = Math;

/** What is said in asm/quantised_tiles.gen.ts: exact sums, then some roundings a block. */
function product(format: Format, x: Float32Array, blocks: Blocks, cols: number): Float32Array {
  const { numbers, scales, minima } = blocks;
  const rows = x.length / cols;
  const outputs = numbers.length / cols;
  const q = quantize(x);
  const out = new Float32Array(rows * outputs);
  const hasHalves = format === "q6_k";
  const [width, offset] = hasHalves ? [16, 32] : [32, 0];
  for (let r = 0; r < rows; r++) {
    for (let o = 0; o < outputs; o++) {
      let total = 0;
      for (let start = 0; start < cols; start += width) {
        let dot = 0;
        let sum = 0;
        for (let i = start; i < start + width; i++) {
          const a = q.numbers[r * cols + i]!;
          dot += a * (numbers[o * cols + i]! - offset);
          sum += a;
        }
        const xScale = q.scales[(r * cols + start) >> 5]!;
        const scale = scales[(o * cols + start) >> 4]!;
        const minimum = minima[(o * cols + start) >> 5]!;
        const term = hasHalves
          ? fround(dot * fround(xScale * scale))
          : fround(xScale * fround(fround(dot * scale) + fround(-sum * minimum)));
        total = fround(total + term);
      }
      out[r * outputs + o] = total;
    }
  }
  return out;
}

/** The number at a place, rounded once. */
function valueAt(format: Format, { numbers, scales, minima }: Blocks, i: number): number {
  if (format === "q6_k") return fround(scales[i >> 4]! * (numbers[i]! - 32));
  if (format === "q5_0") return fround(scales[i >> 4]! * (numbers[i]! - 16));
  return fround(scales[i >> 4]! * numbers[i]! - minima[i >> 5]!);
}

const sourceOf = (format: Format, rows: number, cols: number, { bytes }: Blocks) =>
  weightSource(format, rows, cols, bytes);

for (const { label, open } of backends) {
  for (const format of NAMES) {
    const [perBlock, blockBytes, , memoryBytes] = FORMATS[format];

    test(`${label}: blocks of ${format} have exactly the values that gguf-py gives them`, {
      skip: missing("golden/dequant_vectors.json"),
    }, async () => {
      const all = readJson<Record<string, { bytes_hex: string; values: number[] }>>(
        "golden/dequant_vectors.json",
      );
      const { bytes_hex, values } = all[format.toUpperCase()]!;
      const bytes = Uint8Array.from(bytes_hex.match(/../g)!, (hex) => parseInt(hex, 16));
      using backend = await open();
      for (const cols of [perBlock, 2 * perBlock, values.length]) {
        const rows = values.length / cols;
        using table = await backend.weight(weightSource(format, rows, cols, bytes));
        const tokens = Uint32Array.from({ length: rows }, (_, i) => i);
        const actual = await outputOf(
          backend,
          rows,
          cols,
          (out) => backend.embed(out, table, tokens),
        );
        deepEqual(actual, Float32Array.from(values));
      }
    });

    test(`${label}: embed reads any row of a ${format} table, every number and scale`, async () => {
      using backend = await open();
      for (const [rows, width] of [[5, 1], [8, 2], [9, 9], [17, 16]] as const) {
        const cols = width * 256;
        const blocks = randomBlocks(rows, format, rows, cols);
        using table = await backend.weight(sourceOf(format, rows, cols, blocks));
        const tokens = Uint32Array.of(rows - 1, 0, 3, 3, rows >> 1, 1);
        const actual = await outputOf(
          backend,
          tokens.length,
          cols,
          (out) => backend.embed(out, table, tokens),
        );
        const expected = [...tokens].flatMap((t) =>
          Array.from({ length: cols }, (_, i) => valueAt(format, blocks, t * cols + i))
        );
        deepEqual([...actual], expected);
      }
    });

    test(`${label}: a ${format} weight must have whole blocks, or is refused unread`, async () => {
      using backend = await open();
      const before = backend.byteLength;
      let reads = 0;
      const read = () => Promise.resolve(void reads++);
      const cols = perBlock + perBlock / 2;
      const message = new RegExp(`"w".*must be a multiple of ${perBlock}, got ${cols}`);
      await rejects(backend.weight({ name: "w", format, rows: 4, cols, read }), message);
      equal(reads, 0);
      equal(backend.byteLength, before);
    });

    test(`${label}: a ${format} weight takes about its file's size in memory`, async () => {
      using backend = await open();
      const before = backend.byteLength;
      const [rows, cols] = [64, 512];
      const blocks = randomBlocks(1, format, rows, cols);
      const weight = await backend.weight(sourceOf(format, rows, cols, blocks));
      const bytes = label === reference.label ? blockBytes : memoryBytes;
      equal(weight.byteLength, rows * cols / perBlock * bytes);
      ok(backend.byteLength - before <= weight.byteLength + 64);
      weight[Symbol.dispose]();
      equal(backend.byteLength, before);
    });
  }
}

const SHAPES: readonly (readonly [cols: number, outputs: number, rows: readonly number[]])[] = [
  [256, 5, [1, 2, 3, 4, 5, 6, 7, 8, 13]],
  [512, 16, [1, 2, 6, 11]],
  // More blocks than lie together (asm/quantised.ts).
  [2304, 13, [1, 2, 7]],
  [8192, 8, [1, 3]],
];

for (const way of ways) {
  for (const format of NAMES) {
    test(`${way.label}: ${format} products are exact integers, scaled`, async () => {
      using backend = await way.open();
      for (const [cols, outputs, rowCounts] of SHAPES) {
        const blocks = randomBlocks(cols + outputs, format, outputs, cols);
        for (const rows of rowCounts) {
          const x = uniform(rows, rows * cols);
          const actual = await multiply(backend, sourceOf(format, outputs, cols, blocks), x);
          const expected = product(format, x, blocks, cols);
          deepEqual(actual, expected, `${rows} x ${cols} to ${outputs}`);
        }
      }
    });

    test(`${way.label}: ${format} products stay exact at the largest numbers there are`, async () => {
      using backend = await way.open();
      const cols = 256;
      const most = (1 << FORMATS[format][2]) - 1;
      const patterns: ((i: number) => number)[] = [
        () => 0,
        () => most,
        (i) => i % 2 * most,
        (i) => (i >> 1) % 2 * most,
        (i) => (i >> 4) % 2 * most,
        (i) => i % (most + 1),
      ];
      const signs: ((i: number) => number)[] = [
        () => 1,
        () => -1,
        (i) => i % 2 === 0 ? 1 : -1,
        (i) => i % 4 < 2 ? -1 : 1,
      ];
      for (const [i, number] of patterns.entries()) {
        for (const small of [0, 1, 63]) {
          const draw = { number, half: () => 0x3c01, small: () => small };
          const blocks = makeBlocks(format, 8, cols, draw);
          const x = Float32Array.from(
            { length: signs.length * cols },
            (_, k) => signs[Math.floor(k / cols)]!(k),
          );
          const source = sourceOf(format, 8, cols, blocks);
          const actual = await multiply(backend, source, x);
          deepEqual(actual, product(format, x, blocks, cols), `pattern ${i}, ${small}`);
        }
      }
    });

    test(`${way.label}: ${format} products have the same bits on 1 and 2 threads`, {
      skip: !canShare && "this host has no shared memory or no workers",
    }, async () => {
      const [cols, outputs, rows] = [512, 171, 35];
      const blocks = randomBlocks(8, format, outputs, cols);
      const x = uniform(1, rows * cols);
      const expected = product(format, x, blocks, cols);
      for (const threads of [1, 2]) {
        using backend = await way.open(threads);
        const actual = await multiply(backend, sourceOf(format, outputs, cols, blocks), x);
        deepEqual(actual, expected, `${threads} threads`);
      }
    });
  }
}

for (const format of NAMES) {
  test(`${format} products are near the reference's`, async () => {
    using oracle = await reference.open();
    using backend = await taken.open();
    const [cols, outputs, rows] = [512, 9, 7];
    const blocks = randomBlocks(3, format, outputs, cols);
    const source = sourceOf(format, outputs, cols, blocks);
    const x = uniform(rows, rows * cols);
    const { scales } = quantize(x);
    const actual = await multiply(backend, source, x);
    assertNear(actual, await multiply(oracle, source, x), (i) => {
      const [r, o] = [Math.floor(i / outputs), i % outputs];
      let tolerance = 0;
      // Each activation is off by half a step of its block; roundings of f32 are nothing to that.
      for (let k = 0; k < cols; k++) {
        const weight = Math.abs(valueAt(format, blocks, o * cols + k));
        tolerance += 0.501 * weight * scales[(r * cols + k) >> 5]!;
      }
      return tolerance;
    }, "output");
  });

  test(`a ${format} weight of one row is a vector`, async () => {
    using backend = await taken.open();
    const blocks = randomBlocks(5, format, 1, 512);
    using gain = await backend.weight(sourceOf(format, 1, 512, blocks));
    equal(gain.rows, 1);
    using table = await backend.weight(sourceOf(format, 1, 512, blocks));
    const actual = await outputOf(
      backend,
      1,
      512,
      (out) => backend.embed(out, table, Uint32Array.of(0)),
    );
    deepEqual([...actual], Array.from({ length: 512 }, (_, i) => valueAt(format, blocks, i)));
  });
}
