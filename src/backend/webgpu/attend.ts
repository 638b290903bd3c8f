/**
 * Attention over a finite scope: pieces of it are gathered and attended to one after another, so that any
 * scope fits in the same room.
 *
 * @module
 */

import type { Rope } from "../../reattention/rope.ts";
import type { Scope, ScopeConfig } from "../../reattention/scope.ts";
import { fetchValues, mayFetch } from "./fetch.ts";
import type { WebGpuKvStore } from "./kv_store.ts";
import type { RotaryTables } from "./rotary.ts";
import type { WebGpuSelection } from "./select.ts";
import { ATTEND, ATTEND_MERGE, BLOCK, MAX_WIDTH, QUERIES } from "./shaders/attend.ts";
import { GATHER_KEYS, GATHER_VALUES, VALUE_QUADS } from "./shaders/gather.ts";
import { PLACE_QUERIES } from "./shaders/place_queries.ts";
import type { WebGpuTensor } from "./tensor.ts";

/** What gathered keys may occupy, and gathered values, in bytes. */
const GATHERED_BYTES = 1 << 26;

/** Workgroups that keep a device busy; pieces are shared between as many. */
const BUSY = 256;

/**
 * The verb `attend`: see Backend.
 *
 * Waits where the selection may hold tokens whose values are in the spill file: what was selected is read back then,
 * 4 bytes a token, and the values of those that are there are sent to the device.
 */
export function attend(
  out: WebGpuTensor,
  query: WebGpuTensor,
  store: WebGpuKvStore,
  layer: number,
  scope: Scope,
  selection: WebGpuSelection | null,
  tables: RotaryTables,
  rope: Rope,
  positions: ScopeConfig["positions"],
): void | Promise<void> {
  const what = { out, query, store, layer, scope, selection, tables, rope, positions };
  if (query.rows === 0) return;
  const selects = Boolean(selection?.buffer);
  if (!mayFetch(store, scope, selects)) return attendTo(what, null);
  if (!selects) return attendTo(what, [new Uint32Array(0)]);
  return selection!.tokens().then((lists) => {
    // The store may be another one than it was.
    selection!.check();
    store.checkRead("attend", layer, scope.length);
    attendTo(what, lists);
  });
}

/** One attention call. */
interface Call {
  readonly out: WebGpuTensor;
  readonly query: WebGpuTensor;
  readonly store: WebGpuKvStore;
  readonly layer: number;
  readonly scope: Scope;
  readonly selection: WebGpuSelection | null;
  readonly tables: RotaryTables;
  readonly rope: Rope;
  readonly positions: ScopeConfig["positions"];
}

/** @param lists What was selected; null where all values are on the device. */
function attendTo(
  { out, query, store, layer, scope, selection, tables, rope, positions }: Call,
  lists: readonly Uint32Array[] | null,
): void {
  const { device } = store.owner;
  const { numHeads, numKvHeads, headDim } = store.shape;
  const { rows } = query;
  const { quads } = store;
  const width = 4 * quads;
  if (width > MAX_WIDTH) {
    throw new RangeError(
      `Cannot attend: the webgpu backend's heads have at most ${MAX_WIDTH} numbers, got ${headDim}`,
    );
  }
  const group = numHeads / numKvHeads;
  const queries = rows * group;
  const { globalEnd, localStart, length } = scope;
  const bound = globalEnd + (selection?.bound ?? 0) + length - localStart;
  const angles = tables.cover(rope, positions === "sequence" ? length : bound);
  const table = store.table();
  const selected = selection?.buffer ?? table;
  const what = {
    globalEnd,
    localStart,
    length,
    has_selection: selection?.buffer ? 1 : 0,
    listStride: selection?.buffer && selection.lists > 1 ? selection.stride : 0,
    is_sequence: positions === "sequence" ? 1 : 0,
  };

  const ranges = selection?.buffer
    ? [[0, length]] as const
    : [[0, globalEnd], [localStart, length]] as const;

  const room = Math.min(GATHERED_BYTES, device.bindingBytes) / (numKvHeads * width * 4);
  const piece = Math.min(Math.ceil(bound / BLOCK), Math.max(1, Math.floor(room / BLOCK))) * BLOCK;
  const tiles = Math.ceil(queries / QUERIES) * numKvHeads;
  const shares = Math.min(piece / BLOCK, Math.max(1, Math.floor(BUSY / tiles)));
  const own = width <= 64 ? 1 : width <= 128 ? 2 : 4;
  const gatheredKeys = device.allocate(numKvHeads * width * piece * 4, "the keys of a scope");
  const gatheredValues = device.allocate(numKvHeads * width * piece * 4, "the values of a scope");
  const placed = device.allocate(numHeads * rows * width * 4, "rotated queries");
  const states = device.allocate(
    shares * numHeads * rows * (width + 2) * 4,
    "what queries have seen",
  );
  try {
    device.run(PLACE_QUERIES, { placed, x: query.buffer, selected, angles }, {
      ...what,
      quads,
      headDim,
      heads: numHeads,
      group,
      rows,
      xAt: query.offset,
      scale: 1 / Math.sqrt(headDim),
    }, [Math.ceil(headDim / 128), numHeads, rows]);
    for (let start = 0; start < bound; start += piece) {
      const range = { ...what, start, piece };
      for (const { buffer, params } of store.keySlabs(layer, ranges)) {
        device.run(
          GATHER_KEYS,
          { gatheredKeys, keys: buffer, table, selected, channels: store.channels, angles },
          { ...params, ...range, headDim, channelsAt: store.channelsAt(layer) },
          [piece / 64, numKvHeads, Math.ceil(headDim / 8)],
        );
      }
      const fetched = lists && fetchValues(store, layer, scope, lists, start, piece);
      const slabs = store.valueSlabs(layer, ranges);
      if (fetched) slabs.push(store.fetchedSlab(fetched.buffer));
      for (const { buffer, params } of slabs) {
        device.run(GATHER_VALUES, { gatheredValues, values: buffer, table, selected }, {
          ...params,
          ...range,
          is_fetched: buffer === fetched?.buffer ? 1 : 0,
          fetchedFirst: fetched?.fetchedFirst ?? 0,
          fetchedRows: fetched?.fetchedRows ?? 0,
        }, [piece / 64, numKvHeads, Math.ceil(quads / VALUE_QUADS)]);
      }
      if (fetched) device.release(fetched.buffer);
      device.run(ATTEND[own], { states, gatheredKeys, gatheredValues, placed, selected }, {
        ...what,
        quads,
        piece,
        start,
        group,
        rows,
        kvHeads: numKvHeads,
        shares,
        is_first: start === 0 ? 1 : 0,
      }, [Math.ceil(queries / QUERIES), numKvHeads, shares]);
    }
    device.run(ATTEND_MERGE, { out: out.buffer, states }, {
      width,
      headDim,
      heads: numHeads,
      group,
      rows,
      shares,
      outAt: out.offset,
    }, [numHeads, rows]);
  } finally {
    for (const buffer of [gatheredKeys, gatheredValues, placed, states]) device.release(buffer);
  }
}
