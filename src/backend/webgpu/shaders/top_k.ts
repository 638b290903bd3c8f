/**
 * Each query's best tokens, equal scores to the earlier one, exactly. A part of the scores gives a list of
 * its best; lists are merged into what the query picked before. All lists are ascending by token, and
 * places that nothing fills have the score 0, which no score is.
 *
 * @module
 */

import { defineKernel } from "../kernel.ts";
import { RADIX } from "./radix.ts";

/** Scores of a part. */
export const PART = 2048;

/**
 * Of `count` scores, which are `score` of `i` and 0 where there is none: the `least` of the `p.most` best, and how
 * many `ties` with it are among them; 1 and `count` where no more than these, `all`, are there. Each lane has counted
 * those that are `there` among its own.
 */
function findLeast(count: string, score: string): string {
  return `
  sumUp(lane, there);
  // Uniform, but only a barrier shows it.
  let all = workgroupUniformLoad(&summed);
  var least = 1u;
  var ties = ${count};
  if (all > p.most) {
    if (lane == 0u) { wanted = p.most; }
    var known = 0u;
    var mask = 0u;
    for (var shift = 24i; shift >= 0i; shift -= 8i) {
      clearCounts(lane);
      for (var i = lane; i < ${count}; i += 256u) {
        let score = ${score};
        if (score != 0u && (score & mask) == known) {
          atomicAdd(&counts[(score >> u32(shift)) & 255u], 1u);
        }
      }
      takeByte(lane);
      known |= chosen << u32(shift);
      mask |= 255u << u32(shift);
    }
    least = known;
    ties = wanted;
  }`;
}

/**
 * Keeps the `most` best of each part: lists u32[queries][parts * most][score, token], from scores
 * u32[queries][stride] of tokens from `origin` on. A workgroup has a part (x) of a query
 * (y, and z beyond what y can be).
 */
export const TOP_K = defineKernel({
  name: "topK",
  params: {
    queries: "u32",
    count: "u32",
    stride: "u32",
    most: "u32",
    parts: "u32",
    origin: "u32",
  },
  buffers: {
    lists: ["read_write", "array<vec2<u32>>"],
    scores: ["read", "array<u32>"],
  },
  code: `${RADIX}
var<workgroup> own: array<u32, ${PART}>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_id) local: vec3<u32>,
) {
  let lane = local.x;
  let query = group.z * groups.y + group.y;
  if (query >= p.queries) { return; }
  let start = group.x * ${PART}u;
  let count = min(${PART}u, p.count - start);
  var there = 0u;
  for (var i = lane; i < ${PART}u; i += 256u) {
    var score = 0u;
    if (i < count) { score = scores[query * p.stride + start + i]; }
    own[i] = score;
    there += select(0u, 1u, score != 0u);
  }
  ${findLeast(`${PART}u`, "own[i]")}
  // Each lane has eight neighbours: those above the least, and those that are equal to it.
  var above = 0u;
  var equal = 0u;
  for (var i = lane * 8u; i < lane * 8u + 8u; i += 1u) {
    above += select(0u, 1u, own[i] > least);
    equal += select(0u, 1u, own[i] == least);
  }
  let before = sumUp(lane, (above << 16u) | equal);
  var better = before >> 16u;
  var same = before & 0xffffu;
  let to = (query * p.parts + group.x) * p.most;
  for (var i = lane * 8u; i < lane * 8u + 8u; i += 1u) {
    let score = own[i];
    let at = better + min(same, ties);
    if (score > least || (score == least && same < ties)) {
      lists[to + at] = vec2<u32>(score, p.origin + start + i);
    }
    better += select(0u, 1u, score > least);
    same += select(0u, 1u, score == least);
  }
  let kept = min(all, p.most);
  for (var i = kept + lane; i < p.most; i += 256u) { lists[to + i] = vec2<u32>(0u); }
}`,
});

