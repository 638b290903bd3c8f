/**
 * The GPU backend: WGSL kernels over buffers of one device. Verbs are recorded and handed over together;
 * nothing comes back but what is read.
 *
 * @module
 */

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
import { checkGain, checkLargest, checkScores, checkShape, checkSize } from "../checks.ts";
import type { Rope } from "../../reattention/rope.ts";
import type { Scope, ScopeConfig } from "../../reattention/scope.ts";
import { attend } from "./attend.ts";
import type { Device } from "./device.ts";
import { WebGpuKvStore } from "./kv_store.ts";
import { largest } from "./largest.ts";
import { Ledger } from "./ledger.ts";
import type { Owner } from "./owner.ts";
import { RotaryTables } from "./rotary.ts";
import { lanes, select, WebGpuSelection } from "./select.ts";
import { ADD } from "./shaders/add.ts";
import { EMBED } from "./shaders/embed.ts";
import { MANY_ROWS, MATMUL_FEW, MATMUL_MANY, segmentQuads, TILE_ROWS } from "./shaders/matmul.ts";
import { RMS_NORM } from "./shaders/rms_norm.ts";
import { SWIGLU } from "./shaders/swiglu.ts";
import { WebGpuTensor } from "./tensor.ts";
import { loadWeight, WebGpuWeight } from "./weights.ts";

/** The most rows of a step: kernels count them in one direction. */
const MAX_ROWS = 65535;

/** See {@linkcode openWebGpuBackend}. */
export class WebGpuBackend implements Backend, Owner {
  readonly name = "webgpu";
  readonly device: Device;
  readonly ledger: Ledger;
  readonly #tables: RotaryTables;
  readonly #ownsDevice: boolean;
  #disposed = false;

  /** @param memoryLimit The most that handles may occupy, in bytes. */
  constructor(device: Device, memoryLimit: number, ownsDevice: boolean) {
    this.device = device;
    this.ledger = new Ledger(memoryLimit);
    this.#tables = new RotaryTables(device);
    this.#ownsDevice = ownsDevice;
  }

  get description(): string {
    return `webgpu, ${this.device.label}`;
  }

  get byteLength(): number {
    return this.ledger.usedBytes;
  }

  async weight(source: WeightSource): Promise<Weight> {
    checkSize(`the weight "${source.name}"`, source.rows, source.cols);
    return await loadWeight(this, source);
  }

  tensor(rows: number, cols: number): Tensor {
    checkSize("a tensor", rows, cols);
    if (rows > MAX_ROWS) {
      throw new RangeError(
        `Cannot make a tensor: the webgpu backend's have at most ${MAX_ROWS} rows, got ${rows}`,
      );
    }
    const what = `a tensor of ${rows} x ${cols}`;
    this.ledger.take(what, rows * cols * 4);
    try {
      const buffer = this.device.allocate(rows * cols * 4, what);
      return new WebGpuTensor(this, rows, cols, buffer, 0, true);
    } catch (error) {
      this.ledger.give(rows * cols * 4);
      throw error;
    }
  }

  rows(x: Tensor, start: number, end: number): Tensor {
    const { buffer, offset, rows, cols } = this.#tensor(x);
    if (!(start >= 0 && start <= end && end <= rows)) {
      throw new RangeError(
        `Cannot view rows: they must be within the tensor's ${rows}, got [${start}, ${end})`,
      );
    }
    return new WebGpuTensor(this, end - start, cols, buffer, offset + start * cols, false);
  }

  kvStore(shape: AttentionShape, options: KvStoreOptions = {}): KvStore {
    return new WebGpuKvStore(this, shape, options);
  }

  write(out: Tensor, values: Float32Array): void {
    const to = this.#tensor(out);
    if (values.length !== out.rows * out.cols) {
      throw new TypeError(
        `Cannot write a tensor: it holds ${out.rows} x ${out.cols} values, got ${values.length}`,
      );
    }
    this.device.write(to.buffer, to.offset * 4, values);
  }

  async read(x: Tensor): Promise<Float32Array> {
    const { buffer, offset, rows, cols } = this.#tensor(x);
    return new Float32Array(await this.device.read(buffer, offset * 4, rows * cols * 4));
  }

  largest(x: Tensor, count: number): Promise<Largest> {
    const row = this.#tensor(x);
    checkLargest(x, count);
    return largest(row, count);
  }

  async sync(): Promise<void> {
    await this.device.sync();
  }

