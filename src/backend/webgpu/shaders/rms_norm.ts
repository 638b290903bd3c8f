/**
 *     out[r] = x[r] / sqrt(mean(x[r]^2) + epsilon) * gain
 *
 * A workgroup has a row, whose squares its lanes sum up each for itself and then in pairs: the same for a
 * row in whatever company.
 *
 * @module
 */

import { defineKernel } from "../kernel.ts";

/** `rows` rows of `cols` numbers. */
export const RMS_NORM = defineKernel({
  name: "rmsNorm",
  params: {
    rows: "u32",
    cols: "u32",
    outAt: "u32",
    xAt: "u32",
    epsilon: "f32",
    share: "f32", // 1 / cols
  },
  buffers: {
    out: ["read_write", "array<f32>"],
    x: ["read", "array<f32>"],
    gain: ["read", "array<f32>"],
  },
  code: `
var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_id) local: vec3<u32>,
) {
  let row = group.y * groups.x + group.x;
  let lane = local.x;
  if (row >= p.rows) { return; }
  let begin = p.xAt + row * p.cols;
  var sum = 0.0;
  for (var i = lane; i < p.cols; i += 64u) {
    let value = x[begin + i];
    sum = fma(value, value, sum);
  }
  sums[lane] = sum;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half >>= 1u) {
    if (lane < half) { sums[lane] += sums[lane + half]; }
    workgroupBarrier();
  }
  let scale = 1.0 / sqrt(fma(sums[0], p.share, p.epsilon));
  let to = p.outAt + row * p.cols;
  for (var i = lane; i < p.cols; i += 64u) {
    out[to + i] = x[begin + i] * scale * gain[i];
  }
}`,
});
