/**
 * How the channels of keys are centred and weighed, from a sequence's first keys: src/backend/key_channels.ts.
 *
 *     channels = f32[kvHeads][3][4 * quads]: centre, weight, 1 / weight
 *
 * Sums carry their rounding errors along, so that they are what float64 gives but for the last bit.
 *
 * @module
 */

import { defineKernel } from "../kernel.ts";

/** A workgroup has a KV head, a lane some of its channels. The first row is left out. */
export const CENTER_CHANNELS = defineKernel({
  name: "centerChannels",
  params: {
    rows: "u32",
    kvHeads: "u32",
    headDim: "u32",
    width: "u32", // 4 * quads
    xAt: "u32",
    channelsAt: "u32",
  },
  buffers: {
    channels: ["read_write", "array<f32>"],
    x: ["read", "array<f32>"],
  },
  code: `
const PRIOR = 4.0;
var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let lane = local.x;
  let stride = p.kvHeads * p.headDim;
  let begin = p.xAt + group.x * p.headDim;
  let to = p.channelsAt + group.x * 3u * p.width;
  let used = p.rows - 1u;
  let count = f32(used);
  var squares = 0.0;
  for (var d = lane; d < p.width; d += 64u) {
    channels[to + d] = 0.0;
    channels[to + p.width + d] = 1.0;
    channels[to + 2u * p.width + d] = 1.0;
    if (d >= p.headDim || used == 0u) { continue; }
    var sum = 0.0;
    var lost = 0.0;
    for (var r = 1u; r < p.rows; r += 1u) {
      let y = x[begin + r * stride + d] - lost;
      let next = sum + y;
      lost = (next - sum) - y;
      sum = next;
    }
    let mean = sum / count;
    channels[to + d] = mean;
    var spread = 0.0;
    lost = 0.0;
    for (var r = 1u; r < p.rows; r += 1u) {
      let off = x[begin + r * stride + d] - mean;
      let y = off * off - lost;
      let next = spread + y;
      lost = (next - spread) - y;
      spread = next;
    }
    channels[to + p.width + d] = spread; // until all are known, below
    squares += spread;
  }
  sums[lane] = squares;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half >>= 1u) {
    if (lane < half) { sums[lane] += sums[lane + half]; }
    workgroupBarrier();
  }
  let average = sums[0] / f32(p.headDim) / max(count, 1.0);
  // Not a number, or infinite: its exponent has all bits. Then channels stay as they are.
  let is_finite = (bitcast<u32>(average) & 0x7f800000u) != 0x7f800000u;
  for (var d = lane; d < p.headDim; d += 64u) {
    if (used == 0u) { continue; }
    var weight = 1.0;
    if (!is_finite) { channels[to + d] = 0.0; }
    if (is_finite && average > 0.0) {
      weight = 1.0 / sqrt((channels[to + p.width + d] + PRIOR * average) / (count + PRIOR));
    }
    channels[to + p.width + d] = weight;
    channels[to + 2u * p.width + d] = 1.0 / weight;
  }
}`,
});
