/**
 * Queries rotated to the last positions of their scopes, times the scale of attention's scores:
 *
 *     placed = f32[kvHeads][rows * group][4 * quads], zero beyond headDim
 *
 * @module
 */

import { defineKernel } from "../kernel.ts";
import { ANGLE_OF } from "./rope.ts";
import { SCOPE, SCOPE_PARAMS } from "./scope.ts";

/** A lane has a pair of numbers (x) of a head (y) of a row (z). */
export const PLACE_QUERIES = defineKernel({
  name: "placeQueries",
  params: {
    ...SCOPE_PARAMS,
    quads: "u32",
    headDim: "u32",
    heads: "u32",
    group: "u32",
    rows: "u32",
    xAt: "u32",
    scale: "f32",
  },
  buffers: {
    placed: ["read_write", "array<f32>"],
    x: ["read", "array<f32>"],
    selected: ["read", "array<u32>"],
    angles: ["read", "array<vec2<f32>>"],
  },
  code: `${ANGLE_OF}
${SCOPE}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let half = p.headDim / 2u;
  if (id.x >= half) { return; }
  let head = id.y;
  let row = id.z;
  let kvHead = head / p.group;
  let length = select(scopeLength(kvHead), p.length, p.is_sequence != 0u);
  let angle = angleOf(length - p.rows + row, id.x);
  let begin = p.xAt + (row * p.heads + head) * p.headDim;
  let a = x[begin + id.x];
  let b = x[begin + half + id.x];
  let width = p.quads * 4u;
  let to = ((kvHead * p.rows + row) * p.group + head % p.group) * width;
  placed[to + id.x] = fma(a, angle.x, -(b * angle.y)) * p.scale;
  placed[to + half + id.x] = fma(b, angle.x, a * angle.y) * p.scale;
  if (id.x == 0u) {
    for (var d = p.headDim; d < width; d += 1u) { placed[to + d] = 0.0; }
  }
}`,
});
