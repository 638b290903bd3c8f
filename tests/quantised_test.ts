// Weights in GGUF's blocks: what they stand for, and products with them. The wasm backend rounds
// activations to int8 and sums exact integers, so a few lines of integer arithmetic give its results
// to the last bit, on every build, engine, way of multiplying and number of threads.

import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { probeByteDots } from "../src/backend/wasm/quantised.ts";
import { hasRelaxedSimd } from "../wasm/loader.ts";
import { backends } from "./support/long_test_backends.ts";
import { reference } from "./support/processors.ts";
import { tensorOf, weightSource } from "./support/handles.ts";
import { assertNear, outputOf, u } from "./support/outputs.ts";
import {
  canShare,
  kernelsOf,
  multiply,
  quantize,
  taken,
  valueOfF16,
  type Way,
  ways,
} from "./support/quantised.ts";
import { mulberry32, uniform } from "./support/random.ts";
import { missing, readJson } from "./support/shared.ts";

type Format = "q8_0" | "q4_0";
const FORMATS: readonly Format[] = ["q8_0", "q4_0"];
const BLOCK_BYTES = { q8_0: 34, q4_0: 18 } as const;

// --- blocks, from their definition in ggml ---

/** A weight's bytes, and the numbers and scales in them. */
interface Blocks {
  readonly bytes: Uint8Array;
  readonly numbers: Int8Array; // [rows, cols]
  readonly scales: Float64Array; // [rows, cols / 32]
}

/** @param halves The scales' bits, one a block. */
function encodeBlocks(format: Format, numbers: Int8Array, halves: Uint16Array): Blocks {
  const size = BLOCK_BYTES[format];
  const bytes = new Uint8Array(halves.length * size);
  const view = new DataView(bytes.buffer);
  halves.forEach((half, b) => {
    view.setUint16(b * size, half, true);
    for (let i = 0; i < 32; i++) {
      const number = numbers[32 * b + i]!;
      if (format === "q8_0") view.setInt8(b * size + 2 + i, number);
      else bytes[b * size + 2 + i % 16]! |= number + 8 << (i < 16 ? 0 : 4);
    }
  });
  return { bytes, numbers, scales: Float64Array.from(halves, valueOfF16) };
}

/** All numbers a format has, and scales of both signs around 0.01. */
function randomBlocks(seed: number, format: Format, rows: number, cols: number): Blocks {
  const random = mulberry32(seed);
  const [least, count] = format === "q8_0" ? [-128, 256] : [-8, 16];
  const numbers = Int8Array.from(
    { length: rows * cols },
    () => least + Math.floor(random() * count),
  );
  const halves = Uint16Array.from(
    { length: rows * cols / 32 },
    () => 0x2000 + Math.floor(random() * 1024) + (random() < 0.3 ? 0x8000 : 0),
  );
  return encodeBlocks(format, numbers, halves);
}

function weightOf(format: Format, rows: number, cols: number, { bytes }: Blocks) {
  return weightSource(format, rows, cols, bytes);
}

// --- products, from their definition in asm/quantize.ts and asm/matmul_quantised.ts ---

const { fround } = Math;

/** Exact sums within a block; each product of a sum and two scales rounded as f32 is, and the sum of them. */
function product(x: Float32Array, { numbers, scales }: Blocks, cols: number): Float32Array {
  const rows = x.length / cols;
  const outputs = numbers.length / cols;
  const q = quantize(x);
  const out = new Float32Array(rows * outputs);
  for (let r = 0; r < rows; r++) {
    for (let o = 0; o < outputs; o++) {
      let total = 0;
      for (let b = 0; b < cols / 32; b++) {
        let sum = 0;
        for (let i = 32 * b; i < 32 * b + 32; i++) {
          sum += q.numbers[r * cols + i]! * numbers[o * cols + i]!;
        }
        const scale = fround(q.scales[r * cols / 32 + b]! * scales[o * cols / 32 + b]!);
        total = fround(total + fround(sum * scale));
      }
      out[r * outputs + o] = total;
    }
  }
  return out;
}

