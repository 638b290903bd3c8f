/**
 * Attention over a piece of a scope that was gathered, block by block with a running softmax, so that no
 * scores are ever kept:
 *
 *     m' = max(m, scores);  l' = l exp(m - m') + sum exp(scores - m');  a' likewise, with values
 *
 * Dao et al. 2022 (arXiv 2205.14135). What eight queries have seen is a state, f32[m, l, a...]; states of several
 * shares of the scope are merged at the end.
 *
 * @module
 */

import { defineKernel, type Kernel, repeat } from "../kernel.ts";
import { EXP } from "./exp.ts";
import { SCOPE, SCOPE_PARAMS } from "./scope.ts";

/** Queries of a workgroup. */
export const QUERIES = 8;

/** Keys of a block: one a lane. */
export const BLOCK = 64;

/** The widest head, in numbers. */
export const MAX_WIDTH = 256;

/** Lower than any score; its exp is 0, and nothing is subtracted from it. */
const LOWEST = "-3.0e38";

type AttendKernel = Kernel<
  | keyof typeof SCOPE_PARAMS
  | "quads"
  | "piece"
  | "start"
  | "group"
  | "rows"
  | "kvHeads"
  | "shares"
  | "is_first",
  "states" | "gatheredKeys" | "gatheredValues" | "placed" | "selected"
>;

/** @param own Numbers of a head that a lane sums up. */
function attend(own: number): AttendKernel {
  const sums = (line: (x: number, j: number) => string) =>
    repeat(QUERIES * own, (i) => line(Math.floor(i / own), i % own));
  return defineKernel({
    name: `attend ${own}`,
    params: {
      ...SCOPE_PARAMS,
      quads: "u32",
      piece: "u32", // tokens there is room for
      start: "u32", // the piece's first token in the scope
      group: "u32",
      rows: "u32",
      kvHeads: "u32",
      shares: "u32", // workgroups that share a piece
      is_first: "u32", // whether there is no state yet
    },
    buffers: {
      states: ["read_write", "array<f32>"],
      gatheredKeys: ["read", "array<vec4<f32>>"],
      gatheredValues: ["read", "array<f32>"],
      placed: ["read", "array<vec4<f32>>"],
      selected: ["read", "array<u32>"],
    },
    code: `${EXP}
${SCOPE}
var<workgroup> query: array<vec4<f32>, ${QUERIES * MAX_WIDTH / 4}>;
var<workgroup> scores: array<f32, ${QUERIES * BLOCK}>;
var<workgroup> parts: array<f32, 64>;
var<workgroup> highest: array<f32, ${QUERIES}>;
var<workgroup> sum: array<f32, ${QUERIES}>;
var<workgroup> keep: array<f32, ${QUERIES}>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let lane = local.x;
  let head = group.y;
  let share = group.z;
  let queries = p.rows * p.group;
  let first = group.x * ${QUERIES}u;
  let width = p.quads * 4u;
  let length = scopeLength(head);
  let state = ((share * p.kvHeads + head) * queries + first) * (width + 2u);
  for (var i = lane; i < ${QUERIES}u * p.quads; i += 64u) {
    let x = min(first + i / p.quads, queries - 1u);
    query[i] = placed[(head * queries + x) * p.quads + i % p.quads];
  }
  if (lane < ${QUERIES}u) {
    var m = ${LOWEST};
    var l = 0.0;
    if (p.is_first == 0u && first + lane < queries) {
      m = states[state + lane * (width + 2u)];
      l = states[state + lane * (width + 2u) + 1u];
    }
    highest[lane] = m;
    sum[lane] = l;
  }
  ${
      sums((x, j) =>
        `var a${x}_${j} = 0.0;
  if (p.is_first == 0u && first + ${x}u < queries && lane + ${64 * j}u < width) {
    a${x}_${j} = states[state + ${x}u * (width + 2u) + 2u + lane + ${64 * j}u];
  }`
      )
    }
  workgroupBarrier();
  // The last query sees most; it is the one of the last row.
  let lastRow = min(first + ${QUERIES - 1}u, queries - 1u) / p.group;
  let seen = length - p.rows + lastRow + 1u;
  let end = min(seen - min(seen, p.start), p.piece);
  for (var block = share * ${BLOCK}u; block < end; block += p.shares * ${BLOCK}u) {
    let count = min(${BLOCK}u, end - block);
    ${repeat(QUERIES, (x) => `var s${x} = ${LOWEST};`)}
    if (lane < count) {
      let i = block + lane;
      ${repeat(QUERIES, (x) => `var d${x} = 0.0;`)}
      for (var quad = 0u; quad < p.quads; quad += 1u) {
        let key = gatheredKeys[(head * p.quads + quad) * p.piece + i];
        ${repeat(QUERIES, (x) => `d${x} += dot(key, query[${x}u * p.quads + quad]);`)}
      }
      // A query sees what is up to its own place.
      let place = p.start + i + p.rows - length;
      ${
      repeat(
        QUERIES,
        (x) =>
          `if (p.start + i + p.rows < length || place <= min(first + ${x}u, queries - 1u) / p.group) { s${x} = d${x}; }`,
      )
    }
    }
    ${repeat(QUERIES, (x) => `scores[${x * BLOCK}u + lane] = s${x};`)}
    workgroupBarrier();
    // Eight lanes have a query.
    let x = lane / 8u;
    let at = x * ${BLOCK}u + lane % 8u;
    var most = ${LOWEST};
    for (var j = 0u; j < ${BLOCK}u; j += 8u) { most = max(most, scores[at + j]); }
    parts[lane] = most;
    workgroupBarrier();
    let before = highest[x];
    most = before;
    for (var j = 0u; j < 8u; j += 1u) { most = max(most, parts[x * 8u + j]); }
    var own = 0.0;
    for (var j = 0u; j < ${BLOCK}u; j += 8u) {
      let score = scores[at + j];
      var weight = 0.0;
      if (score > ${LOWEST}) { weight = exactExp(score - most); }
      scores[at + j] = weight;
      own += weight;
    }
    workgroupBarrier();
    parts[lane] = own;
    workgroupBarrier();
    if (lane % 8u == 0u) {
      var added = 0.0;
      for (var j = 0u; j < 8u; j += 1u) { added += parts[lane + j]; }
      var kept = 1.0;
      if (most > before) { kept = select(exactExp(before - most), 0.0, before == ${LOWEST}); }
      keep[x] = kept;
      sum[x] = fma(sum[x], kept, added);
      highest[x] = most;
    }
    workgroupBarrier();
    ${sums((x, j) => `a${x}_${j} *= keep[${x}];`)}
    for (var j = 0u; j < count; j += 1u) {
      let value = (head * p.piece + block + j) * width + lane;
      ${
      repeat(own, (j) =>
        `if (lane + ${64 * j}u < width) {
        let v = gatheredValues[value + ${64 * j}u];
        ${repeat(QUERIES, (x) => `a${x}_${j} = fma(scores[${x * BLOCK}u + j], v, a${x}_${j});`)}
      }`)
    }
    }
    workgroupBarrier();
  }
  if (lane < ${QUERIES}u && first + lane < queries) {
    states[state + lane * (width + 2u)] = highest[lane];
    states[state + lane * (width + 2u) + 1u] = sum[lane];
  }
  ${
      sums((x, j) =>
        `if (first + ${x}u < queries && lane + ${64 * j}u < width) {
    states[state + ${x}u * (width + 2u) + 2u + lane + ${64 * j}u] = a${x}_${j};
  }`
      )
    }
}`,
  });
}

