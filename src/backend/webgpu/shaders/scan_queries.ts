/**
 * Queries as a scan of keys wants them: of each KV head one after another, multiplied by what undoes the
 * weighing of the channels, with what centring took from every score behind them.
 *
 *     out = f32[kvHeads][queries][4 * quads + 4]; the last four are that constant
 *
 * @module
 */

import { defineKernel } from "../kernel.ts";

/** A workgroup has a query. */
export const SCAN_QUERIES = defineKernel({
  name: "scanQueries",
  params: {
    quads: "u32",
    is_half: "u32",
    headDim: "u32",
    heads: "u32",
    group: "u32", // query heads of a KV head
    queries: "u32", // of a KV head
    firstRow: "u32",
    every: "u32", // rows from one that picks to the next
    xAt: "u32",
    channelsAt: "u32",
  },
  buffers: {
    out: ["read_write", "array<f32>"],
    x: ["read", "array<f32>"],
    channels: ["read", "array<f32>"],
  },
  code: `
var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let lane = local.x;
  let query = group.x;
  let kvHead = group.y;
  let row = p.firstRow + query / p.group * p.every;
  let head = kvHead * p.group + query % p.group;
  let width = p.quads * 4u;
  let begin = p.xAt + (row * p.heads + head) * p.headDim;
  let to = (kvHead * p.queries + query) * (width + 4u);
  let channelsAt = p.channelsAt + kvHead * 3u * width;
  var sum = 0.0;
  for (var d = lane; d < width; d += 64u) {
    var value = 0.0;
    if (d < p.headDim) {
      value = x[begin + d];
      if (p.is_half != 0u) {
        sum = fma(value, channels[channelsAt + d], sum);
        value *= channels[channelsAt + 2u * width + d];
      }
    }
    out[to + d] = value;
  }
  sums[lane] = sum;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half >>= 1u) {
    if (lane < half) { sums[lane] += sums[lane + half]; }
    workgroupBarrier();
  }
  if (lane < 4u) { out[to + width + lane] = sums[0]; }
}`,
});
