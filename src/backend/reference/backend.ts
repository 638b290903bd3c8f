/**
 * The oracle: every verb as the plainest loop, summed in float64 and rounded once to f32. Slow, and
 * on purpose without any cleverness that the fast backends could share.
 *
 * @module
 */

import { checkGain, checkLargest, checkShape, checkSize } from "../checks.ts";
import type {
  AttentionShape,
  Backend,
  KvStore,
  KvStoreOptions,
  Largest,
  Selection,
  Tensor,
  Weight,
  WeightSource,
} from "../backend.ts";
import type { Rope } from "../../reattention/rope.ts";
import type { Scope, ScopeConfig } from "../../reattention/scope.ts";
import { attend } from "./attend.ts";
import { ReferenceKvStore } from "./kv_store.ts";
import { Ledger } from "./ledger.ts";
import { bytesOf, createNumbers, type Numbers, numbersPerBlock, unpack } from "./numbers.ts";
import { select } from "./select.ts";

/** Plain loops, float64 sums: slow, and what the other backends are tested against. */
export class ReferenceBackend implements Backend {
  readonly name = "reference";
  readonly description = "reference (plain loops, float64 sums)";
  readonly #ledger: Ledger = new Ledger();

  get byteLength(): number {
    return this.#ledger.byteLength;
  }

