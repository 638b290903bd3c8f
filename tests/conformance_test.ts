// Every backend, every verb on weights and activations, against the reference backend's float64 sums.

import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { test } from "node:test";
import type { Backend } from "../src/backend/backend.ts";
import { OutOfMemoryError } from "../src/errors.ts";
import { createRope } from "../src/reattention/rope.ts";
import { backends, machines } from "./support/backends.ts";
import { reference } from "./support/processors.ts";
import { randomWeight, tensorOf, weightSource } from "./support/handles.ts";
import { assertNear, outputOf, u } from "./support/outputs.ts";
import { integers, mulberry32, uniform } from "./support/random.ts";

const ROWS = [1, 3, 4, 7, 8, 63, 64, 65];
const FORMATS = ["f32", "f16", "bf16"] as const;

/** IEEE 754 binary16: 1 sign, 5 exponent (bias 15; 0 is subnormal), 10 fraction. */
function valueOfF16(bits: number): number {
  const fraction = bits & 1023;
  const exponent = bits >> 10 & 31;
  const size = exponent === 0 ? fraction / 1024 : 1 + fraction / 1024;
  return (bits < 0x8000 ? 1 : -1) * size * 2 ** (Math.max(exponent, 1) - 15);
}

for (const { label, open } of backends) {
  test(`${label}: tensors hold what is written, and views are windows on them`, async () => {
    using backend = await open();
    for (const cols of [1, 3, 4, 64]) {
      const values = uniform(cols, 9 * cols);
      using x = tensorOf(backend, 9, cols, values);
      deepEqual(await backend.read(x), values);
      const view = backend.rows(backend.rows(x, 1, 8), 2, 4);
      deepEqual([view.rows, view.cols], [2, cols]);
      deepEqual(await backend.read(view), values.slice(3 * cols, 5 * cols));
      backend.write(view, new Float32Array(2 * cols).fill(7));
      view[Symbol.dispose]();
      const all = await backend.read(x);
      deepEqual(all, values.fill(7, 3 * cols, 5 * cols));
      all.fill(0);
      deepEqual(await backend.read(x), values, "read gives a copy");
    }
  });

  test(`${label}: every finite f16 bit pattern of a weight reads as its value`, async () => {
    const halves = Uint16Array.from({ length: 65536 }, (_, i) => (i >> 10 & 31) === 31 ? 0 : i);
    const source = weightSource("f16", 256, 256, new Uint8Array(halves.buffer));
    using backend = await open();
    using table = await backend.weight(source);
    const tokens = Uint32Array.from({ length: 256 }, (_, i) => i);
    const actual = await outputOf(backend, 256, 256, (out) => backend.embed(out, table, tokens));
    deepEqual(actual, Float32Array.from(halves, valueOfF16));
  });

  for (const format of FORMATS) {
    test(`${label}: embed copies rows of ${format} tables exactly`, async () => {
      using backend = await open();
      for (const cols of [1, 3, 8, 63, 64, 65, 172]) {
        const { source, values } = randomWeight(cols, format, 77, cols);
        using table = await backend.weight(source);
        const tokens = Uint32Array.of(76, 0, 5, 5, 33, 76, 1);
        const actual = await outputOf(
          backend,
          tokens.length,
          cols,
          (out) => backend.embed(out, table, tokens),
        );
        const expected = [...tokens].flatMap((t) => [...values.slice(t * cols, (t + 1) * cols)]);
        deepEqual([...actual], expected);
      }
    });
  }

  test(`${label}: verbs refuse shapes that do not fit, and tokens that are not in the table`, async () => {
    using backend = await open();
    using weight = await backend.weight(randomWeight(1, "f32", 6, 4).source);
    using gain = await backend.weight(randomWeight(1, "f32", 1, 4).source);
    using x = tensorOf(backend, 2, 4, new Float32Array(8));
    using wide = tensorOf(backend, 2, 6, new Float32Array(12));
    using tall = tensorOf(backend, 3, 4, new Float32Array(12));
    using store = backend.kvStore({ numLayers: 1, numHeads: 3, numKvHeads: 1, headDim: 2 });
    store.reserve(4);
    const scope = { globalEnd: 0, localStart: 0, length: 2 };
    const rope = createRope(1e4, 2);
    const wrong: (() => void)[] = [
      () => backend.write(x, new Float32Array(7)),
      () => backend.copy(tall, x),
      () => backend.embed(x, weight, Uint32Array.of(1)),
      () => backend.embed(wide, weight, Uint32Array.of(1, 2)),
      () => backend.rmsNorm(tall, x, gain, 1e-5),
      () => backend.rmsNorm(wide, wide, gain, 1e-5),
      () => backend.matmul(x, x, weight),
      () => backend.matmul(wide, wide, weight),
      () => backend.matmul(wide, tall, weight),
      () => backend.swiGlu(x, x, tall),
      () => backend.add(x, wide, x),
      () => backend.addBias(x, x, weight),
      () => backend.addBias(wide, wide, gain),
      () => backend.append(store, 0, 0, x, x),
      () => backend.attend(x, x, store, 0, scope, null, rope, "scope"),
      () => backend.attend(x, wide, store, 0, scope, null, rope, "scope"),
    ];
    for (const verb of wrong) throws(verb, TypeError, String(verb));
    throws(() => backend.embed(x, weight, Uint32Array.of(0, 6)), RangeError);
    throws(() => backend.rows(x, 1, 3), RangeError);
  });

  test(`${label}: the largest of a row are found with their places, whatever is in it`, async () => {
    using backend = await open();
    const random = mulberry32(8);
    const strange = [NaN, Infinity, -Infinity, 0, -0, 1e-45, -1e-45, 3.4e38, -3.4e38];
    // A part that a GPU ranks at once is 2,048.
    for (const cols of [1, 3, 2048, 2049, 5000]) {
      const rows = [
        uniform(cols, cols),
        integers(cols, cols, 3),
        new Float32Array(cols).fill(-Infinity),
        Float32Array.from({ length: cols }, () => strange[Math.floor(random() * 9)]!),
        Float32Array.from({ length: cols }, (_, i) => i > cols - 3 ? i : -i),
        // Any bits: NaN of all kinds among them.
        new Float32Array(Uint32Array.from({ length: cols }, () => random() * 2 ** 32).buffer),
      ];
      for (const [kind, row] of rows.entries()) {
        // Between two others, of which it is a view.
        using x = tensorOf(backend, 3, cols, new Float32Array(3 * cols).fill(1e38));
        const view = backend.rows(x, 1, 2);
        backend.write(view, row);
        const order = Array.from(row, (_, i) => i).sort((a, b) => {
          const [first, second] = [row[a]!, row[b]!];
          if (isNaN(first) || isNaN(second)) {
            return Number(isNaN(second)) - Number(isNaN(first)) || a - b;
          }
          return first === second ? a - b : first > second ? -1 : 1;
        });
        for (const count of [1, 41, 3000]) {
          const { values, indices } = await backend.largest(view, count);
          const expected = order.slice(0, count);
          deepEqual([...indices], expected, `kind ${kind} of ${cols}, ${count}`);
          deepEqual([...values], expected.map((i) => row[i]! + 0), `kind ${kind} of ${cols}`);
        }
      }
    }
    using two = tensorOf(backend, 2, 4, new Float32Array(8));
    throws(() => backend.largest(two, 1), TypeError);
    throws(() => backend.largest(backend.rows(two, 0, 1), 0), RangeError);
  });

  test(`${label}: a weight whose bytes cannot be read leaves nothing behind`, async () => {
    using backend = await open();
    const before = backend.byteLength;
    const source = weightSource("f32", 8, 8, new Uint8Array(100));
    await rejects(backend.weight(source), /beyond the end/);
    equal(backend.byteLength, before);
  });

  test(`${label}: disposing handles gives their bytes back`, async () => {
    using backend = await open();
    const before = backend.byteLength;
    for (let i = 0; i < 3; i++) {
      using weight = await backend.weight(randomWeight(1, "f16", 65, 63).source);
      ok(weight.byteLength >= 65 * 63 * 2);
      const x = backend.tensor(65, 63);
      ok(backend.byteLength >= before + weight.byteLength + 65 * 63 * 4);
      x[Symbol.dispose]();
      x[Symbol.dispose]();
    }
    equal(backend.byteLength, before);
  });

  test(`${label}: a weight that cannot fit is refused before it is read`, async () => {
    using backend = await open();
    const before = backend.byteLength;
    let reads = 0;
    const read = () => Promise.resolve(void reads++);
    const source = { name: "huge", format: "f32", rows: 2 ** 20, cols: 2 ** 20, read } as const;
    await rejects(backend.weight(source), OutOfMemoryError);
    equal(reads, 0);
    equal(backend.byteLength, before);
  });
}

