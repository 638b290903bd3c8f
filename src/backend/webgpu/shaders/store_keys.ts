/**
 * Keys into chunks, as asm/kv_layout.ts lays them out:
 *
 *     n = round((key - centre) * weight / scale), |n| <= 16383;  16384 + n = 256 * high + low
 *
 * @module
 */

import { defineKernel } from "../kernel.ts";
import { KEY_PARAMS, slotOf } from "./kv_layout.ts";

/** A workgroup has a token's key of one KV head. */
export const STORE_KEYS = defineKernel({
  name: "storeKeys",
  params: {
    ...KEY_PARAMS,
    rows: "u32",
    kvHeads: "u32",
    headDim: "u32",
    start: "u32", // the first row's token
    xAt: "u32",
    channelsAt: "u32",
  },
  buffers: {
    keys: ["read_write", "array<u32>"],
    x: ["read", "array<f32>"],
    channels: ["read", "array<f32>"],
    table: ["read", "array<u32>"],
  },
  code: `${slotOf("keys")}
const LIMIT = 16383.0;
var<workgroup> largest: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let lane = local.x;
  let head = group.x;
  let t = p.start + group.y;
  let slot = slotOf(t);
  if (slot == NOWHERE) { return; }
  let row = t % p.chunkSize;
  let width = p.quads * 4u;
  let begin = p.xAt + (group.y * p.kvHeads + head) * p.headDim;
  let channelsAt = p.channelsAt + head * 3u * width;
  var most = 0.0;
  for (var d = lane; d < p.headDim; d += 64u) {
    most = max(most, abs((x[begin + d] - channels[channelsAt + d]) * channels[channelsAt + width + d]));
  }
  largest[lane] = most;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half >>= 1u) {
    if (lane < half) { largest[lane] = max(largest[lane], largest[lane + half]); }
    workgroupBarrier();
  }
  most = largest[0];
  let at = slot * p.slotWords + head * p.headWords;
  let factor = select(0.0, LIMIT / most, most > 0.0);
  if (lane == 0u) { keys[at + p.scalesAt + row] = bitcast<u32>(most / LIMIT); }
  for (var quad = lane; quad < p.quads; quad += 64u) {
    var high = 0u;
    var low = 0u;
    for (var i = 0u; i < 4u; i += 1u) {
      let d = quad * 4u + i;
      var value = 0.0;
      var n = 0.0;
      if (d < p.headDim) {
        value = x[begin + d];
        n = round((value - channels[channelsAt + d]) * channels[channelsAt + width + d] * factor);
      }
      // Rounding may have passed the limit by one.
      let bits = u32(clamp(n, -LIMIT, LIMIT) + 16384.0);
      high |= (bits >> 8u) << (8u * i);
      low |= (bits & 0xffu) << (8u * i);
      if (p.is_half == 0u) {
        keys[at + p.exactAt + (row * p.quads + quad) * 4u + i] = bitcast<u32>(value);
      }
    }
    let plane = at + ((row >> 3u) * p.quads + quad) * 8u + (row & 7u);
    keys[plane] = high;
    if (p.is_half != 0u) { keys[plane + p.exactAt] = low; }
  }
}`,
});
