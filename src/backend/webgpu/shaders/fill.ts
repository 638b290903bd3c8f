/**
 * Words of zeros.
 *
 * @module
 */

import { defineKernel } from "../kernel.ts";

/** out[0..count) = 0 */
export const FILL = defineKernel({
  name: "fill",
  params: { count: "u32" },
  buffers: { out: ["read_write", "array<u32>"] },
  code: `
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i < p.count) { out[i] = 0u; }
}`,
});
