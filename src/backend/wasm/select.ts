/**
 * Position-agnostic selection: score and rank in the kernels, vote and spread here.
 *
 * @module
 */

import type { Selection } from "../backend.ts";
import { BLOCK_SIZE, type Scope, type ScopeConfig } from "../../reattention/scope.ts";
import { lend } from "./arenas.ts";
import type { WasmTensor } from "./handles.ts";
import type { WasmKvStore } from "./kv_store.ts";
import { joinPicks, padPicks, type Picks, toPicks } from "./picks.ts";
import { SegmentList } from "./segments.ts";
import { type Ballot, spread } from "./votes.ts";

/** What the kernels call the scores: `Weighting` in asm/scan_keys.ts. */
const WEIGHTINGS = { qk: 0, qkv1: 1, qkv2: 2 } as const;

/** Keys below which sharing a scan between threads costs more than it gives. */
const KEYS_PER_PART = 512;

/** Selected tokens as runs. */
export class WasmSelection implements Selection {
  /** u32[runs][start, end], ascending: for the layer, or for each KV head. */
  readonly runs: readonly Uint32Array[];

  constructor(runs: readonly Uint32Array[]) {
    this.runs = runs;
  }

  tokens(): Promise<Uint32Array[]> {
    return Promise.resolve(this.runs.map(expand));
  }
}

function expand(runs: Uint32Array): Uint32Array {
  let count = 0;
  for (let i = 0; i < runs.length; i += 2) count += runs[i + 1]! - runs[i]!;
  const tokens = new Uint32Array(count);
  let at = 0;
  for (let i = 0; i < runs.length; i += 2) {
    for (let t = runs[i]!; t < runs[i + 1]!; t++) tokens[at++] = t;
  }
  return tokens;
}

/** The verb `select`: see Backend. */
export function select(
  ballot: Ballot,
  store: WasmKvStore,
  layer: number,
  query: WasmTensor,
  { globalEnd, localStart }: Scope,
  config: ScopeConfig,
): WasmSelection {
  const { numKvHeads } = store.shape;
  const numLists = config.sharing === "kvHead" ? numKvHeads : 1;
  if (localStart <= globalEnd || config.topK === 0 || query.rows === 0) {
    return new WasmSelection(Array.from({ length: numLists }, () => new Uint32Array(0)));
  }
  const picks = pick(store, layer, query, globalEnd, localStart, config);
  const pools = config.sharing === "kvHead" ? picks : [joinPicks(picks)];
  return new WasmSelection(pools.map((pool) => {
    const kept = ballot.elect(pool, globalEnd, localStart, config.maxSpans);
    // A span may reach into what was forgotten.
    return store.withoutForgotten(spread(kept, config.spanSize, globalEnd, localStart));
  }));
}

/** For each KV head, what its queries picked. */
function pick(
  store: WasmKvStore,
  layer: number,
  query: WasmTensor,
  globalEnd: number,
  localStart: number,
  config: ScopeConfig,
): Picks[] {
  const { quads } = store;
  const home = store.home(layer);
  const { memory, kernels, crew } = home;
  const { numHeads, numKvHeads, headDim } = store.shape;
  const group = numHeads / numKvHeads;
  // The newest row picks, and every so many before it.
  const rows = Math.ceil(query.rows / config.voteEvery);
  const firstRow = (query.rows - 1) % config.voteEvery;
  const queries = rows * group;
  const blocks = config.selector === "blockmax";
  const middle = localStart - globalEnd;
  const candidates = blocks ? Math.ceil(middle / BLOCK_SIZE) : middle;
  const topK = Math.min(config.topK, candidates);

  using frame = memory.frame();
  const segments = new SegmentList(store, layer, config.scores === "qk" ? null : frame);
  if (blocks) {
    for (let t = globalEnd; t < localStart; t += BLOCK_SIZE) {
      segments.add(t, Math.min(t + BLOCK_SIZE, localStart), t, true);
    }
  } else segments.add(globalEnd, localStart, globalEnd);
  // Two parts a thread, so that one that is held up keeps the others waiting for half as long.
  const partStarts = cut(segments, crew.threads > 1 ? 2 * crew.threads : 1);
  const parts = partStarts.length - 1;

  const { ptr, stride } = lend(frame, query, home);
  const listBytes = kernels.listBytes(queries, topK);
  const channels = store.channels(layer);
  const queryBytes = kernels.packedQueryBytes(queries, quads);
  const lists = frame.take(numKvHeads * parts * listBytes, "the best keys of each query");
  const packed = frame.take(numKvHeads * queryBytes, "queries");
  const segmentsPtr = frame.take(segments.records.length * 4, "the list of keys");
  const partsPtr = frame.take(partStarts.length * 4, "the list of keys");
  memory.u32.set(segments.records, segmentsPtr / 4);
  memory.u32.set(partStarts, partsPtr / 4);
  for (let head = 0; head < numKvHeads; head++) {
    kernels.packQueries(
      packed + head * queryBytes,
      ptr + firstRow * stride + head * group * headDim * 4,
      stride * config.voteEvery,
      store.layout(layer),
      channels + head * quads * 48,
      headDim,
      group,
      rows,
    );
  }
  crew.run(home.number, {
    kernel: "selectKeys",
    args: [
      lists,
      packed,
      segmentsPtr,
      partsPtr,
      0,
      store.layout(layer),
      queries,
      topK,
      WEIGHTINGS[config.scores],
      blocks ? 1 : 0,
      home.dots.exact ? 1 : 0,
      parts,
    ],
    scratchAt: 4,
    scratchBytes: kernels.scanScratchBytes(),
    items: numKvHeads * parts,
    cost: middle * rows * numHeads * headDim,
  });

  const entries = queries * topK;
  return Array.from({ length: numKvHeads }, (_, head) => {
    const first = lists + head * parts * listBytes;
    for (let part = 1; part < parts; part++) {
      const later = first + part * listBytes;
      kernels.mergeTopK(first, first + 4 * entries, later, later + 4 * entries, queries, topK);
    }
    const start = first / 4;
    const picks = toPicks(
      memory.u32.subarray(start + entries, start + 2 * entries),
      memory.f32.subarray(start, start + entries),
      topK,
      config.votes,
    );
    // The authors' kernel starts its result at middle index 0 and leaves places without a block so.
    return blocks ? padPicks(picks, queries * config.topK, globalEnd) : picks;
  });
}

/** Where the parts of a scan begin, and the end: at segments, and at the start of a block-max run. */
function cut(segments: SegmentList, most: number): number[] {
  const parts = Math.max(1, Math.min(most, Math.floor(segments.tokens / KEYS_PER_PART)));
  const { length } = segments;
  const ends = Array.from({ length }, (_, i) => segments.endsRun(i));
  const whole = !ends.includes(true);
  const starts = [0];
  let tokens = 0;
  for (let i = 0; i < length; i++) {
    const begins = whole || i === 0 || ends[i - 1]!;
    if (starts.length < parts && begins && tokens >= segments.tokens * starts.length / parts) {
      if (i > 0) starts.push(i);
    }
    tokens += segments.count(i);
  }
  return [...starts, length];
}