/** Blocks whose numbers are such as a way can do. */
function blocksFor(way: Way, seed: number, format: Format, rows: number, cols: number): Blocks {
  const blocks = randomBlocks(seed, format, rows, cols);
  if (way.whole || format === "q4_0") return blocks;
  const { bytes } = blocks;
  for (let i = 0; i < bytes.length; i++) if (i % 34 >= 2) bytes[i]! |= 0x80;
  return { ...blocks, numbers: blocks.numbers.map((number) => number | -128) };
}

// --- what blocks stand for ---

interface Vectors {
  readonly bytes_hex: string;
  readonly values: readonly number[];
}

for (const { label, open } of backends) {
  for (const [format, key] of [["q8_0", "Q8_0"], ["q4_0", "Q4_0"]] as const) {
    test(
      `${label}: blocks of ${format} have exactly the values that gguf-py gives them`,
      { skip: missing("golden/dequant_vectors.json") },
      async () => {
        const all = readJson<Record<string, Vectors>>("golden/dequant_vectors.json");
        const { bytes_hex, values } = all[key]!;
        const bytes = Uint8Array.from(bytes_hex.match(/../g)!, (hex) => parseInt(hex, 16));
        using backend = await open();
        for (const [rows, cols] of [[8, 32], [2, 128], [1, 256]] as const) {
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
      },
    );

    test(`${label}: embed reads any row of a ${format} table, every number and scale`, async () => {
      using backend = await open();
      for (
        const [rows, cols] of [[5, 32], [8, 64], [9, 32], [77, 128], [9, 2080], [17, 4096]] as const
      ) {
        const blocks = randomBlocks(rows, format, rows, cols);
        using table = await backend.weight(weightOf(format, rows, cols, blocks));
        equal(table.byteLength % 2, 0);
        const tokens = Uint32Array.of(rows - 1, 0, 3, 3, rows >> 1, 1);
        const actual = await outputOf(
          backend,
          tokens.length,
          cols,
          (out) => backend.embed(out, table, tokens),
        );
        const expected = [...tokens].flatMap((t) =>
          Array.from({ length: cols }, (_, i) => {
            const at = t * cols + i;
            return blocks.numbers[at]! * blocks.scales[at >> 5]!;
          })
        );
        deepEqual([...actual], expected);
      }
    });

    test(`${label}: ${format} scales are any f16, zero and subnormal ones included`, async () => {
      using backend = await open();
      const halves = Uint16Array.from({ length: 65536 }, (_, i) => (i >> 10 & 31) === 31 ? 0 : i);
      const numbers = new Int8Array(halves.length * 32).map((_, i) => (i >> 5) % 15 - 7);
      const blocks = encodeBlocks(format, numbers, halves);
      using table = await backend.weight(weightOf(format, 2048, 1024, blocks));
      const tokens = Uint32Array.from({ length: 2048 }, (_, i) => i);
      const actual = await outputOf(
        backend,
        2048,
        1024,
        (out) => backend.embed(out, table, tokens),
      );
      for (let i = 0; i < actual.length; i++) {
        if (actual[i] === numbers[i]! * blocks.scales[i >> 5]!) continue;
        throw new Error(`number ${i}: ${actual[i]} with the scale ${halves[i >> 5]}`);
      }
    });

    test(`${label}: a ${format} weight must have whole blocks, or is refused unread`, async () => {
      using backend = await open();
      const before = backend.byteLength;
      let reads = 0;
      const read = () => Promise.resolve(void reads++);
      const source = { name: "w", format, rows: 4, cols: 48, read } as const;
      await rejects(backend.weight(source), /"w".*must be a multiple of 32, got 48/);
      equal(reads, 0);
      equal(backend.byteLength, before);
    });

    test(`${label}: a ${format} weight takes hardly more memory than its file`, async () => {
      using backend = await open();
      const before = backend.byteLength;
      const blocks = randomBlocks(1, format, 64, 96);
      const weight = await backend.weight(weightOf(format, 64, 96, blocks));
      equal(weight.byteLength, blocks.bytes.length);
      ok(backend.byteLength - before <= blocks.bytes.length + 64);
      weight[Symbol.dispose]();
      equal(backend.byteLength, before);
    });
  }
}

// --- products ---

const SHAPES: readonly (readonly [cols: number, outputs: number, rows: readonly number[]])[] = [
  [32, 5, [1, 2, 3, 4, 5]],
  [32, 6, [1, 7, 13]],
  [32, 8, [1, 2, 6]],
  [64, 7, [1, 2, 3, 4, 5, 6, 7, 8, 11]],
  [64, 64, [1, 2, 3, 4, 5, 63, 64, 65]],
  [96, 171, [1, 3, 8]],
  [2048, 13, [1, 2, 5, 9]],
  // More blocks than lie together (asm/quantised.ts), more rows than are quantised at a time.
  [2080, 13, [1, 2, 7]],
  [4128, 9, [1, 4, 6]],
  [8192, 8, [200]],
];

for (const way of ways) {
  for (const format of FORMATS) {
    test(`${way.label}: ${format} products are exact integers, scaled`, async () => {
      using backend = await way.open();
      for (const [cols, outputs, rowCounts] of SHAPES) {
        const blocks = blocksFor(way, cols + outputs, format, outputs, cols);
        for (const rows of rowCounts) {
          const x = uniform(rows, rows * cols);
          const actual = await multiply(backend, weightOf(format, outputs, cols, blocks), x);
          deepEqual(actual, product(x, blocks, cols), `${rows} x ${cols} to ${outputs}`);
        }
      }
    });

    test(`${way.label}: ${format} products stay exact at the largest numbers there are`, async () => {
      using backend = await way.open();
      const cols = 64;
      const [least, most] = format === "q8_0" ? [-128, way.whole ? 127 : -1] : [-8, 7];
      // Constant blocks, alternating ones, and every pair of a number and an activation.
      const patterns: ((i: number) => number)[] = [
        () => least,
        () => most,
        (i) => i % 2 === 0 ? least : most,
        (i) => i % 4 < 2 ? least : most,
        (i) => i % 16 < 8 ? most : least,
        ...Array.from(
          { length: 64 },
          (_, n) => (i: number) => least + (i * 5 + n * 4) % (most - least + 1),
        ),
      ];
      const activations: ((i: number) => number)[] = [
        () => 127,
        () => -127,
        (i) => i % 2 === 0 ? 127 : -127,
        (i) => i % 4 < 2 ? -127 : 127,
        (i) => i % 16 < 8 ? 127 : -127,
        // Whatever else there is, 127 keeps the scale at 1.
        ...Array.from(
          { length: 64 },
          (_, n) => (i: number) => i % 32 === 0 ? 127 : (i * 7 + n * 4) % 255 - 127,
        ),
      ];
      const numbers = Int8Array.from(
        { length: patterns.length * cols },
        (_, i) => patterns[Math.floor(i / cols)]!(i % cols),
      );
      const halves = new Uint16Array(numbers.length / 32).fill(0x3c00);
      const blocks = encodeBlocks(format, numbers, halves);
      const x = Float32Array.from(
        { length: activations.length * cols },
        (_, i) => activations[Math.floor(i / cols)]!(i % cols),
      );
      const source = weightOf(format, patterns.length, cols, blocks);
      for (const rows of [1, 2, 3, 6, activations.length]) {
        const some = x.subarray(0, rows * cols);
        const actual = await multiply(backend, source, some);
        for (let r = 0; r < rows; r++) {
          for (let o = 0; o < patterns.length; o++) {
            let sum = 0;
            for (let i = 0; i < cols; i++) sum += some[r * cols + i]! * numbers[o * cols + i]!;
            equal(actual[r * patterns.length + o], sum, `row ${r} of ${rows}, output ${o}`);
          }
        }
      }
    });

    test(`${way.label}: a row's ${format} product is the same to the last bit, whatever its company`, async () => {
      using backend = await way.open();
      for (const [cols, outputs] of [[64, 171], [192, 64]] as const) {
        const blocks = blocksFor(way, 3, format, outputs, cols);
        using weight = await backend.weight(weightOf(format, outputs, cols, blocks));
        using x = tensorOf(backend, 65, cols, uniform(6, 65 * cols));
        const all = await outputOf(backend, 65, outputs, (out) => backend.matmul(out, x, weight));
        for (const rows of [1, 2, 3, 4, 5, 6, 7, 8, 16, 63, 64]) {
          for (const start of new Set([0, 1, (65 - rows) >> 1, 65 - rows])) {
            const some = backend.rows(x, start, start + rows);
            const actual = await outputOf(
              backend,
              rows,
              outputs,
              (out) => backend.matmul(out, some, weight),
            );
            deepEqual(actual, all.slice(start * outputs, (start + rows) * outputs));
          }
        }
      }
    });

    test(`${way.label}: ${format} products of huge, tiny and absent numbers`, async () => {
      using backend = await way.open();
      const cols = 64;
      const blocks = blocksFor(way, 9, format, 9, cols);
      const source = weightOf(format, 9, cols, blocks);
      const base = uniform(4, cols);
      const factors = [0, 1e-45, 1e-38, 2 ** -101, 2 ** -99, 1e-30, 1e-10, 1, 1e10, 1e30];
      const x = Float32Array.from(factors.flatMap((factor) => [...base.map((v) => v * factor)]));
      deepEqual(await multiply(backend, source, x), product(x, blocks, cols));
      for (const rows of [1, 2, 3, 6]) {
        for (const bad of [NaN, Infinity, -Infinity]) {
          const rowsOf = Float32Array.from({ length: rows * cols }, (_, i) => base[i % cols]!);
          rowsOf[(rows - 1) * cols + 37] = bad;
          const actual = await multiply(backend, source, rowsOf);
          actual.forEach((value, i) => {
            equal(Number.isFinite(value), i < (rows - 1) * 9, `${bad} in the last of ${rows} rows`);
          });
        }
      }
    });

    test(`${way.label}: ${format} products have the same bits on 1, 2 and 3 threads`, {
      skip: !canShare && "this host has no shared memory or no workers",
    }, async () => {
      const [cols, outputs, rows] = [256, 171, 35];
      const blocks = blocksFor(way, 8, format, outputs, cols);
      const x = uniform(1, rows * cols);
      const expected = product(x, blocks, cols);
      for (const threads of [1, 2, 3]) {
        using backend = await way.open(threads);
        for (let i = 0; i < 3; i++) {
          deepEqual(
            await multiply(backend, weightOf(format, outputs, cols, blocks), x),
            expected,
            `${threads} threads`,
          );
        }
      }
    });
  }
}

for (const format of FORMATS) {
  test(`${format} products are as near to the reference's as activations of 8 bits can be`, async () => {
    using oracle = await reference.open();
    using backend = await taken.open();
    for (const [cols, outputs, rowCounts] of [...SHAPES, [64, 1, [1, 3, 64]]] as const) {
      const blocks = randomBlocks(cols, format, outputs, cols);
      const source = weightOf(format, outputs, cols, blocks);
      for (const rows of rowCounts) {
        const x = uniform(rows, rows * cols);
        const actual = await multiply(backend, source, x);
        const expected = await multiply(oracle, source, x);
        const { scales } = quantize(x);
        // Each activation is off by half a step, or by a rounding more; then three roundings a block,
        // the sum's, and the reference's own. One output's f32 sums are within that, too.
        assertNear(actual, expected, (i) => {
          const [r, o] = [Math.floor(i / outputs), i % outputs];
          let tolerance = 0;
          let magnitude = 0;
          for (let b = 0; b < cols / 32; b++) {
            const scale = Math.abs(blocks.scales[o * cols / 32 + b]!);
            for (let k = 32 * b; k < 32 * b + 32; k++) {
              const weight = scale * Math.abs(blocks.numbers[o * cols + k]!);
              tolerance += weight * (0.5 + 128 * u) * scales[r * cols / 32 + b]!;
              magnitude += weight * Math.abs(x[r * cols + k]!);
            }
          }
          return tolerance + (cols + 4) * u * (tolerance + magnitude);
        }, `${rows} x ${cols} to ${outputs}`);
      }
    }
  });
}

for (const relaxed of hasRelaxedSimd() ? [false, true] : [false]) {
  const label = relaxed ? "relaxed SIMD" : "plain SIMD";
  test(`${label}: products read no scratch, padding or output that nobody wrote, and write no other`, async () => {
    const { memory, kernels } = await kernelsOf(relaxed);
    const { exact, offset } = probeByteDots(kernels);
    const u8 = new Uint8Array(memory.buffer);
    const base = Math.ceil(kernels.heapBase() / 64) * 64;
    for (const [format, code] of [["q8_0", 3], ["q4_0", 4]] as const) {
      for (const [cols, outputs, rows] of [[64, 9, 8], [32, 8, 5], [96, 15, 1]] as const) {
        // All bits set is NaN; a guard of 64 such bytes follows each block.
        u8.fill(0xff, base);
        let next = base;
        const guards: number[] = [];
        const take = (bytes: number) => {
          const start = next;
          guards.push(start + bytes);
          next = Math.ceil((start + bytes + 64) / 64) * 64;
          return start;
        };
        const count = cols / 32;
        const blocks = randomBlocks(7, format, outputs, cols);
        const x = uniform(2, rows * cols);
        const file = take(blocks.bytes.length);
        u8.set(blocks.bytes, file);
        const panels = take(Math.ceil(outputs / 8) * 8 * count * BLOCK_BYTES[format]);
        kernels.packBlocks(panels, file, outputs, outputs, count, code, offset, 0);
        const input = take(4 * x.length);
        new Float32Array(memory.buffer).set(x, input / 4);
        const quantised = take(kernels.quantisedBytes(rows, count, code, Number(exact)));
        const groups = kernels.quantisedGroups(rows, code, Number(exact));
        for (let g = groups - 1; g >= 0; g--) {
          kernels.quantizeRows(
            quantised,
            input,
            4 * cols,
            rows,
            count,
            code,
            Number(exact),
            offset,
            g,
            g + 1,
          );
        }
        const stride = Math.ceil(outputs / 4) * 16;
        const out = take(rows * stride);
        const scratch = take(kernels.matmulQuantisedScratchBytes());
        for (let p = 0; p < Math.ceil(outputs / 8); p++) {
          kernels.matmulQuantised(
            out,
            quantised,
            panels,
            scratch,
            stride,
            rows,
            outputs,
            count,
            code,
            Number(exact),
            p,
            p + 1,
          );
        }
        const f32 = new Float32Array(memory.buffer);
        const expected = product(x, blocks, cols);
        for (let r = 0; r < rows; r++) {
          const row = f32.slice((out + r * stride) / 4, (out + (r + 1) * stride) / 4);
          deepEqual(row.slice(0, outputs), expected.slice(r * outputs, (r + 1) * outputs));
          ok(row.slice(outputs).every(Number.isNaN), "the padding of an output was written");
        }
        for (const guard of guards) {
          ok(u8.subarray(guard, guard + 64).every((byte) => byte === 0xff), "a guard was written");
        }
      }
    }
  });
}