  copy(out: Tensor, x: Tensor): void {
    const [to, from] = [this.#tensor(out), this.#tensor(x)];
    checkShape("copy", "out", out, x.rows, x.cols);
    const bytes = x.rows * x.cols * 4;
    if (to.buffer !== from.buffer) {
      this.device.copy(to.buffer, to.offset * 4, from.buffer, from.offset * 4, bytes);
      return;
    }
    const between = this.device.allocate(bytes, "a copy");
    this.device.copy(between, 0, from.buffer, from.offset * 4, bytes);
    this.device.copy(to.buffer, to.offset * 4, between, 0, bytes);
    this.device.release(between);
  }

  embed(out: Tensor, table: Weight, tokens: Uint32Array): void {
    const [to, from] = [this.#tensor(out), this.#weight(table)];
    checkShape("embed", "out", out, tokens.length, table.cols);
    for (const token of tokens) {
      if (token < table.rows) continue;
      throw new RangeError(
        `Cannot embed: a token must be below the table's ${table.rows} rows, got ${token}`,
      );
    }
    const { buffer, offset } = this.device.upload(tokens);
    for (const { start, rows: tableRows, numbers, scales } of from.parts) {
      this.device.run(
        EMBED[from.packing.name],
        { out: to.buffer, tokens: buffer, numbers, scales },
        {
          panel: from.panel,
          quads: from.quads,
          rows: tokens.length,
          cols: table.cols,
          start,
          tableRows,
          outAt: to.offset,
          tokensAt: offset,
        },
        [Math.ceil(from.quads / 64), tokens.length],
      );
    }
  }

  rmsNorm(out: Tensor, x: Tensor, gain: Weight, epsilon: number): void {
    const [to, from, factors] = [this.#tensor(out), this.#tensor(x), this.#weight(gain)];
    checkShape("normalize", "out", out, x.rows, x.cols);
    checkGain(x, gain);
    const { cols } = gain;
    const rows = x.rows * (x.cols / cols);
    const across = Math.min(rows, 32768);
    this.device.run(
      RMS_NORM,
      { out: to.buffer, x: from.buffer, gain: factors.parts[0]!.numbers },
      { rows, cols, outAt: to.offset, xAt: from.offset, epsilon, share: 1 / cols },
      [across, Math.ceil(rows / Math.max(1, across))],
    );
  }

  matmul(out: Tensor, x: Tensor, weight: Weight): void {
    const [to, from, factors] = [this.#tensor(out), this.#tensor(x), this.#weight(weight)];
    checkShape("multiply", "weight", weight, weight.rows, x.cols);
    checkShape("multiply", "out", out, x.rows, weight.rows);
    const { name } = factors.packing;
    const isFew = x.rows < MANY_ROWS;
    const kernel = (isFew ? MATMUL_FEW : MATMUL_MANY)[name];
    for (const { start, rows: outputs, numbers, scales } of factors.parts) {
      this.device.run(kernel, { out: to.buffer, x: from.buffer, numbers, scales }, {
        panel: factors.panel,
        quads: factors.quads,
        rows: x.rows,
        inputs: x.cols,
        outputs,
        segment: segmentQuads(factors.quads),
        start,
        cols: weight.rows,
        outAt: to.offset,
        xAt: from.offset,
      }, [Math.ceil(outputs / factors.panel), isFew ? x.rows : Math.ceil(x.rows / TILE_ROWS)]);
    }
  }

  swiGlu(out: Tensor, gate: Tensor, up: Tensor): void {
    const [to, a, b] = [this.#tensor(out), this.#tensor(gate), this.#tensor(up)];
    checkShape("gate", "out", out, gate.rows, gate.cols);
    checkShape("gate", "up", up, gate.rows, gate.cols);
    const count = gate.rows * gate.cols;
    this.device.run(
      SWIGLU,
      { out: to.buffer, gate: a.buffer, up: b.buffer },
      { count, outAt: to.offset, gateAt: a.offset, upAt: b.offset },
      lanes(count),
    );
  }

  add(out: Tensor, a: Tensor, b: Tensor): void {
    const [to, x, y] = [this.#tensor(out), this.#tensor(a), this.#tensor(b)];
    checkShape("add", "out", out, a.rows, a.cols);
    checkShape("add", "b", b, a.rows, a.cols);
    const count = a.rows * a.cols;
    this.device.run(
      ADD,
      { out: to.buffer, a: x.buffer, b: y.buffer },
      { count, period: count, outAt: to.offset, aAt: x.offset, bAt: y.offset },
      lanes(count),
    );
  }

  addBias(out: Tensor, x: Tensor, bias: Weight): void {
    const [to, from, row] = [this.#tensor(out), this.#tensor(x), this.#weight(bias)];
    checkShape("add", "out", out, x.rows, x.cols);
    checkShape("add", "bias", bias, 1, x.cols);
    const count = x.rows * x.cols;
    this.device.run(
      ADD,
      { out: to.buffer, a: from.buffer, b: row.parts[0]!.numbers },
      { count, period: x.cols, outAt: to.offset, aAt: from.offset, bAt: 0 },
      lanes(count),
    );
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
    from.selection?.[Symbol.dispose]();
    from.selection = null;
    const selection = select(from, layer, queries, scope, config);
    from.selection = selection;
    return selection;
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
  ): void | Promise<void> {
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
    if (selection !== null && !(selection instanceof WebGpuSelection)) throw foreign("selection");
    selection?.check();
    return attend(to, queries, from, layer, scope, selection, this.#tables, rope, positions);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#ownsDevice) return this.device.destroy();
    this.#tables[Symbol.dispose]();
  }

  #tensor(x: Tensor): WebGpuTensor {
    if (x instanceof WebGpuTensor && x.owner === this) return x;
    throw foreign("tensor");
  }

  #weight(weight: Weight): WebGpuWeight {
    if (weight instanceof WebGpuWeight && weight.owner === this) return weight;
    throw foreign("weight");
  }

  #store(store: KvStore): WebGpuKvStore {
    if (store instanceof WebGpuKvStore && store.owner === this) return store;
    throw foreign("KV store");
  }
}

function foreign(what: string): TypeError {
  return new TypeError(`Cannot use the ${what}: it must be one that this backend made`);
}