/** By how many numbers of a head each of 64 lanes has. */
export const ATTEND: Readonly<Record<1 | 2 | 4, AttendKernel>> = {
  1: attend(1),
  2: attend(2),
  4: attend(4),
};

/** out = what all shares have seen together, f32[rows][heads * headDim]. A workgroup has a query's head. */
export const ATTEND_MERGE = defineKernel({
  name: "attendMerge",
  params: {
    width: "u32",
    headDim: "u32",
    heads: "u32",
    group: "u32",
    rows: "u32",
    shares: "u32",
    outAt: "u32",
  },
  buffers: {
    out: ["read_write", "array<f32>"],
    states: ["read", "array<f32>"],
  },
  code: `${EXP}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let head = group.x;
  let row = group.y;
  let kvHeads = p.heads / p.group;
  let queries = p.rows * p.group;
  let query = row * p.group + head % p.group;
  let first = ((head / p.group) * queries + query) * (p.width + 2u);
  let stride = kvHeads * queries * (p.width + 2u);
  var most = ${LOWEST};
  for (var s = 0u; s < p.shares; s += 1u) { most = max(most, states[first + s * stride]); }
  for (var d = local.x; d < p.headDim; d += 64u) {
    var total = 0.0;
    var value = 0.0;
    for (var s = 0u; s < p.shares; s += 1u) {
      let at = first + s * stride;
      if (states[at] == ${LOWEST}) { continue; }
      let weight = exactExp(states[at] - most);
      total = fma(weight, states[at + 1u], total);
      value = fma(weight, states[at + 2u + d], value);
    }
    out[p.outAt + (row * p.heads + head) * p.headDim + d] = value / total;
  }
}`,
});
