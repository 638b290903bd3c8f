/**
 * The CPU backend: AssemblyScript kernels over one WebAssembly memory.
 *
 * @module
 */

import { checkShape, checkSize } from "../checks.ts";
import type {
  AttentionShape,
  Backend,
  KvStore,
  KvStoreOptions,
  Selection,
  Tensor,
  Weight,
  WeightSource,
} from "../backend.ts";
import type { BackendOptions } from "../backend.ts";
import type { Rope } from "../../reattention/rope.ts";
import type { Scope, ScopeConfig } from "../../reattention/scope.ts";
import { BackendUnavailableError } from "../../errors.ts";
import {
  buildOf,
  compileKernels,
  hasRelaxedSimd,
  hasSimd,
  instantiateKernels,
} from "../../../wasm/loader.ts";
import { attend } from "./attend.ts";
import {
  createTensor,
  loadWeight,
  packVector,
  panelsOf,
  readTensor,
  vectorPanelBytes,
  WasmTensor,
  WasmWeight,
  writeTensor,
} from "./handles.ts";
import { WasmKvStore } from "./kv_store.ts";
import type { Machine } from "./machine.ts";
import { createMemory, FORMATS, Memory } from "./memory.ts";
import {
  type ByteDots,
  isQuantised,
  multiplyQuantised,
  probeByteDots,
  unpackQuantised,
} from "./quantised.ts";
import { RotaryTables } from "./rotary.ts";
import { select, WasmSelection } from "./select.ts";
import { MAX_THREADS } from "./job.ts";
import { canShareMemory, Crew, defaultThreads } from "./threads.ts";
import { Ballot } from "./votes.ts";

/** Columns from which on packing activations pays: a panel of weights and two rows fill the L1 cache. */
const PAIRED_COLS = 1024;

/**
 * Opens the wasm backend.
 *
 * @param dots How bytes are multiplied, for tests of the ways that this engine would not take.
 * @throws {BackendUnavailableError} If the engine has no 128-bit SIMD, or `options.module` is not the
 * kernels.
 */
export async function openWasmBackend(
  options: BackendOptions = {},
  dots?: ByteDots,
): Promise<Backend> {
  const { threads = defaultThreads(), memoryLimit = Infinity } = options;
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
  const machine = await openMachine(
    options.module,
    canShareMemory() ? threads : 1,
    memoryLimit,
    dots,
  );
  await machine.crew.start();
  return new WasmBackend(machine, threads);
}

async function openMachine(
  given: WebAssembly.Module | undefined,
  threads: number,
  limitBytes: number,
  dots?: ByteDots,
): Promise<Machine> {
  // A module that was compiled elsewhere may be of either kind; only trying tells.
  const kinds = given === undefined ? [threads > 1] : [threads > 1, threads === 1];
  let failure: unknown;
  for (const shared of kinds.filter((shared) => !shared || canShareMemory())) {
    const module = given ?? await compileKernels({ relaxed: hasRelaxedSimd(), shared });
    const created = createMemory(shared, limitBytes);
    try {
      const kernels = await instantiateKernels(module, created.memory);
      const base = kernels.heapBase() >>> 0;
      const held = new Memory(created.memory, base, created.limitBytes);
      return {
        memory: held,
        kernels,
        crew: new Crew(held, kernels, module, shared ? threads : 1),
        dots: dots ?? probeByteDots(kernels),
      };
    } catch (cause) {
      failure = cause;
    }
  }
  throw new BackendUnavailableError(
    "Cannot open the wasm backend: the module must be one of wasm/kernels_*.wasm of this version",
    { cause: failure },
  );
}

/** See {@linkcode openWasmBackend}. */
class WasmBackend implements Backend {
  readonly name = "wasm";
  readonly #machine: Machine;
  readonly #ballot = new Ballot();
  readonly #rotary: RotaryTables;

  /** Threads that were asked for. */
  readonly #wanted: number;

  constructor(machine: Machine, wanted: number) {
    this.#machine = machine;
    this.#wanted = wanted;
    this.#rotary = new RotaryTables(machine.memory, machine.kernels);
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
    const { memory, crew } = this.#machine;
    return memory.usedBytes - crew.byteLength - this.#rotary.byteLength;
  }