  async weight(source: WeightSource): Promise<Weight> {
    const { rows, cols, format } = source;
    checkSize("a weight", rows, cols);
    if (cols % numbersPerBlock(format) !== 0) {
      throw new RangeError(
        `Cannot make the weight "${source.name}": columns in ${format} must be a multiple of ` +
          `${numbersPerBlock(format)}, got ${cols}`,
      );
    }
    const byteLength = bytesOf(format, rows * cols);
    this.#ledger.take(source.name, byteLength);
    try {
      const numbers = createNumbers(format, rows * cols);
      await source.read(new Uint8Array(numbers.data.buffer, 0, byteLength), 0);
      return new ReferenceWeight(rows, cols, numbers, this.#ledger);
    } catch (error) {
      this.#ledger.give(byteLength);
      throw error;
    }
  }

  tensor(rows: number, cols: number): Tensor {
    checkSize("a tensor", rows, cols);
    this.#ledger.take(`a tensor of ${rows} x ${cols}`, rows * cols * 4);
    // NaN, so that what nobody wrote shows.
    const values = new Float32Array(rows * cols).fill(NaN);
    return new ReferenceTensor(rows, cols, values, this.#ledger);
  }

  rows(x: Tensor, start: number, end: number): Tensor {
    if (!(start >= 0 && start <= end && end <= x.rows)) {
      throw new RangeError(
        `Cannot view rows: they must be within the tensor's ${x.rows}, got [${start}, ${end})`,
      );
    }
    const values = valuesOf(x).subarray(start * x.cols, end * x.cols);
    return new ReferenceTensor(end - start, x.cols, values, null);
  }

  kvStore(shape: AttentionShape, options: KvStoreOptions = {}): KvStore {
    return new ReferenceKvStore(shape, options, this.#ledger);
  }

  write(out: Tensor, values: Float32Array): void {
    if (values.length !== out.rows * out.cols) {
      throw new TypeError(
        `Cannot write a tensor: it holds ${out.rows} x ${out.cols} values, got ${values.length}`,
      );
    }
    valuesOf(out).set(values);
  }

  read(x: Tensor): Promise<Float32Array> {
    return Promise.resolve(valuesOf(x).slice());
  }

  largest(x: Tensor, count: number): Promise<Largest> {
    checkLargest(x, count);
    const row = valuesOf(x);
    const order = Array.from(row, (_, i) => i).sort((a, b) => {
      const [first, second] = [row[a]!, row[b]!].map((value) => isNaN(value) ? Infinity : value);
      const nans = Number(isNaN(row[b]!)) - Number(isNaN(row[a]!));
      return nans || (first === second ? a - b : second! - first!);
    }).slice(0, count);
    return Promise.resolve({
      values: Float32Array.from(order, (i) => row[i]! + 0),
      indices: Uint32Array.from(order),
    });
  }

  sync(): Promise<void> {
    return Promise.resolve();
  }

  copy(out: Tensor, x: Tensor): void {
    checkShape("copy", "out", out, x.rows, x.cols);
    valuesOf(out).set(valuesOf(x));
  }

  embed(out: Tensor, table: Weight, tokens: Uint32Array): void {
    checkShape("embed", "out", out, tokens.length, table.cols);
    const row = new Float64Array(table.cols);
    tokens.forEach((token, r) => {
      if (token >= table.rows) {
        throw new RangeError(
          `Cannot embed: a token must be below the table's ${table.rows} rows, got ${token}`,
        );
      }
      unpack(row, numbersOf(table), token * table.cols);
      valuesOf(out).set(row, r * table.cols);
    });
  }

  rmsNorm(out: Tensor, x: Tensor, gain: Weight, epsilon: number): void {
    checkShape("normalize", "out", out, x.rows, x.cols);
    checkGain(x, gain);
    const from = valuesOf(x);
    const to = valuesOf(out);
    const { cols } = gain;
    const factors = new Float64Array(cols);
    unpack(factors, numbersOf(gain), 0);
    for (let start = 0; start < from.length; start += cols) {
      let squares = 0;
      for (let d = 0; d < cols; d++) squares += from[start + d]! ** 2;
      const scale = 1 / Math.sqrt(squares / cols + epsilon);
      for (let d = 0; d < cols; d++) to[start + d] = from[start + d]! * scale * factors[d]!;
    }
  }

  matmul(out: Tensor, x: Tensor, weight: Weight): void {
    checkShape("multiply", "weight", weight, weight.rows, x.cols);
    checkShape("multiply", "out", out, x.rows, weight.rows);
    const from = valuesOf(x);
    const to = valuesOf(out);
    const factors = new Float64Array(x.cols);
    for (let o = 0; o < weight.rows; o++) {
      unpack(factors, numbersOf(weight), o * x.cols);
      for (let r = 0; r < x.rows; r++) {
        let sum = 0;
        for (let d = 0; d < x.cols; d++) sum += from[r * x.cols + d]! * factors[d]!;
        to[r * weight.rows + o] = sum;
      }
    }
  }

  swiGlu(out: Tensor, gate: Tensor, up: Tensor): void {
    checkShape("gate", "out", out, gate.rows, gate.cols);
    checkShape("gate", "up", up, gate.rows, gate.cols);
    const to = valuesOf(out);
    const ups = valuesOf(up);
    valuesOf(gate).forEach((x, i) => to[i] = x / (1 + Math.exp(-x)) * ups[i]!);
  }

  add(out: Tensor, a: Tensor, b: Tensor): void {
    checkShape("add", "out", out, a.rows, a.cols);
    checkShape("add", "b", b, a.rows, a.cols);
    const to = valuesOf(out);
    const bs = valuesOf(b);
    valuesOf(a).forEach((x, i) => to[i] = x + bs[i]!);
  }

  addBias(out: Tensor, x: Tensor, bias: Weight): void {
    checkShape("add", "out", out, x.rows, x.cols);
    checkShape("add", "bias", bias, 1, x.cols);
    const to = valuesOf(out);
    const biases = new Float64Array(x.cols);
    unpack(biases, numbersOf(bias), 0);
    valuesOf(x).forEach((value, i) => to[i] = value + biases[i % x.cols]!);
  }

  append(store: KvStore, layer: number, start: number, key: Tensor, value: Tensor): void {
    const cols = store.shape.numKvHeads * store.shape.headDim;
    checkShape("append", "key", key, key.rows, cols);
    checkShape("append", "value", value, key.rows, cols);
    storeOf(store).append(layer, start, valuesOf(key), valuesOf(value));
  }

  select(
    store: KvStore,
    layer: number,
    query: Tensor,
    scope: Scope,
    config: ScopeConfig,
  ): Selection {
    checkShape("select", "query", query, query.rows, store.shape.numHeads * store.shape.headDim);
    return new ReferenceSelection(
      select(storeOf(store), layer, valuesOf(query), scope, config),
    );
  }

  attend(
    out: Tensor,
    query: Tensor,
    store: KvStore,
    layer: number,
    scope: Scope,
    selection: Selection | null,
    rope: Rope,
    positions: ScopeConfig["positions"],
  ): void {
    checkShape("attend", "query", query, query.rows, store.shape.numHeads * store.shape.headDim);
    checkShape("attend", "out", out, query.rows, query.cols);
    const selected = selection === null ? [] : listsOf(selection);
    const from = valuesOf(query);
    attend(valuesOf(out), from, storeOf(store), layer, scope, selected, rope, positions);
  }

  [Symbol.dispose](): void {
    // The garbage collector takes the arrays.
  }
}

class ReferenceTensor implements Tensor {
  readonly rows: number;
  readonly cols: number;
  readonly values: Float32Array;
  #ledger: Ledger | null;

  /** `ledger` counts the values already; null for a view. */
  constructor(rows: number, cols: number, values: Float32Array, ledger: Ledger | null) {
    this.rows = rows;
    this.cols = cols;
    this.values = values;
    this.#ledger = ledger;
  }

  [Symbol.dispose](): void {
    this.#ledger?.give(this.values.byteLength);
    this.#ledger = null;
  }
}

class ReferenceWeight implements Weight {
  readonly rows: number;
  readonly cols: number;
  readonly numbers: Numbers;
  #ledger: Ledger | null;

  /** `ledger` counts the numbers already. */
  constructor(rows: number, cols: number, numbers: Numbers, ledger: Ledger) {
    this.rows = rows;
    this.cols = cols;
    this.numbers = numbers;
    this.#ledger = ledger;
  }

  get byteLength(): number {
    return this.numbers.data.byteLength;
  }

  [Symbol.dispose](): void {
    this.#ledger?.give(this.byteLength);
    this.#ledger = null;
  }
}

class ReferenceSelection implements Selection {
  readonly lists: readonly Uint32Array[];

  constructor(lists: readonly Uint32Array[]) {
    this.lists = lists;
  }

  tokens(): Promise<Uint32Array[]> {
    return Promise.resolve(this.lists.map((list) => list.slice()));
  }
}

function valuesOf(x: Tensor): Float32Array {
  if (x instanceof ReferenceTensor) return x.values;
  throw foreign("tensor");
}

function numbersOf(weight: Weight): Numbers {
  if (weight instanceof ReferenceWeight) return weight.numbers;
  throw foreign("weight");
}

function storeOf(store: KvStore): ReferenceKvStore {
  if (store instanceof ReferenceKvStore) return store;
  throw foreign("KV store");
}

function listsOf(selection: Selection): readonly Uint32Array[] {
  if (selection instanceof ReferenceSelection) return selection.lists;
  throw foreign("selection");
}

function foreign(what: string): TypeError {
  return new TypeError(`Cannot use the ${what}: it must be one that the reference backend made`);
}
