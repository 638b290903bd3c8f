/**
 * Numbers as integers that rank like them: shaders/top_k.ts goes by bits.
 *
 * @module
 */

import { defineKernel } from "../kernel.ts";
import { ORDER } from "./order.ts";

/** ranks[i] = ordered(x[i]), above all others where x[i] is NaN. Read as bits, so that no compiler can assume that none is. */
export const RANK = defineKernel({
  name: "rank",
  params: { count: "u32", xAt: "u32" },
  buffers: {
    ranks: ["read_write", "array<u32>"],
    x: ["read", "array<u32>"],
  },
  code: `${ORDER}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= p.count) { return; }
  let bits = x[p.xAt + i];
  let is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  ranks[i] = select(ordered(bitcast<f32>(bits)), 0xffffffffu, is_nan);
}`,
});