  async weight(source: WeightSource): Promise<Weight> {
    checkSize(`the weight "${source.name}"`, source.rows, source.cols);
    return await loadWeight(this.#machine, source);
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
    return new WasmKvStore(this.#machine, shape, options);
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

  sync(): Promise<void> {
    return Promise.resolve();
  }

  copy(out: Tensor, x: Tensor): void {
    const [to, from] = [this.#tensor(out), this.#tensor(x)];
    checkShape("copy", "out", out, x.rows, x.cols);
    this.#machine.memory.u8.copyWithin(to.ptr, from.ptr, from.ptr + from.rows * from.stride);
  }

  embed(out: Tensor, table: Weight, tokens: Uint32Array): void {
    const { kernels, memory } = this.#machine;
    const [to, from] = [this.#tensor(out), this.#weight(table)];
    checkShape("embed", "out", out, tokens.length, table.cols);
    for (let r = 0; r < tokens.length; r++) {
      const token = tokens[r]!;
      if (token >= table.rows) {
        throw new RangeError(
          `Cannot embed: a token must be below the table's ${table.rows} rows, got ${token}`,
        );
      }
      const row = to.ptr + r * to.stride;
      if (from.isVector) memory.u8.copyWithin(row, from.ptr, from.ptr + from.byteLength);
      else if (isQuantised(from.format)) {
        unpackQuantised(this.#machine, row, from.ptr, from, from.format, token);
      } else kernels.unpackRow(row, from.ptr, token, from.quads, FORMATS[from.format]);
    }
  }

  rmsNorm(out: Tensor, x: Tensor, gain: Weight, epsilon: number): void {
    const [to, from, factors] = [this.#tensor(out), this.#tensor(x), this.#weight(gain)];
    checkShape("normalize", "out", out, x.rows, x.cols);
    checkShape("normalize", "gain", gain, 1, x.cols);
    const { rows, cols, quads } = from;
    this.#machine.kernels.rmsNorm(to.ptr, from.ptr, factors.ptr, epsilon, cols, quads, 0, rows);
  }

  matmul(out: Tensor, x: Tensor, weight: Weight): void {
    const { kernels, memory, crew } = this.#machine;
    const [to, from, factors] = [this.#tensor(out), this.#tensor(x), this.#weight(weight)];
    checkShape("multiply", "weight", weight, weight.rows, x.cols);
    checkShape("multiply", "out", out, x.rows, weight.rows);
    if (x.rows === 0) return;
    if (isQuantised(factors.format)) return multiplyQuantised(this.#machine, to, from, factors);
    using frame = memory.frame();
    let panels = factors.ptr;
    if (factors.isVector) {
      panels = frame.take(vectorPanelBytes(factors), "a weight of one row");
      packVector(factors, panels);
    }
    let pairs = 0;
    if (x.rows > 1 && x.cols >= PAIRED_COLS) {
      const count = x.rows >> 1;
      pairs = frame.take(count * 2 * from.stride, "packed activations");
      crew.run({
        kernel: "packPairs",
        args: [pairs, from.ptr, from.stride, from.quads],
        scratchAt: -1,
        scratchBytes: 0,
        items: count,
        // A quad takes about as long as ten multiplications.
        cost: x.rows * from.quads * 10,
      });
    }
    crew.run({
      kernel: "matmul",
      args: [
        to.ptr,
        from.ptr,
        pairs,
        panels,
        0,
        to.stride,
        from.stride,
        from.rows,
        factors.rows,
        factors.quads,
        FORMATS[factors.format],
      ],
      scratchAt: 4,
      scratchBytes: kernels.matmulScratchBytes(factors.quads, from.rows),
      items: panelsOf(factors),
      cost: x.rows * x.cols * factors.rows,
    });
  }

  swiGlu(out: Tensor, gate: Tensor, up: Tensor): void {
    const [to, a, b] = [this.#tensor(out), this.#tensor(gate), this.#tensor(up)];
    checkShape("gate", "out", out, gate.rows, gate.cols);
    checkShape("gate", "up", up, gate.rows, gate.cols);
    const items = a.rows * a.quads;
    this.#machine.crew.run({
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

  append(store: KvStore, layer: number, start: number, key: Tensor, value: Tensor): void {
    const { kernels } = this.#machine;
    const [to, keys, values] = [this.#store(store), this.#tensor(key), this.#tensor(value)];
    const { numKvHeads, headDim } = store.shape;
    checkShape("append", "key", key, key.rows, numKvHeads * headDim);
    checkShape("append", "value", value, key.rows, numKvHeads * headDim);
    const { chunkSize, headStride, valueOffset, format } = to;
    to.extend(layer, start, start + key.rows);
    const half = format === "f16" ? 1 : 0;
    for (let r = 0; r < key.rows;) {
      const token = start + r;
      const count = Math.min(key.rows - r, chunkSize - token % chunkSize);
      const ptr = to.keyPtr(layer, token);
      const from = r * keys.stride;
      const sizes = [headStride, keys.stride, numKvHeads, headDim, half, count] as const;
      kernels.storeRows(ptr, keys.ptr + from, ...sizes);
      kernels.storeRows(ptr + valueOffset, values.ptr + from, ...sizes);
      r += count;
    }
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
    attend(this.#rotary, to, queries, from, layer, scope, selection, rope, positions);
  }

  [Symbol.dispose](): void {
    this.#rotary[Symbol.dispose]();
    this.#machine.crew[Symbol.dispose]();
  }

  #tensor(x: Tensor): WasmTensor {
    if (x instanceof WasmTensor && x.machine === this.#machine) return x;
    throw foreign("tensor");
  }

  #weight(weight: Weight): WasmWeight {
    if (weight instanceof WasmWeight && weight.machine === this.#machine) return weight;
    throw foreign("weight");
  }

  #store(store: KvStore): WasmKvStore {
    if (store instanceof WasmKvStore && store.machine === this.#machine) return store;
    throw foreign("KV store");
  }
}

function foreign(what: string): TypeError {
  return new TypeError(`Cannot use the ${what}: it must be one that this backend made`);
}
