/**
 * Position-agnostic selection, all of it on the device: score, keep each query's best, count votes, keep the
 * most voted, spread. The host says only how much there is of everything.
 *
 * @module
 */

import type { Selection } from "../backend.ts";
import { BLOCK_SIZE, type Scope, type ScopeConfig } from "../../reattention/scope.ts";
import type { Device, DeviceBuffer, Groups } from "./device.ts";
import type { WebGpuKvStore } from "./kv_store.ts";
import { ELECT, SPREAD } from "./shaders/elect.ts";
import { FILL } from "./shaders/fill.ts";
import { KEY_NORMS } from "./shaders/key_norms.ts";
import { SCAN_KEYS, SCAN_QUERIES_AT_ONCE } from "./shaders/scan_keys.ts";
import { SCAN_QUERIES } from "./shaders/scan_queries.ts";
import { BLOCK_MAX, MERGE_PICKS, PART, TOP_K } from "./shaders/top_k.ts";
import { MARGINS, MAX_VOTERS, VOTE } from "./shaders/vote.ts";
import type { WebGpuTensor } from "./tensor.ts";

/** Scores of a tile of keys, at most: 32 MiB. */
const TILE_SCORES = 1 << 23;

/** Keys of a tile, at most: 64 of them are a workgroup, of which there may be 65,535. */
const TILE_KEYS = 1 << 21;

/** Selected tokens on the device: u32[lists][stride], how many and which, ascending. */
export class WebGpuSelection implements Selection {
  readonly buffer: DeviceBuffer | null;
  /** For the layer, or for each KV head. */
  readonly lists: number;
  /** Words from a list to the next. */
  readonly stride: number;
  readonly #device: Device;
  #isCurrent = true;

  /** @param buffer Null: nothing is selected. */
  constructor(device: Device, buffer: DeviceBuffer | null, lists: number, stride: number) {
    this.#device = device;
    this.buffer = buffer;
    this.lists = lists;
    this.stride = stride;
  }

  /** The most tokens of a list. */
  get bound(): number {
    return this.buffer === null ? 0 : this.stride - 1;
  }

