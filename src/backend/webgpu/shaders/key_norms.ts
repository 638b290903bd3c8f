/**
 * What scores are multiplied with where values count:
 *
 *     norms[head, t] = sum_d |value[t, head, d]|, or sqrt(sum_d value[t, head, d]^2)
 *
 * @module
 */

import { defineKernel } from "../kernel.ts";
import { slotOf, VALUE_PARAMS, VALUE_QUAD } from "./kv_layout.ts";

/** A lane has a token of [start, end), and writes at its place from `origin` on. */
export const KEY_NORMS = defineKernel({
  name: "keyNorms",
  params: {
    ...VALUE_PARAMS,
    start: "u32",
    end: "u32",
    origin: "u32",
    stride: "u32", // from a KV head's norms to the next's
    squares: "u32", // whether the norm is L2
  },
  buffers: {
    norms: ["read_write", "array<f32>"],
    values: ["read", "array<u32>"],
    table: ["read", "array<u32>"],
  },
  code: `${slotOf("values")}
${VALUE_QUAD}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let t = p.start + id.x;
  if (t >= p.end) { return; }
  let slot = slotOf(t);
  if (slot == NOWHERE) { return; }
  let at = slot * p.slotWords + (t % p.chunkSize) * p.rowWords + id.y * valueHeadWords();
  var sum = vec4<f32>(0.0);
  for (var quad = 0u; quad < p.quads; quad += 1u) {
    let value = valueQuad(at, quad);
    if (p.squares != 0u) { sum = fma(value, value, sum); } else { sum += abs(value); }
  }
  let total = (sum.x + sum.y) + (sum.z + sum.w);
  norms[id.y * p.stride + t - p.origin] = select(total, sqrt(total), p.squares != 0u);
}`,
});