for (const { label, open } of machines) {
  for (const format of FORMATS) {
    for (
      const [inputs, outputs, rowCounts] of [
        [1, 1, [1, 3]],
        [3, 5, ROWS],
        [7, 3, ROWS],
        [8, 512, ROWS],
        [63, 65, ROWS],
        [64, 64, [...ROWS, 511, 512, 513]],
        [64, 172, ROWS],
        [65, 63, ROWS],
        [172, 64, ROWS],
        [511, 9, [1, 4, 65]],
        [513, 8, [1, 4, 65]],
      ] as const
    ) {
      test(`${label}: matmul of ${inputs} inputs to ${outputs} outputs in ${format} matches float64 sums`, async () => {
        const { source, values } = randomWeight(inputs + outputs, format, outputs, inputs);
        const sizes = new Uint8Array(values.map(Math.abs).buffer);
        using oracle = await reference.open();
        using backend = await open();
        using weight = await backend.weight(source);
        using oracleWeight = await oracle.weight(source);
        using magnitudes = await oracle.weight(weightSource("f32", outputs, inputs, sizes));
        for (const rows of rowCounts) {
          const x = uniform(rows, rows * inputs);
          const multiply = (on: Backend, by: typeof weight, values: Float32Array) => {
            const input = tensorOf(on, rows, inputs, values);
            return outputOf(on, rows, outputs, (out) => on.matmul(out, input, by));
          };
          const actual = await multiply(backend, weight, x);
          const expected = await multiply(oracle, oracleWeight, x);
          const sums = await multiply(oracle, magnitudes, x.map(Math.abs));
          assertNear(actual, expected, (i) => (inputs + 1) * u * sums[i]!, `${rows} rows`);
        }
      });
    }

    test(`${label}: a row's matmul in ${format} is the same to the last bit, whatever its company`, async () => {
      for (const [inputs, outputs] of [[64, 172], [172, 64], [63, 65], [8, 512]] as const) {
        using backend = await open();
        using weight = await backend.weight(randomWeight(5, format, outputs, inputs).source);
        using x = tensorOf(backend, 65, inputs, uniform(6, 65 * inputs));
        const all = await outputOf(backend, 65, outputs, (out) => backend.matmul(out, x, weight));
        for (const rows of [1, 2, 3, 4, 5, 6, 7, 8, 16, 63, 64]) {
          for (const start of new Set([0, 1, Math.floor((65 - rows) / 2), 65 - rows])) {
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

    test(`${label}: rmsNorm with ${format} gains matches float64 sums, in place too`, async () => {
      using oracle = await reference.open();
      using backend = await open();
      for (const cols of [1, 3, 4, 7, 8, 63, 64, 65, 172, 511, 512, 513]) {
        const { source } = randomWeight(cols, format, 1, cols);
        using gain = await backend.weight(source);
        using oracleGain = await oracle.weight(source);
        for (const rows of [1, 3, 8]) {
          // Rows of very different sizes; the last is all zeros.
          const values = uniform(rows, rows * cols).map((x, i) =>
            x * 10 ** (2 - 3 * Math.floor(i / cols))
          ).fill(0, (rows - 1) * cols);
          if (rows === 1) values.set(uniform(9, cols));
          using x = tensorOf(backend, rows, cols, values);
          using same = tensorOf(oracle, rows, cols, values);
          const expected = await outputOf(
            oracle,
            rows,
            cols,
            (out) => oracle.rmsNorm(out, same, oracleGain, 1e-5),
          );
          // The root halves the sum's cols + 1 roundings; mean, epsilon, root, reciprocal, two
          // products, and the reference's last one come on top.
          const near = (i: number) => (cols / 2 + 8) * u * Math.abs(expected[i]!);
          const actual = await outputOf(
            backend,
            rows,
            cols,
            (out) => backend.rmsNorm(out, x, gain, 1e-5),
          );
          assertNear(actual, expected, near, `${rows} x ${cols}`);
          const inPlace = await outputOf(backend, rows, cols, (out) => {
            backend.copy(out, x);
            backend.rmsNorm(out, out, gain, 1e-5);
          });
          deepEqual(inPlace, actual);
        }
      }
    });
  }

  test(`${label}: a row's rmsNorm is the same to the last bit, whatever its company`, async () => {
    using backend = await open();
    for (const cols of [63, 64]) {
      using gain = await backend.weight(randomWeight(5, "f32", 1, cols).source);
      using x = tensorOf(backend, 9, cols, uniform(6, 9 * cols));
      const all = await outputOf(backend, 9, cols, (out) => backend.rmsNorm(out, x, gain, 1e-5));
      for (let r = 0; r < 9; r++) {
        const row = backend.rows(x, r, r + 1);
        const one = await outputOf(
          backend,
          1,
          cols,
          (out) => backend.rmsNorm(out, row, gain, 1e-5),
        );
        deepEqual(one, all.slice(r * cols, (r + 1) * cols));
      }
    }
  });

  test(`${label}: a short gain norms each part of a row as a row of its own`, async () => {
    using backend = await open();
    for (const [part, parts, rows] of [[4, 1, 3], [8, 3, 1], [64, 5, 7], [128, 2, 4]] as const) {
      using gain = await backend.weight(randomWeight(5, "f32", 1, part).source);
      const values = uniform(6, rows * parts * part);
      using whole = tensorOf(backend, rows, parts * part, values);
      using single = tensorOf(backend, rows * parts, part, values);
      const norm = (x: typeof whole) =>
        outputOf(backend, x.rows, x.cols, (out) => backend.rmsNorm(out, x, gain, 1e-5));
      deepEqual(await norm(whole), await norm(single));
    }
  });

  test(`${label}: addBias adds the same row to each, in place too`, async () => {
    using backend = await open();
    for (const [rows, cols] of [[1, 1], [1, 3], [3, 5], [7, 64], [65, 7], [513, 3]] as const) {
      const values = uniform(rows, rows * cols);
      for (const format of FORMATS) {
        const { source, values: row } = randomWeight(cols, format, 1, cols);
        using bias = await backend.weight(source);
        using x = tensorOf(backend, rows, cols, values);
        const expected = values.map((value, i) => value + row[i % cols]!);
        deepEqual(
          await outputOf(backend, rows, cols, (out) => backend.addBias(out, x, bias)),
          expected,
        );
        const inPlace = await outputOf(backend, rows, cols, (out) => {
          backend.copy(out, x);
          backend.addBias(out, out, bias);
        });
        deepEqual(inPlace, expected);
      }
    }
  });

  test(`${label}: swiGlu matches float64, in place too, from vanishing to saturated gates`, async () => {
    using oracle = await reference.open();
    using backend = await open();
    const edges = [
      0,
      1e-30,
      1e-4,
      0.5,
      1,
      5,
      17,
      30,
      60,
      86,
      87,
      87.5,
      88,
      89,
      100,
      104,
      1000,
      1e10,
    ];
    for (const [rows, cols] of [[1, 1], [1, 3], [3, 5], [7, 172], [8, 64], [65, 7]] as const) {
      const size = rows * cols;
      const gates = uniform(1, size).map((x, i) =>
        i < 36 && size > 36 ? (i % 2 === 0 ? 1 : -1) * edges[i >> 1]! : x * 10
      );
      const ups = uniform(2, size);
      using gate = tensorOf(backend, rows, cols, gates);
      using up = tensorOf(backend, rows, cols, ups);
      using oracleGate = tensorOf(oracle, rows, cols, gates);
      using oracleUp = tensorOf(oracle, rows, cols, ups);
      const expected = await outputOf(
        oracle,
        rows,
        cols,
        (out) => oracle.swiGlu(out, oracleGate, oracleUp),
      );
      // exp within 4 u, then a sum, a quotient, a product, and the reference's rounding; where
      // exp(-gate) would overflow, a machine may stop at 2^126 and leave a trace instead of 0.
      const near = (i: number) =>
        8 * u * Math.abs(expected[i]!) + 2 ** -126 * (1 + Math.abs(gates[i]! * ups[i]!));
      const actual = await outputOf(backend, rows, cols, (out) => backend.swiGlu(out, gate, up));
      assertNear(actual, expected, near, `${rows} x ${cols}`);
      const overGate = await outputOf(backend, rows, cols, (out) => {
        backend.copy(out, gate);
        backend.swiGlu(out, out, up);
      });
      const overUp = await outputOf(backend, rows, cols, (out) => {
        backend.copy(out, up);
        backend.swiGlu(out, gate, out);
      });
      deepEqual(overGate, actual);
      deepEqual(overUp, actual);
    }
  });

  test(`${label}: copy and add are exact, in place too`, async () => {
    using backend = await open();
    for (
      const [rows, cols] of [[1, 1], [1, 3], [3, 5], [7, 9], [8, 64], [65, 7], [513, 3]] as const
    ) {
      const a = uniform(rows, rows * cols);
      const b = uniform(cols + 100, rows * cols).map((x) => x * 1e-3);
      using first = tensorOf(backend, rows, cols, a);
      using second = tensorOf(backend, rows, cols, b);
      deepEqual(await outputOf(backend, rows, cols, (out) => backend.copy(out, first)), a);
      const sum = a.map((x, i) => x + b[i]!);
      deepEqual(await outputOf(backend, rows, cols, (out) => backend.add(out, first, second)), sum);
      const overFirst = await outputOf(backend, rows, cols, (out) => {
        backend.copy(out, first);
        backend.add(out, out, second);
      });
      const overSecond = await outputOf(backend, rows, cols, (out) => {
        backend.copy(out, second);
        backend.add(out, first, out);
      });
      deepEqual(overFirst, sum);
      deepEqual(overSecond, sum);
    }
  });
}
