/**
 * Attention over a finite scope: pieces of it are gathered and attended to one after another, so that any
 * scope fits in the same room.
 *
 * @module
 */

import type { Rope } from "../../reattention/rope.ts";
import type { Scope, ScopeConfig } from "../../reattention/scope.ts";
import type { WebGpuKvStore } from "./kv_store.ts";
import type { RotaryTables } from "./rotary.ts";
import type { WebGpuSelection } from "./select.ts";
import { ATTEND, ATTEND_MERGE, BLOCK, MAX_WIDTH, QUERIES } from "./shaders/attend.ts";
import { GATHER } from "./shaders/gather.ts";
import { PLACE_QUERIES } from "./shaders/place_queries.ts";
import type { WebGpuTensor } from "./tensor.ts";

/** What gathered keys may occupy, and gathered values, in bytes. */
const GATHERED_BYTES = 1 << 26;

/** Workgroups that keep a device busy; pieces are shared between as many. */
const BUSY = 256;

/** The verb `attend`: see Backend. */
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
): void {
  const { device } = store.owner;
  const { numHeads, numKvHeads, headDim } = store.shape;
  const { rows } = query;
  if (rows === 0) return;
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
    listStride: selection !== null && selection.lists > 1 ? selection.stride : 0,
    is_sequence: positions === "sequence" ? 1 : 0,
  };

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
      const slabs = selection?.buffer
        ? store.slabs(layer, 0, length)
        : [...store.slabs(layer, 0, globalEnd), ...store.slabs(layer, localStart, length)]
          .filter(({ params: { slab } }, i, all) =>
            all.findIndex((each) => each.params.slab === slab) === i
          );
      for (const { buffers: { keys, values }, params } of slabs) {
        device.run(
          GATHER,
          {
            gatheredKeys,
            gatheredValues,
            keys,
            values,
            table,
            selected,
            channels: store.channels,
            angles,
          },
          { ...params, ...what, headDim, start, piece, channelsAt: store.channelsAt(layer) },
          [piece / 64, numKvHeads, Math.ceil(headDim / 8)],
        );
      }
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
