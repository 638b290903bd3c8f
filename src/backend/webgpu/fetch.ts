/**
 * The values of a scope that are in the spill file: read from there, and brought to the device.
 *
 * @module
 */

import type { Scope } from "../../reattention/scope.ts";
import type { DeviceBuffer } from "./device.ts";
import type { WebGpuKvStore } from "./kv_store.ts";

/** Rows of values on the device: shaders/gather.ts. */
export interface Fetched {
  readonly buffer: DeviceBuffer;
  readonly fetchedFirst: number;
  readonly fetchedRows: number;
}

/** Tokens [start, end) of one chunk, from place `index` of the scope of a list on. */
interface Run {
  readonly list: number;
  readonly index: number;
  readonly start: number;
  readonly end: number;
}

/** Whether values that a scope may hold are in the spill file. */
export function mayFetch(
  store: WebGpuKvStore,
  { globalEnd, localStart, length }: Scope,
  selects: boolean,
): boolean {
  const ranges = selects ? [[0, length]] : [[0, globalEnd], [localStart, length]];
  return ranges.some(([start, end]) => store.spilledWithin(start!, end!).length > 0);
}

/**
 * Fetches what a piece of the scope has in the spill file.
 *
 * @param lists The selected tokens, of all KV heads or of each.
 * @param first The piece's first place in the scope.
 * @param count Its places.
 * @returns What to give back; null where all is on the device.
 */
export function fetchValues(
  store: WebGpuKvStore,
  layer: number,
  scope: Scope,
  lists: readonly Uint32Array[],
  first: number,
  count: number,
): Fetched | null {
  const runs = lists.flatMap((
    tokens,
    list,
  ) => [...runsOf(store, scope, tokens, list, first, count)]);
  if (runs.length === 0) return null;
  const { device } = store.owner;
  const { valueStride } = store;
  const fetchedFirst = Math.min(...runs.map(({ index }) => index));
  const fetchedRows = Math.max(...runs.map(({ index, start, end }) => index + end - start)) -
    fetchedFirst;
  const heads = lists.length;
  const rowBytes = valueStride / heads;
  const bytes = new Uint8Array(heads * fetchedRows * rowBytes);
  for (const { list, index, start, end } of runs) {
    const at = (list * fetchedRows + index - fetchedFirst) * rowBytes;
    const rows = end - start;
    if (heads === 1) {
      store.readSpilled(bytes.subarray(at, at + rows * rowBytes), layer, start);
      continue;
    }
    const whole = new Uint8Array(rows * valueStride);
    store.readSpilled(whole, layer, start);
    for (let row = 0; row < rows; row++) {
      const from = row * valueStride + list * rowBytes;
      bytes.set(whole.subarray(from, from + rowBytes), at + row * rowBytes);
    }
  }
  const buffer = device.allocate(bytes.byteLength, "values from the spill file");
  device.write(buffer, 0, bytes);
  return { buffer, fetchedFirst, fetchedRows };
}

/** The spilled runs of places [first, first + count). */
function* runsOf(
  store: WebGpuKvStore,
  { globalEnd, localStart, length }: Scope,
  tokens: Uint32Array,
  list: number,
  first: number,
  count: number,
): Generator<Run> {
  let index = 0;
  for (const [from, to] of [[0, globalEnd], ...stretches(tokens), [localStart, length]]) {
    const start = from! + Math.max(0, first - index);
    const end = Math.min(to!, from! + first + count - index);
    for (const [begin, stop] of store.spilledWithin(start, end)) {
      yield { list, index: index + begin - from!, start: begin, end: stop };
    }
    index += to! - from!;
  }
}

/** Ascending tokens as [start, end). */
function* stretches(tokens: Uint32Array): Generator<[start: number, end: number]> {
  for (let i = 0; i < tokens.length;) {
    const start = i++;
    while (i < tokens.length && tokens[i] === tokens[i - 1]! + 1) i++;
    yield [tokens[start]!, tokens[i - 1]! + 1];
  }
}
