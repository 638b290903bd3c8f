/**
 *     out = gate / (1 + exp(-gate)) * up
 *
 * @module
 */

import { defineKernel } from "../kernel.ts";
import { EXP } from "./exp.ts";

/** `count` numbers. */
export const SWIGLU = defineKernel({
  name: "swiGlu",
  params: { count: "u32", outAt: "u32", gateAt: "u32", upAt: "u32" },
  buffers: {
    out: ["read_write", "array<f32>"],
    gate: ["read", "array<f32>"],
    up: ["read", "array<f32>"],
  },
  code: `${EXP}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= p.count) { return; }
  let x = gate[p.gateAt + i];
  out[p.outAt + i] = x / (1.0 + exactExp(-x)) * up[p.upAt + i];
}`,
});
