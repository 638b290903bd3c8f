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
import { KEY_QUAD, KV_PARAMS, SLOT_OF, VALUE_QUAD } from "./kv_layout.ts";
import { ANGLE_OF } from "./rope.ts";
import { SCOPE, SCOPE_PARAMS } from "./scope.ts";

/** A lane has a token (x), a KV head (y), and four pairs of numbers (z). Keys of other slabs stay as they are. */
export const GATHER = defineKernel({
  name: "gather",
  params: {
    ...KV_PARAMS,
    ...SCOPE_PARAMS,
    headDim: "u32",
    start: "u32", // the piece's first token in the scope
    piece: "u32", // tokens
    channelsAt: "u32",
  },
  buffers: {
    gatheredKeys: ["read_write", "array<f32>"],
    gatheredValues: ["read_write", "array<f32>"],
    keys: ["read", "array<u32>"],
    values: ["read", "array<u32>"],
    table: ["read", "array<u32>"],
    selected: ["read", "array<u32>"],
    channels: ["read", "array<f32>"],
    angles: ["read", "array<vec2<f32>>"],
  },
  code: `${SLOT_OF}
${KEY_QUAD}
${VALUE_QUAD}
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
  let at = slot * p.keyWords + head * p.headWords;
  let scale = keyScale(at, row);
  let channel = p.channelsAt + head * 3u * width;
  let valueAt = slot * p.valueWords + row * p.rowWords + head * valueHeadWords();
  let toKey = (head * p.quads * p.piece + id.x) * 4u;
  let toValue = (head * p.piece + id.x) * width;
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
  for (var quad = id.z; quad < p.quads; quad += (half + 3u) / 4u) {
    let value = valueQuad(valueAt, quad);
    let to = toValue + quad * 4u;
    gatheredValues[to] = value.x;
    gatheredValues[to + 1u] = value.y;
    gatheredValues[to + 2u] = value.z;
    gatheredValues[to + 3u] = value.w;
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
