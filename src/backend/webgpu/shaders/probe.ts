/**
 * What a device can: whether it computes at all, and whether it reads all halves exactly.
 *
 * @module
 */

import { defineKernel } from "../kernel.ts";

/** found[0] = seed + 1; found[1] counts the halves that `unpack2x16float` reads otherwise than integers do. */
export const PROBE = defineKernel({
  name: "probe",
  params: { seed: "u32" },
  buffers: { found: ["read_write", "array<atomic<u32>>"] },
  code: `
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x == 0u) { atomicStore(&found[0], p.seed + 1u); }
  // Neither infinity nor NaN, of which there are many.
  if ((id.x & 0x7c00u) == 0x7c00u) { return; }
  let pair = unpack2x16float(id.x | (id.x << 16u));
  let expected = bitcast<u32>(fromHalf(id.x));
  if (bitcast<u32>(pair.x) != expected || bitcast<u32>(pair.y) != expected) {
    atomicAdd(&found[1], 1u);
  }
}`,
});