  /** @throws {TypeError} If there was another from the same store: a selection lasts until then. */
  check(): void {
    if (this.#isCurrent) return;
    throw new TypeError(
      "Cannot use the selection: it must be the last one made from its store; read it before the next",
    );
  }

  async tokens(): Promise<Uint32Array[]> {
    this.check();
    const { buffer, lists, stride } = this;
    if (buffer === null) return Array.from({ length: lists }, () => new Uint32Array(0));
    const words = new Uint32Array(await this.#device.read(buffer, 0, lists * stride * 4));
    return Array.from({ length: lists }, (_, list) => {
      const start = list * stride + 1;
      return words.slice(start, start + words[start - 1]!);
    });
  }

  /** Gives the buffer back. */
  [Symbol.dispose](): void {
    if (this.#isCurrent && this.buffer !== null) this.#device.release(this.buffer);
    this.#isCurrent = false;
  }
}

/** The verb `select`: see Backend. */
export function select(
  store: WebGpuKvStore,
  layer: number,
  query: WebGpuTensor,
  { globalEnd, localStart }: Scope,
  config: ScopeConfig,
): WebGpuSelection {
  const { device } = store.owner;
  const { numHeads, numKvHeads, headDim } = store.shape;
  const byHead = config.sharing === "kvHead";
  const lists = byHead ? numKvHeads : 1;
  const middle = localStart - globalEnd;
  if (middle <= 0 || config.topK === 0 || query.rows === 0 || config.maxSpans === 0) {
    return new WebGpuSelection(device, null, lists, 1);
  }
  // The newest row picks, and every so many before it.
  const group = numHeads / numKvHeads;
  const queries = Math.ceil(query.rows / config.voteEvery) * group;
  const all = queries * numKvHeads;
  const candidates = config.selector === "blockmax" ? Math.ceil(middle / BLOCK_SIZE) : middle;
  const most = Math.min(config.topK, candidates);
  const pooled = byHead ? queries : all;
  if (config.votes === "margin" && pooled > MAX_VOTERS) {
    throw new RangeError(
      `Cannot select: at most ${MAX_VOTERS} queries' margins can be summed up, got ${pooled}; use ` +
        "shorter steps or a larger voteEvery",
    );
  }

  const borrowed: DeviceBuffer[] = [];
  const borrow = (words: number, what: string) => {
    const buffer = device.allocate(words * 4, what);
    borrowed.push(buffer);
    return buffer;
  };
  try {
    const packed = borrow(all * (store.quads + 1) * 4, "the queries of a selection");
    device.run(SCAN_QUERIES, {
      out: packed,
      x: query.buffer,
      channels: store.channels,
    }, {
      quads: store.quads,
      is_half: store.format === "i16" ? 1 : 0,
      headDim,
      heads: numHeads,
      group,
      queries,
      firstRow: (query.rows - 1) % config.voteEvery,
      every: config.voteEvery,
      xAt: query.offset,
      channelsAt: store.channelsAt(layer),
    }, [queries, numKvHeads]);

    const { picks, ends } = pick(
      store,
      layer,
      packed,
      { queries, all, most, globalEnd, localStart },
      config,
      borrow,
    );

    // Votes. Half of the slots stay free, so that few tokens collide.
    const voters = pooled * most;
    const slots = 2 ** Math.ceil(Math.log2(Math.max(256, 2 * Math.min(voters + 1, middle + 1))));
    const ballots = borrow(lists * slots * 4, "the votes of a selection");
    const largest = borrow(1, "the largest margin");
    const isMargin = config.votes === "margin" ? 1 : 0;
    fill(device, ballots, lists * slots * 4);
    fill(device, largest, 1);
    if (isMargin) {
      device.run(MARGINS, { largest, picks, ends }, { queries: all, most }, lanes(all * most));
    }
    device.run(VOTE, { ballots, picks, ends, largest }, {
      queries: all,
      most,
      perBallot: pooled,
      slots,
      shift: 32 - Math.log2(slots),
      is_margin: isMargin,
      // The authors' kernel starts its result at middle index 0 and leaves places without a block so.
      wanted: config.selector === "blockmax" ? config.topK : 0,
      first: globalEnd,
    }, lanes(all * most));

    const words = Math.ceil(middle / 32);
    const bits = borrow(lists * words, "the selected tokens' bits");
    fill(device, bits, lists * words);
    device.run(ELECT, { bits, ballots }, {
      slots,
      is_margin: isMargin,
      maxSpans: Math.min(config.maxSpans, 0xffffffff),
      reach: config.spanSize / 2,
      first: globalEnd,
      middle,
      words,
    }, [lists]);

    const spans = Math.min(config.maxSpans, voters + 1);
    const stride = 1 + Math.min(middle, spans * config.spanSize);
    const selected = device.allocate(lists * stride * 4, "the selected tokens");
    device.run(SPREAD, { selected, bits, table: store.table() }, {
      words,
      first: globalEnd,
      stride,
      chunkSize: store.chunkSize,
      has_holes: store.hasHoles ? 1 : 0,
    }, [lists]);
    return new WebGpuSelection(device, selected, lists, stride);
  } finally {
    // What was recorded uses them before whoever borrows them next.
    for (const buffer of borrowed) device.release(buffer);
  }
}

/** What is scored. */
interface Scan {
  /** Of a KV head. */
  readonly queries: number;
  /** Of all. */
  readonly all: number;
  /** Picks of each. */
  readonly most: number;
  readonly globalEnd: number;
  readonly localStart: number;
}

/** Each query's picks, tile by tile: shaders/top_k.ts. */
function pick(
  store: WebGpuKvStore,
  layer: number,
  packed: DeviceBuffer,
  { queries, all, most, globalEnd, localStart }: Scan,
  { selector, scores: rule }: ScopeConfig,
  borrow: (words: number, what: string) => DeviceBuffer,
): { readonly picks: DeviceBuffer; readonly ends: DeviceBuffer } {
  const { device } = store.owner;
  const { numKvHeads } = store.shape;
  const middle = localStart - globalEnd;
  // The lists of the best have two words for each score that is kept.
  const budget = Math.min(TILE_SCORES, device.bindingBytes / 8);
  // Whole runs of the block-max selector.
  const stride = Math.min(
    Math.ceil(middle / BLOCK_SIZE),
    TILE_KEYS / BLOCK_SIZE,
    Math.max(1, Math.floor(budget / all / BLOCK_SIZE)),
  ) * BLOCK_SIZE;
  const isExact = selector === "exact";
  const parts = isExact ? Math.ceil(stride / PART) : stride / BLOCK_SIZE;
  const perPart = isExact ? Math.min(most, PART, stride) : 1;
  const length = parts * perPart;
  const scores = borrow(all * stride, "the scores of a selection");
  const lists = borrow(all * length * 2, "the best keys of a selection");
  const ends = borrow(all * 2, "the picks of a selection");
  let before = borrow(all * most * 2, "the picks of a selection");
  let picks = borrow(all * most * 2, "the picks of a selection");
  const norms = rule === "qk" ? packed : borrow(numKvHeads * stride, "the norms of values");
  fill(device, before, all * most * 2);
  const table = store.table();
  for (let origin = globalEnd; origin < localStart; origin += stride) {
    const end = Math.min(localStart, origin + stride);
    const count = end - origin;
    if (store.hasHoles) fill(device, scores, all * stride);
    const ranges = [[origin, end]] as const;
    const range = { start: origin, end, origin, stride };
    const squares = rule === "qkv2" ? 1 : 0;
    for (const { buffer, params } of rule === "qk" ? [] : store.valueSlabs(layer, ranges)) {
      device.run(KEY_NORMS, { norms, values: buffer, table }, { ...params, ...range, squares }, [
        Math.ceil(count / 64),
        numKvHeads,
      ]);
    }
    for (const { buffer, params } of store.keySlabs(layer, ranges)) {
      device.run(
        SCAN_KEYS,
        { scores, keys: buffer, table, packed, norms },
        { ...params, ...range, queries, weighted: rule === "qk" ? 0 : 1 },
        [Math.ceil(count / 64), numKvHeads, Math.ceil(queries / SCAN_QUERIES_AT_ONCE)],
      );
    }
    const rows = Math.min(all, 32768);
    const perQuery = [rows, Math.ceil(all / rows)] as const;
    const what = { queries: all, count, stride, origin };
    const here = Math.ceil(count / (isExact ? PART : BLOCK_SIZE));
    if (isExact) {
      const params = { ...what, most: perPart, parts: here };
      device.run(TOP_K, { lists, scores }, params, [here, ...perQuery]);
    } else device.run(BLOCK_MAX, { lists, scores }, { ...what, runs: here }, [here, ...perQuery]);
    device.run(
      MERGE_PICKS,
      { picks, ends, before, lists },
      { queries: all, most, length: here * perPart },
      perQuery,
    );
    [before, picks] = [picks, before];
  }
  return { picks: before, ends };
}

/** Zeroes words. */
function fill(device: Device, out: DeviceBuffer, count: number): void {
  device.run(FILL, { out }, { count }, lanes(count));
}

/** Workgroups of 64 lanes for so many numbers. */
export function lanes(count: number): Groups {
  const groups = Math.ceil(count / 64);
  const x = Math.min(groups, 32768);
  return [x, Math.ceil(groups / Math.max(1, x))];
}
