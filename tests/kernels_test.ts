// The kernels alone, in each build that runs here, against float64. Scratch and outputs are NaN
// before every call, so that what is read unwritten shows.

import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import {
  type Build,
  buildOf,
  compileKernels,
  hasRelaxedSimd,
  hasSimd,
  instantiateKernels,
  type Kernels,
} from "../wasm/loader.ts";
import { mulberry32, uniform } from "./support/random.ts";

const FORMATS = { f32: 0, f16: 1, bf16: 2 } as const;

const builds: Build[] = [false, true].flatMap((relaxed) =>
  [false, typeof SharedArrayBuffer === "function"].filter((shared, i) => i === 0 || shared)
    .map((shared) => ({ relaxed, shared }))
).filter(({ relaxed }) => !relaxed || hasRelaxedSimd());

/** An instance, its memory full of NaN, and a way to hand out places in it. */
interface Bench {
  readonly kernels: Kernels;
  readonly f32: Float32Array;
  readonly u16: Uint16Array;
  readonly u8: Uint8Array;
  /** Where f32[length] lies, written if given. */
  place(values: Float32Array | number): number;
}

async function benchOf(build: Build): Promise<Bench> {
  const { shared } = build;
  const memory = new WebAssembly.Memory({ initial: 160, maximum: 65535, shared });
  const kernels = await instantiateKernels(await compileKernels(build), memory);
  const f32 = new Float32Array(memory.buffer);
  let next = Math.ceil(kernels.heapBase() / 64) * 64;
  f32.fill(NaN, next / 4);
  return {
    kernels,
    f32,
    u16: new Uint16Array(memory.buffer),
    u8: new Uint8Array(memory.buffer),
    place(values) {
      const length = typeof values === "number" ? values : values.length;
      const ptr = next;
      next += Math.ceil((length * 4 + 64) / 64) * 64;
      if (typeof values !== "number") f32.set(values, ptr / 4);
      return ptr;
    },
  };
}

/** The f16 nearest to x, ties to even, as a number: from the definition, in float64. */
function roundToF16(x: number): number {
  if (!Number.isFinite(x) || x === 0) return x;
  const exponent = Math.max(-14, Math.floor(Math.log2(Math.abs(x))));
  const unit = 2 ** (exponent - 10);
  const steps = x / unit; // exact: a power of two
  const low = Math.floor(steps);
  const rest = steps - low;
  const rounded = rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low;
  const value = rounded * unit;
  return Math.abs(value) >= 65536 ? Math.sign(x) * Infinity : x < 0 && value === 0 ? -0 : value;
}

function valueOfF16(bits: number): number {
  const sign = bits < 0x8000 ? 1 : -1;
  const exponent = bits >> 10 & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction : fraction + 1024) * 2 ** (Math.max(1, exponent) - 25);
}

/** All zero beyond `cols` up to whole quads. */
function paddedRows(values: Float32Array, rows: number, cols: number): Float32Array {
  const stride = Math.ceil(cols / 4) * 4;
  const padded = new Float32Array(rows * stride);
  for (let r = 0; r < rows; r++) {
    padded.set(values.subarray(r * cols, (r + 1) * cols), r * stride);
  }
  return padded;
}

test("the engine has WebAssembly SIMD", () => {
  ok(hasSimd());
});

