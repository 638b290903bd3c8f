/**
 * Attention over a finite scope.
 *
 * @module
 */

import type { Rope } from "../../reattention/rope.ts";
import type { Scope, ScopeConfig } from "../../reattention/scope.ts";
import { giveBack, lend, lendEmpty } from "./arenas.ts";
import type { WasmTensor } from "./handles.ts";
import type { WasmKvStore } from "./kv_store.ts";
import type { Frame } from "./memory.ts";
import { SegmentList } from "./segments.ts";
import type { WasmSelection } from "./select.ts";

/** Queries that share what is gathered: more gain little, and their state leaves the L2 cache. */
const QUERIES_PER_PART = 256;

/** Queries of a KV head, of all rows and heads, for which values are not worth being transposed. */
const FEW_QUERIES = 16;

/** Tokens of a piece of the scope, which one thread attends to for few queries: six blocks. */
const PIECE_TOKENS = 2304;

/** The verb `attend`: see Backend. */
export function attend(
  out: WasmTensor,
  query: WasmTensor,
  store: WasmKvStore,
  layer: number,
  scope: Scope,
  selection: WasmSelection | null,
  rope: Rope,
  positions: ScopeConfig["positions"],
): void {
  const home = store.home(layer);
  const { memory, kernels, crew } = home;
  const { numHeads, numKvHeads, headDim } = store.shape;
  const { rows } = query;
  if (rows === 0) return;
  const group = numHeads / numKvHeads;
  const selected = selection?.runs ?? [];
  using frame = memory.frame();
  const lists = selected.length > 1
    ? selected.map((runs) => segmentsOf(frame, store, layer, scope, runs, positions))
    : [segmentsOf(frame, store, layer, scope, selected[0] ?? new Uint32Array(0), positions)];
  const longest = Math.max(...lists.map(({ tokens }) => tokens));
  const ropePtr = home.rotary.cover(rope, positions === "scope" ? longest : scope.length);

  const [to, from] = [lendEmpty(frame, out, home), lend(frame, query, home)];
  const stride = Math.max(...lists.map(({ records }) => records.length)) * 4;
  const segmentsPtr = frame.take(lists.length * stride, "the list of keys");
  const endsPtr = frame.take(lists.length * 8, "the list of keys");
  const u32 = memory.u32;
  lists.forEach((list, i) => {
    u32.set(list.records, (segmentsPtr + i * stride) / 4);
    const end = positions === "scope" ? list.tokens : scope.length;
    u32.set([end, list.tokens], endsPtr / 4 + 2 * i);
  });

  const perHead = lists.length > 1;
  const inputs = [
    from.ptr,
    segmentsPtr,
    endsPtr,
    ropePtr,
    0,
    store.layout(layer),
    store.channels(layer),
    from.stride,
    perHead ? stride : 0,
    perHead ? 8 : 0,
    headDim,
    group,
    rows,
  ];
  const cost = 2 * longest * (rows + 16) * numHeads * headDim;
  // Which of the two must not depend on the number of threads: their results differ in the last bits.
  if (rows * group <= FEW_QUERIES) {
    const pieces = Math.ceil(longest / PIECE_TOKENS);
    const items = numKvHeads * pieces;
    const statesPtr = frame.take(
      kernels.attendFewStateBytes(items, rows * group, headDim),
      "what heads saw in pieces of the scope",
    );
    crew.run(home.number, {
      kernel: "attendFew",
      args: [statesPtr, ...inputs, PIECE_TOKENS, numKvHeads],
      scratchAt: 5,
      scratchBytes: kernels.attendFewScratchBytes(rows * group, headDim),
      items,
      cost,
    });
    kernels.attendMerge(to.ptr, statesPtr, to.stride, numKvHeads, headDim, group, rows, pieces);
    giveBack(out, to);
    return;
  }
  const wanted = Math.ceil(crew.threads / numKvHeads);
  const partRows = Math.max(
    1,
    Math.min(rows, Math.floor(QUERIES_PER_PART / group), Math.ceil(rows / wanted)),
  );
  const parts = Math.ceil(rows / partRows);
  crew.run(home.number, {
    kernel: "attend",
    args: [to.ptr, ...inputs, partRows, parts],
    scratchAt: 5,
    scratchBytes: kernels.attendScratchBytes(partRows, group, headDim),
    items: numKvHeads * parts,
    cost,
  });
  giveBack(out, to);
}

/** global | selected | local with their positions: 0..n-1, or the true ones. */
function segmentsOf(
  frame: Frame,
  store: WasmKvStore,
  layer: number,
  { globalEnd, localStart, length }: Scope,
  runs: Uint32Array,
  positions: ScopeConfig["positions"],
): SegmentList {
  const list = new SegmentList(store, layer, frame);
  const add = (start: number, end: number) =>
    list.add(start, end, positions === "scope" ? list.tokens : start);
  add(0, globalEnd);
  for (let i = 0; i < runs.length; i += 2) add(runs[i]!, runs[i + 1]!);
  add(localStart, length);
  return list;
}
