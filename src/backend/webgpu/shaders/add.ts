/**
 *     out = a + b
 *
 * where b may be one row that is added to each.
 *
 * @module
 */

import { defineKernel } from "../kernel.ts";

/** `count` numbers; b's begin again after `period`. */
export const ADD = defineKernel({
  name: "add",
  params: { count: "u32", period: "u32", outAt: "u32", aAt: "u32", bAt: "u32" },
  buffers: {
    out: ["read_write", "array<f32>"],
    a: ["read", "array<f32>"],
    b: ["read", "array<f32>"],
  },
  code: `
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= p.count) { return; }
  out[p.outAt + i] = a[p.aAt + i] + b[p.bAt + i % p.period];
}`,
});