for (const build of builds) {
  const label = `${build.relaxed ? "relaxed" : "plain"} SIMD, ${
    build.shared ? "shared" : "own"
  } memory`;

  test(`${label}: the build is what it says`, async () => {
    const { kernels } = await benchOf(build);
    deepEqual(buildOf(kernels), build);
  });

  test(`${label}: all 65,536 f16 patterns decode exactly`, async () => {
    const bench = await benchOf(build);
    const halves = bench.place(32768);
    const out = bench.place(65536);
    for (let bits = 0; bits < 65536; bits++) bench.u16[halves / 2 + bits] = bits;
    bench.kernels.widen(out, halves, 65536, FORMATS.f16);
    for (let bits = 0; bits < 65536; bits++) {
      const actual = bench.f32[out / 4 + bits]!;
      ok(Object.is(actual, valueOfF16(bits)), `bits ${bits}: ${actual}`);
    }
  });

  test(`${label}: all bf16 patterns decode exactly`, async () => {
    const bench = await benchOf(build);
    const halves = bench.place(32768);
    const out = bench.place(65536);
    for (let bits = 0; bits < 65536; bits++) bench.u16[halves / 2 + bits] = bits;
    bench.kernels.widen(out, halves, 65536, FORMATS.bf16);
    const expected = new Float32Array(
      Uint32Array.from({ length: 65536 }, (_, i) => i << 16).buffer,
    );
    expected.forEach((x, bits) => ok(Object.is(bench.f32[out / 4 + bits], x), `bits ${bits}`));
  });

  test(`${label}: f32 becomes the nearest f16, ties to even, overflow to infinity`, async () => {
    const bench = await benchOf(build);
    const values: number[] = [0, -0, Infinity, -Infinity, 65504, 65519.996, 65520, -65520, 1e30];
    values.push(2 ** -24, 2 ** -25, 2 ** -25 * 1.0001, 3 * 2 ** -25, 2 ** -26, -(2 ** -25), 1e-45);
    values.push(2 ** -14, 2 ** -14 - 2 ** -25, 2 ** -14 - 2 ** -26, 1e-38);
    // Between every two neighbours: the tie, and a little to either side.
    for (let bits = 0; bits < 0x7bff; bits += 7) {
      const middle = (valueOfF16(bits) + valueOfF16(bits + 1)) / 2;
      values.push(
        valueOfF16(bits),
        middle,
        -middle,
        middle * (1 - 2 ** -20),
        middle * (1 + 2 ** -20),
      );
    }
    const random = mulberry32(1);
    const words = Uint32Array.from({ length: 20000 }, () => random() * 2 ** 32);
    values.push(...new Float32Array(words.buffer));
    while (values.length % 8 !== 0) values.push(0);
    const numbers = Float32Array.from(values);
    const from = bench.place(numbers);
    const out = bench.place(numbers.length);
    bench.kernels.storeRows(out, from, numbers.length * 4, 1, numbers.length, 1, 1);
    numbers.forEach((x, i) => {
      const actual = valueOfF16(bench.u16[out / 2 + i]!);
      ok(Object.is(actual, roundToF16(x)), `${x} became ${actual}, not ${roundToF16(x)}`);
    });
  });

  test(`${label}: swiGlu is within 4 roundings of float64 from -1000 to 1000`, async () => {
    const bench = await benchOf(build);
    const gates = Float32Array.from({ length: 4096 }, (_, i) => (i - 2048) / 2048 * 40);
    gates.set([-1000, -89, -88, -87, 0, -0, 87, 88, 89, 1000]);
    const gate = bench.place(gates);
    const up = bench.place(new Float32Array(4096).fill(1));
    const out = bench.place(4096);
    bench.kernels.swiGlu(out, gate, up, 0, 1024);
    gates.forEach((x, i) => {
      const expected = x / (1 + Math.exp(-x));
      const difference = Math.abs(bench.f32[out / 4 + i]! - expected);
      // exp's own error of 1.1e-7, and a rounding each in 1 + exp and the quotient.
      ok(difference <= 4 * 2 ** -24 * Math.abs(expected) + 1e-34, `${x}: off by ${difference}`);
    });
  });

  test(`${label}: angles are right to f32 up to 10,000,000 positions`, async () => {
    const bench = await benchOf(build);
    const frequencies = [1, 0.3, 0.01, 1e-4].map(Math.fround);
    const table = (rows: number, step: number) => {
      const angles = new Float64Array(rows * 8);
      for (let row = 0; row < rows; row++) {
        frequencies.forEach((frequency, i) => {
          angles[row * 8 + 2 * i] = Math.cos(row * step * frequency);
          angles[row * 8 + 2 * i + 1] = Math.sin(row * step * frequency);
        });
      }
      return new Float32Array(angles.buffer);
    };
    const coarse = bench.place(table(39100, 256));
    const fine = bench.place(table(256, 1));
    const out = bench.place(8 * 100);
    for (const start of [0, 200, 65500, 999_950, 9_999_900]) {
      bench.kernels.ropeAngles(out, coarse, fine, 4, start, 100);
      for (let i = 0; i < 100; i++) {
        frequencies.forEach((frequency, j) => {
          const angle = (start + i) * frequency;
          const at = out / 4 + 8 * i + j;
          ok(Math.abs(bench.f32[at]! - Math.cos(angle)) < 2 ** -24, `cos at ${start + i}`);
          ok(Math.abs(bench.f32[at + 4]! - Math.sin(angle)) < 2 ** -24, `sin at ${start + i}`);
        });
      }
    }
  });

  test(`${label}: panels give back the rows that were packed, padded with zeros`, async () => {
    const bench = await benchOf(build);
    for (const [rows, cols] of [[1, 1], [5, 3], [6, 4], [7, 5], [13, 64], [12, 172]] as const) {
      const values = uniform(rows * cols, rows * cols);
      const panels = bench.place(Math.ceil(rows / 6) * 6 * Math.ceil(cols / 4) * 4);
      const quads = Math.ceil(cols / 4);
      bench.kernels.packPanels(panels, bench.place(values), rows, cols, 4);
      const out = bench.place(quads * 4);
      for (let r = 0; r < Math.ceil(rows / 6) * 6; r++) {
        bench.kernels.unpackRow(out, panels, r, quads, FORMATS.f32);
        const expected = new Float32Array(quads * 4);
        if (r < rows) expected.set(values.subarray(r * cols, (r + 1) * cols));
        deepEqual(bench.f32.slice(out / 4, out / 4 + quads * 4), expected);
      }
    }
  });

  for (const format of ["f32", "f16", "bf16"] as const) {
    test(`${label}: a product of ${format} weights has the same bits in any company, at any time`, async () => {
      const bench = await benchOf(build);
      const [most, outputs] = [70, 17];
      for (const cols of [4, 20, 64, 172]) {
        const quads = cols / 4;
        const x = uniform(cols, most * cols);
        const xPtr = bench.place(x);
        const raw = bench.place(uniform(cols + 1, outputs * cols));
        if (format !== "f32") {
          // Any finite bits will do: sign, small exponent, fraction.
          const random = mulberry32(cols);
          for (let i = 0; i < outputs * cols; i++) {
            const sign = random() < 0.5 ? 0 : 0x8000;
            bench.u16[raw / 2 + i] = sign |
              Math.floor(random() * (format === "f16" ? 0x4000 : 0x4080));
          }
        }
        const panels = bench.place(Math.ceil(outputs / 6) * 6 * cols);
        bench.kernels.packPanels(panels, raw, outputs, cols, format === "f32" ? 4 : 2);
        const scratchBytes = bench.kernels.matmulScratchBytes(quads, most);
        const scratch = bench.place(scratchBytes / 4);
        const out = bench.place(most * 20);
        const pairs = bench.place(most * cols);
        const multiply = (start: number, rows: number, from = 0, to = 3, packs = rows % 3 > 0) => {
          bench.f32.fill(NaN, scratch / 4, (scratch + scratchBytes) / 4);
          bench.f32.fill(NaN, out / 4, out / 4 + most * 20);
          const xStart = xPtr + start * cols * 4;
          bench.kernels.packPairs(pairs, xStart, cols * 4, quads, 0, rows >> 1);
          const packed = packs ? pairs : 0;
          const args = [out, xStart, packed, panels, scratch, 80, cols * 4] as const;
          bench.kernels.matmul(...args, rows, outputs, quads, FORMATS[format], from, to);
          return Array.from(
            { length: rows },
            (_, r) => bench.f32.slice(out / 4 + r * 20, out / 4 + r * 20 + outputs),
          );
        };
        const expected = multiply(0, most);
        ok(expected.every((row) => row.every(Number.isFinite)), "a result is not finite");
        deepEqual(multiply(0, most, 0, 3, false), expected);
        for (const rows of [1, 2, 3, 4, 7, 33, 64]) {
          for (const start of [0, 1, 5]) {
            deepEqual(multiply(start, rows), expected.slice(start, start + rows));
          }
        }
        // Compilers that optimise while a program runs must not change what it computes.
        for (let i = 0; i < 2000; i++) multiply(i % 60, 1 + i % 3);
        deepEqual(multiply(0, most), expected);
        deepEqual(multiply(7, 1), expected.slice(7, 8));
        // A part of the outputs leaves the others alone.
        const part = multiply(0, 5, 1, 2);
        part.forEach((row, r) => {
          deepEqual(row.slice(6, 12), expected[r]!.slice(6, 12));
          ok([...row.slice(0, 6), ...row.slice(12)].every(Number.isNaN));
        });
      }
    });
  }

  test(`${label}: one row of f16 weights is right for huge activations too`, async () => {
    const bench = await benchOf(build);
    for (const size of [1e-30, 1, 32767, 32768, 1e9, 1e30]) {
      const x = uniform(3, 2 * 8).map((value) => value * size);
      x[0] = size;
      const raw = bench.place(4 * 7);
      for (let i = 0; i < 56; i++) bench.u16[raw / 2 + i] = i % 3 === 0 ? i : 0x3000 + i * 8;
      const panels = bench.place(12 * 8);
      bench.kernels.packPanels(panels, raw, 7, 8, 2);
      const scratch = bench.place(bench.kernels.matmulScratchBytes(2, 2) / 4);
      const xPtr = bench.place(x);
      const out = bench.place(16);
      const multiply = (rows: number) => {
        const args = [out, xPtr, 0, panels, scratch, 32, 32] as const;
        bench.kernels.matmul(...args, rows, 7, 2, FORMATS.f16, 0, 2);
        return bench.f32.slice(out / 4, out / 4 + 7);
      };
      deepEqual(multiply(1), multiply(2), `activations of ${size}`);
    }
  });

  test(`${label}: rmsNorm reads and writes nothing beyond its rows`, async () => {
    const bench = await benchOf(build);
    for (const cols of [1, 3, 4, 5, 64]) {
      const quads = Math.ceil(cols / 4);
      const values = uniform(cols, 3 * cols);
      const x = bench.place(paddedRows(values, 3, cols));
      const gain = bench.place(paddedRows(new Float32Array(cols).fill(2), 1, cols));
      const out = bench.place(12 * quads);
      bench.kernels.rmsNorm(out, x, gain, 1e-5, cols, quads, 1, 2);
      const all = bench.f32.slice(out / 4, out / 4 + 12 * quads);
      ok(all.every((value, i) => Number.isNaN(value) !== (i >= 4 * quads && i < 8 * quads)));
      ok(
        all.slice(4 * quads + cols, 8 * quads).every((value) => value === 0),
        "the padding is zero",
      );
    }
  });

  test(`${label}: fill sets bytes and no others`, async () => {
    const bench = await benchOf(build);
    const ptr = bench.place(16);
    bench.u8.fill(1, ptr, ptr + 64);
    bench.kernels.fill(ptr + 3, 7, 5);
    const bytes = [...bench.u8.subarray(ptr, ptr + 10)];
    equal(bytes.join(), [1, 1, 1, 7, 7, 7, 7, 7, 1, 1].join());
  });
}
