/**
 * Values into chunks: [chunk][kvHeads][4 * quads], as f16 or f32.
 *
 * @module
 */

import { defineKernel } from "../kernel.ts";
import { TO_HALF } from "./halves.ts";
import { slotOf, VALUE_PARAMS } from "./kv_layout.ts";

/** A lane writes a word: one number, or two halves. */
export const STORE_ROWS = defineKernel({
  name: "storeRows",
  params: {
    ...VALUE_PARAMS,
    rows: "u32",
    kvHeads: "u32",
    headDim: "u32",
    start: "u32", // the first row's token
    xAt: "u32",
  },
  buffers: {
    values: ["read_write", "array<u32>"],
    x: ["read", "array<f32>"],
    table: ["read", "array<u32>"],
  },
  code: `${slotOf("values")}
${TO_HALF}
fn number(row: u32, i: u32) -> f32 {
  let width = p.quads * 4u;
  let d = i % width;
  if (d >= p.headDim) { return 0.0; }
  return x[p.xAt + (row * p.kvHeads + i / width) * p.headDim + d];
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= p.rowWords) { return; }
  let t = p.start + id.y;
  let slot = slotOf(t);
  if (slot == NOWHERE) { return; }
  var word: u32;
  if (p.is_half == 0u) {
    word = bitcast<u32>(number(id.y, id.x));
  } else {
    word = toHalf(number(id.y, id.x * 2u)) | (toHalf(number(id.y, id.x * 2u + 1u)) << 16u);
  }
  values[slot * p.slotWords + (t % p.chunkSize) * p.rowWords + id.x] = word;
}`,
});
