/**
 * The CPU backend: AssemblyScript kernels over one WebAssembly memory.
 *
 * @module
 */

import { checkGain, checkLargest, checkScores, checkShape, checkSize } from "../checks.ts";
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
import type { BackendOptions } from "../backend.ts";
import type { Rope } from "../../reattention/rope.ts";
import type { Scope, ScopeConfig } from "../../reattention/scope.ts";
import { BackendUnavailableError } from "../../errors.ts";
import { buildOf, hasSimd } from "../../../wasm/loader.ts";
import { type Arenas, giveBack, lendEmpty } from "./arenas.ts";
import { attend } from "./attend.ts";
import {
  createTensor,
  loadWeight,
  readTensor,
  WasmTensor,
  WasmWeight,
  writeTensor,
} from "./handles.ts";
import { MAX_THREADS } from "./job.ts";
import { WasmKvStore } from "./kv_store.ts";
import { largest } from "./largest.ts";
import type { Machine } from "./machine.ts";
import { FORMATS, MAX_MEMORY_BYTES } from "./memory.ts";
import { multiply } from "./multiply.ts";
import { type Internals, openArenas } from "./open_arenas.ts";
import { isQuantised, unpackQuantised } from "./quantised.ts";
import { select, WasmSelection } from "./select.ts";
import { findWorkerHost } from "./threads.ts";
import { Ballot } from "./votes.ts";

/**
 * Opens the wasm backend.
 *
 * @throws {BackendUnavailableError} If the engine has no 128-bit SIMD, or `options.module` is not the
 * kernels.
 */
export async function openWasmBackend(
  options: BackendOptions = {},
  internals: Internals = {},
): Promise<Backend> {
  const host = await findWorkerHost();
  const { threads = host?.cores ?? 1, memoryLimit = MAX_MEMORY_BYTES } = options;
  if (!Number.isSafeInteger(threads) || threads < 1 || threads > MAX_THREADS) {
    throw new RangeError(
      `Cannot open the wasm backend: threads must be an integer from 1 to ${MAX_THREADS}, got ${threads}`,
    );
  }
  if (!(memoryLimit > 0)) {
    throw new RangeError(
      `Cannot open the wasm backend: memoryLimit must be a number of bytes, got ${memoryLimit}`,
    );
  }
  if (!hasSimd()) {
    throw new BackendUnavailableError(
      "Cannot open the wasm backend: the engine must have WebAssembly SIMD, and this one has none",
    );
  }
  const arenas = await openArenas(options.module, host, threads, memoryLimit, internals);
  await arenas.first.crew.start();
  return new WasmBackend(arenas, threads);
}

/** See {@linkcode openWasmBackend}. */
class WasmBackend implements Backend {
  readonly name = "wasm";
  readonly #arenas: Arenas;
  readonly #ballot = new Ballot();

  /** Threads that were asked for. */
  readonly #wanted: number;

  constructor(arenas: Arenas, wanted: number) {
    this.#arenas = arenas;
    this.#wanted = wanted;
  }