/**
 * Keeps the `most` best of what each query picked before and of some lists, whose tokens come after:
 * picks u32[queries][most][score, token], lists u32[queries][length][score, token]. Beside them, how many there
 * are and the lowest of their scores: ends u32[queries][2].
 */
export const MERGE_PICKS = defineKernel({
  name: "mergePicks",
  params: { queries: "u32", most: "u32", length: "u32" },
  buffers: {
    picks: ["read_write", "array<vec2<u32>>"],
    ends: ["read_write", "array<vec2<u32>>"],
    before: ["read", "array<vec2<u32>>"],
    lists: ["read", "array<vec2<u32>>"],
  },
  code: `${RADIX}
var<workgroup> lowest: atomic<u32>;

fn candidate(query: u32, i: u32) -> vec2<u32> {
  if (i < p.most) { return before[query * p.most + i]; }
  return lists[query * p.length + i - p.most];
}

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_id) local: vec3<u32>,
) {
  let lane = local.x;
  let query = group.y * groups.x + group.x;
  if (query >= p.queries) { return; }
  let count = p.most + p.length;
  var there = 0u;
  for (var i = lane; i < count; i += 256u) {
    there += select(0u, 1u, candidate(query, i).x != 0u);
  }
  if (lane == 0u) { atomicStore(&lowest, 0xffffffffu); }
  ${findLeast("count", "candidate(query, i).x")}
  let share = (count + 255u) / 256u;
  let end = min(count, (lane + 1u) * share);
  var above = 0u;
  var equal = 0u;
  for (var i = lane * share; i < end; i += 1u) {
    let score = candidate(query, i).x;
    above += select(0u, 1u, score > least);
    equal += select(0u, 1u, score == least);
  }
  var better = sumUp(lane, above);
  var same = sumUp(lane, equal);
  let to = query * p.most;
  for (var i = lane * share; i < end; i += 1u) {
    let each = candidate(query, i);
    if (each.x > least || (each.x == least && same < ties)) {
      picks[to + better + min(same, ties)] = each;
      atomicMin(&lowest, each.x);
    }
    better += select(0u, 1u, each.x > least);
    same += select(0u, 1u, each.x == least);
  }
  let kept = min(all, p.most);
  for (var i = kept + lane; i < p.most; i += 256u) { picks[to + i] = vec2<u32>(0u); }
  workgroupBarrier();
  if (lane == 0u) { ends[query] = vec2<u32>(kept, atomicLoad(&lowest)); }
}`,
});

/**
 * The best of each run of 128 tokens, the authors' approximation: lists u32[queries][runs][score, token]. A
 * workgroup has a run (x) of a query (y, z).
 */
export const BLOCK_MAX = defineKernel({
  name: "blockMax",
  params: { queries: "u32", count: "u32", stride: "u32", runs: "u32", origin: "u32" },
  buffers: {
    lists: ["read_write", "array<vec2<u32>>"],
    scores: ["read", "array<u32>"],
  },
  code: `
var<workgroup> bests: array<vec2<u32>, 64>;

/** The higher score; of equal ones the earlier token. */
fn best(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let is_b = b.x > a.x || (b.x == a.x && b.y < a.y);
  return select(a, b, is_b);
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_id) local: vec3<u32>,
) {
  let lane = local.x;
  let query = group.z * groups.y + group.y;
  if (query >= p.queries) { return; }
  var own = vec2<u32>(0u);
  for (var i = group.x * 128u + lane; i < min(p.count, group.x * 128u + 128u); i += 64u) {
    own = best(own, vec2<u32>(scores[query * p.stride + i], p.origin + i));
  }
  bests[lane] = own;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half >>= 1u) {
    if (lane < half) { bests[lane] = best(bests[lane], bests[lane + half]); }
    workgroupBarrier();
  }
  if (lane == 0u) { lists[query * p.runs + group.x] = bests[0]; }
}`,
});
