/**
 * Keys and values of a piece of a scope, side by side: keys rotated and by quads, so that neighbouring
 * lanes read neighbouring keys; values as rows.
 *
 *     gatheredKeys   = f32[kvHeads][quads][piece][4]
 *     gatheredValues = f32[kvHeads][piece][4 * quads]
 *
 * @module
 */

import { defineKernel } from "../kernel.ts";
import { KEY_PARAMS, KEY_QUAD, slotOf, VALUE_PARAMS, VALUE_QUAD } from "./kv_layout.ts";
import { ANGLE_OF } from "./rope.ts";
import { SCOPE, SCOPE_PARAMS } from "./scope.ts";

/** A lane has a token (x), a KV head (y), and four pairs of numbers (z). Keys of other slabs stay as they are. */
export const GATHER_KEYS = defineKernel({
  name: "gatherKeys",
  params: {
    ...KEY_PARAMS,
    ...SCOPE_PARAMS,
    headDim: "u32",
    start: "u32", // the piece's first token in the scope
    piece: "u32", // tokens
    channelsAt: "u32",
  },
  buffers: {
    gatheredKeys: ["read_write", "array<f32>"],
    keys: ["read", "array<u32>"],
    table: ["read", "array<u32>"],
    selected: ["read", "array<u32>"],
    channels: ["read", "array<f32>"],
    angles: ["read", "array<vec2<f32>>"],
  },
  code: `${slotOf("keys")}
${KEY_QUAD}
${ANGLE_OF}
${SCOPE}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let head = id.y;
  let i = p.start + id.x;
  if (id.x >= p.piece || i >= scopeLength(head)) { return; }
  let t = tokenAt(head, i);
  let slot = slotOf(t);
  if (slot == NOWHERE) { return; }
  let row = t % p.chunkSize;
  let position = select(i, t, p.is_sequence != 0u);
  let width = p.quads * 4u;
  let half = p.headDim / 2u;
  let at = slot * p.slotWords + head * p.headWords;
  let scale = keyScale(at, row);
  let channel = p.channelsAt + head * 3u * width;
  let toKey = (head * p.quads * p.piece + id.x) * 4u;
  for (var j = 0u; j < 4u; j += 1u) {
    let near = id.z * 4u + j;
    if (near >= half) { break; }
    let far = near + half;
    let a = numberOf(at, row, near, scale, channel, width);
    let b = numberOf(at, row, far, scale, channel, width);
    let angle = angleOf(position, near);
    gatheredKeys[toKey + (near / 4u) * p.piece * 4u + near % 4u] = fma(a, angle.x, -(b * angle.y));
    gatheredKeys[toKey + (far / 4u) * p.piece * 4u + far % 4u] = fma(b, angle.x, a * angle.y);
  }
  if (id.z == 0u) {
    for (var d = p.headDim; d < width; d += 1u) {
      gatheredKeys[toKey + (d / 4u) * p.piece * 4u + d % 4u] = 0.0;
    }
  }
}

/** A key's number as it came: in i16 the channels are undone. */
fn numberOf(at: u32, row: u32, d: u32, scale: f32, channel: u32, width: u32) -> f32 {
  var four = keyQuad(at, row, d / 4u);
  let number = four[d % 4u];
  if (p.is_half == 0u) { return number; }
  return fma(number * scale, channels[channel + 2u * width + d], channels[channel + d]);
}`,
});

/** Vectors of four numbers that a lane of {@linkcode GATHER_VALUES} has. */
export const VALUE_QUADS = 2;

/**
 * A lane has a token (x), a KV head (y), and two vectors of four numbers (z). Values of other slabs stay as they are.
 *
 * What was fetched from the spill file is a slab of its own, with rows in the scope's order from `fetchedFirst` on:
 * where all heads have one list of tokens, rows are of all heads; else each head has `fetchedRows` of its own.
 */
export const GATHER_VALUES = defineKernel({
  name: "gatherValues",
  params: {
    ...VALUE_PARAMS,
    ...SCOPE_PARAMS,
    start: "u32", // the piece's first token in the scope
    piece: "u32", // tokens
    is_fetched: "u32", // whether the slab is what was fetched
    fetchedFirst: "u32",
    fetchedRows: "u32",
  },
  buffers: {
    gatheredValues: ["read_write", "array<f32>"],
    values: ["read", "array<u32>"],
    table: ["read", "array<u32>"],
    selected: ["read", "array<u32>"],
  },
  code: `${slotOf("values")}
${VALUE_QUAD}
${SCOPE}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let head = id.y;
  let i = p.start + id.x;
  if (id.x >= p.piece || i >= scopeLength(head)) { return; }
  let t = tokenAt(head, i);
  let slot = slotOf(t);
  if (slot == NOWHERE) { return; }
  let words = valueHeadWords();
  var at = slot * p.slotWords + (t % p.chunkSize) * p.rowWords + head * words;
  if (p.is_fetched != 0u) {
    let row = i - p.fetchedFirst;
    if (p.listStride == 0u) { at = row * p.rowWords + head * words; }
    else { at = (head * p.fetchedRows + row) * words; }
  }
  let to = (head * p.piece + id.x) * p.quads * 4u;
  let end = min(p.quads, (id.z + 1u) * ${VALUE_QUADS}u);
  for (var quad = id.z * ${VALUE_QUADS}u; quad < end; quad += 1u) {
    let value = valueQuad(at, quad);
    gatheredValues[to + quad * 4u] = value.x;
    gatheredValues[to + quad * 4u + 1u] = value.y;
    gatheredValues[to + quad * 4u + 2u] = value.z;
    gatheredValues[to + quad * 4u + 3u] = value.w;
  }
}`,
});