  /** Where tensors are. */
  get #machine(): Machine {
    return this.#arenas.first;
  }

  get description(): string {
    const { kernels, crew } = this.#machine;
    const simd = buildOf(kernels).relaxed ? "relaxed SIMD" : "plain SIMD";
    const threads = crew.threads === 1 ? "1 thread" : `${crew.threads} threads`;
    const why = crew.threads < this.#wanted
      ? ` (${this.#wanted} wanted, but ${crew.failure ?? "memory cannot be shared here"})`
      : "";
    return `wasm, ${simd}, ${threads}${why}`;
  }

  get byteLength(): number {
    const { budget, all, first } = this.#arenas;
    const tables = all.reduce((sum, { rotary }) => sum + rotary.byteLength, 0);
    return budget.usedBytes - first.crew.byteLength - tables;
  }

  async weight(source: WeightSource): Promise<Weight> {
    checkSize(`the weight "${source.name}"`, source.rows, source.cols);
    return await loadWeight(this.#arenas, source);
  }

  tensor(rows: number, cols: number): Tensor {
    checkSize("a tensor", rows, cols);
    return createTensor(this.#machine, rows, cols);
  }

  rows(x: Tensor, start: number, end: number): Tensor {
    const { machine, ptr, stride, rows, cols } = this.#tensor(x);
    if (!(start >= 0 && start <= end && end <= rows)) {
      throw new RangeError(
        `Cannot view rows: they must be within the tensor's ${rows}, got [${start}, ${end})`,
      );
    }
    return new WasmTensor(machine, end - start, cols, ptr + start * stride, false);
  }

  kvStore(shape: AttentionShape, options: KvStoreOptions = {}): KvStore {
    return new WasmKvStore(this.#arenas, shape, options);
  }

  write(out: Tensor, values: Float32Array): void {
    if (values.length !== out.rows * out.cols) {
      throw new TypeError(
        `Cannot write a tensor: it holds ${out.rows} x ${out.cols} values, got ${values.length}`,
      );
    }
    writeTensor(this.#machine.memory, this.#tensor(out), values);
  }

  read(x: Tensor): Promise<Float32Array> {
    return Promise.resolve(readTensor(this.#machine.memory, this.#tensor(x)));
  }

  largest(x: Tensor, count: number): Promise<Largest> {
    const { ptr, cols } = this.#tensor(x);
    checkLargest(x, count);
    return Promise.resolve(
      largest(this.#machine.memory.f32.subarray(ptr / 4, ptr / 4 + cols), count),
    );
  }

  sync(): Promise<void> {
    return Promise.resolve();
  }

  copy(out: Tensor, x: Tensor): void {
    const [to, from] = [this.#tensor(out), this.#tensor(x)];
    checkShape("copy", "out", out, x.rows, x.cols);
    this.#machine.memory.u8.copyWithin(to.ptr, from.ptr, from.ptr + from.rows * from.stride);
  }

  embed(out: Tensor, table: Weight, tokens: Uint32Array): void {
    const from = this.#weight(table);
    const { machine } = from;
    checkShape("embed", "out", out, tokens.length, table.cols);
    using frame = machine.memory.frame();
    const filled = this.#tensor(out);
    const to = lendEmpty(frame, filled, machine);
    for (let r = 0; r < tokens.length; r++) {
      const token = tokens[r]!;
      if (token >= table.rows) {
        throw new RangeError(
          `Cannot embed: a token must be below the table's ${table.rows} rows, got ${token}`,
        );
      }
      const row = to.ptr + r * to.stride;
      if (from.isVector) {
        machine.memory.u8.copyWithin(row, from.ptr, from.ptr + from.byteLength);
      } else if (isQuantised(from.format)) {
        unpackQuantised(machine, row, from.ptr, from, from.format, token);
      } else machine.kernels.unpackRow(row, from.ptr, token, from.quads, FORMATS[from.format]);
    }
    giveBack(filled, to);
  }

  rmsNorm(out: Tensor, x: Tensor, gain: Weight, epsilon: number): void {
    const [to, from, factors] = [this.#tensor(out), this.#tensor(x), this.#weight(gain)];
    checkShape("normalize", "out", out, x.rows, x.cols);
    checkGain(x, gain);
    const { cols, quads } = factors;
    // Parts of a row have no padding, so that they lie like rows of their own.
    const rows = from.rows * (from.cols / cols);
    this.#machine.kernels.rmsNorm(to.ptr, from.ptr, factors.ptr, epsilon, cols, quads, 0, rows);
  }

  matmul(out: Tensor, x: Tensor, weight: Weight): void {
    const [to, from, factors] = [this.#tensor(out), this.#tensor(x), this.#weight(weight)];
    checkShape("multiply", "weight", weight, weight.rows, x.cols);
    checkShape("multiply", "out", out, x.rows, weight.rows);
    if (x.rows > 0) multiply(to, from, factors);
  }

  swiGlu(out: Tensor, gate: Tensor, up: Tensor): void {
    const [to, a, b] = [this.#tensor(out), this.#tensor(gate), this.#tensor(up)];
    checkShape("gate", "out", out, gate.rows, gate.cols);
    checkShape("gate", "up", up, gate.rows, gate.cols);
    const items = a.rows * a.quads;
    this.#machine.crew.run(0, {
      kernel: "swiGlu",
      args: [to.ptr, a.ptr, b.ptr],
      scratchAt: -1,
      scratchBytes: 0,
      items,
      // A quad takes about as long as 150 multiplications.
      cost: items * 150,
    });
  }

  add(out: Tensor, a: Tensor, b: Tensor): void {
    const [to, x, y] = [this.#tensor(out), this.#tensor(a), this.#tensor(b)];
    checkShape("add", "out", out, a.rows, a.cols);
    checkShape("add", "b", b, a.rows, a.cols);
    this.#machine.kernels.add(to.ptr, x.ptr, y.ptr, 0, x.rows * x.quads);
  }

  addBias(out: Tensor, x: Tensor, bias: Weight): void {
    const [to, from, row] = [this.#tensor(out), this.#tensor(x), this.#weight(bias)];
    checkShape("add", "out", out, x.rows, x.cols);
    checkShape("add", "bias", bias, 1, x.cols);
    const { kernels } = this.#machine;
    for (let r = 0; r < from.rows; r++) {
      const offset = r * from.stride;
      kernels.add(to.ptr + offset, from.ptr + offset, row.ptr, 0, from.quads);
    }
  }

  append(store: KvStore, layer: number, start: number, key: Tensor, value: Tensor): void {
    const [to, keys, values] = [this.#store(store), this.#tensor(key), this.#tensor(value)];
    const { numKvHeads, headDim } = store.shape;
    checkShape("append", "key", key, key.rows, numKvHeads * headDim);
    checkShape("append", "value", value, key.rows, numKvHeads * headDim);
    to.append(layer, start, keys, values);
  }

  select(
    store: KvStore,
    layer: number,
    query: Tensor,
    scope: Scope,
    config: ScopeConfig,
  ): Selection {
    const [from, queries] = [this.#store(store), this.#tensor(query)];
    checkShape("select", "query", query, query.rows, store.shape.numHeads * store.shape.headDim);
    from.checkRead("select", layer, scope.localStart);
    checkScores("select", config.scores, from.spills);
    return select(this.#ballot, from, layer, queries, scope, config);
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
    const [to, queries, from] = [this.#tensor(out), this.#tensor(query), this.#store(store)];
    const { numHeads, headDim } = store.shape;
    checkShape("attend", "query", query, query.rows, numHeads * headDim);
    checkShape("attend", "out", out, query.rows, query.cols);
    from.checkRead("attend", layer, scope.length);
    const { globalEnd, localStart, length } = scope;
    from.checkKept("attend", 0, globalEnd);
    from.checkKept("attend", localStart, length);
    if (length - (globalEnd < localStart ? localStart : 0) < query.rows) {
      throw new RangeError(
        `Cannot attend: the local region must hold the ${query.rows} queries, got [${localStart}, ${length})`,
      );
    }
    if (rope.inverseFrequencies.length !== headDim / 2) {
      throw new TypeError(
        `Cannot attend: the rope must have ${
          headDim / 2
        } frequencies, got ${rope.inverseFrequencies.length}`,
      );
    }
    if (selection !== null && !(selection instanceof WasmSelection)) throw foreign("selection");
    attend(to, queries, from, layer, scope, selection, rope, positions);
  }

  [Symbol.dispose](): void {
    this.#arenas[Symbol.dispose]();
  }

  #tensor(x: Tensor): WasmTensor {
    if (x instanceof WasmTensor && x.machine === this.#machine) return x;
    throw foreign("tensor");
  }

  #weight(weight: Weight): WasmWeight {
    if (weight instanceof WasmWeight && this.#arenas.all.includes(weight.machine)) return weight;
    throw foreign("weight");
  }

  #store(store: KvStore): WasmKvStore {
    if (store instanceof WasmKvStore && store.arenas === this.#arenas) return store;
    throw foreign("KV store");
  }
}

function foreign(what: string): TypeError {
  return new TypeError(`Cannot use the ${what}: it must be one that this backend made`);
}
