/**
 * Position-agnostic relevance of cached keys to queries, *neither rotated*, unscaled because only the order
 * matters:
 *
 *     scores[q, t] = sum_d query[q, d] * key[t, d]   (times a norm of value[t])
 *
 * Without norms the same constant is missing from all scores of a query: what centring took. A lane has a
 * key and eight queries, and adds in the same order for every key: equal keys have equal scores.
 *
 * @module
 */

import { defineKernel, repeat } from "../kernel.ts";
import { KEY_PARAMS, KEY_QUAD, slotOf } from "./kv_layout.ts";
import { ORDER } from "./order.ts";

/** Queries of a lane. */
export const SCAN_QUERIES_AT_ONCE = 8;

/** Tokens [start, end); `scores` is u32[kvHeads * queries][stride], ordered, from token `origin` on. */
export const SCAN_KEYS = defineKernel({
  name: "scanKeys",
  params: {
    ...KEY_PARAMS,
    start: "u32",
    end: "u32",
    origin: "u32",
    stride: "u32",
    queries: "u32", // of a KV head
    weighted: "u32", // whether there are norms
  },
  buffers: {
    scores: ["read_write", "array<u32>"],
    keys: ["read", "array<u32>"],
    table: ["read", "array<u32>"],
    packed: ["read", "array<vec4<f32>>"],
    norms: ["read", "array<f32>"],
  },
  code: `${slotOf("keys")}
${KEY_QUAD}
${ORDER}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let t = p.start + id.x;
  if (t >= p.end) { return; }
  let slot = slotOf(t);
  if (slot == NOWHERE) { return; }
  let head = id.y;
  let first = id.z * 8u;
  let row = t % p.chunkSize;
  let at = slot * p.slotWords + head * p.headWords;
  let length = p.quads + 1u;
  // The last query again where there are no more.
  ${
    repeat(8, (i) =>
      `let q${i} = (head * p.queries + min(first + ${i}u, p.queries - 1u)) * length; var sum${i} = 0.0;`)
  }
  for (var quad = 0u; quad < p.quads; quad += 1u) {
    let key = keyQuad(at, row, quad);
    ${
    repeat(
      8,
      (i) =>
        `let v${i} = packed[q${i} + quad]; sum${i} = fma(key.x, v${i}.x, sum${i}); sum${i} = fma(key.y, v${i}.y, sum${i}); ` +
        `sum${i} = fma(key.z, v${i}.z, sum${i}); sum${i} = fma(key.w, v${i}.w, sum${i});`,
    )
  }
  }
  let scale = keyScale(at, row);
  var norm = 1.0;
  if (p.weighted != 0u) { norm = norms[head * p.stride + t - p.origin]; }
  let to = (head * p.queries + first) * p.stride + t - p.origin;
  ${
    repeat(8, (i) =>
      `if (first + ${i}u < p.queries) {
    var score = sum${i} * scale;
    if (p.weighted != 0u) { score = norm * (packed[q${i} + p.quads].x + score); }
    scores[to + ${i}u * p.stride] = ordered(score);
  }`)
  }
}`,
});
