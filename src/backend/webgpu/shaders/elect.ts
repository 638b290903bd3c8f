/**
 * The tokens with most votes, equal votes to the earlier one; and the bits of the spans around them.
 *
 * @module
 */

import { defineKernel } from "../kernel.ts";
import { entryOf, NOWHERE_ENTRY } from "./kv_layout.ts";
import { RADIX } from "./radix.ts";

/**
 * A workgroup has a ballot (vote.ts). Tokens rank by three words: votes, their lower part, and the token
 * from behind; no two are alike. bits u32[ballots][words], from the first token of the middle on, were zero.
 */
export const ELECT = defineKernel({
  name: "elect",
  params: {
    slots: "u32",
    is_margin: "u32",
    maxSpans: "u32",
    reach: "u32", // tokens of a span before the token, and from it on
    first: "u32", // of the middle
    middle: "u32", // tokens
    words: "u32",
  },
  buffers: {
    bits: ["read_write", "array<atomic<u32>>"],
    ballots: ["read", "array<vec4<u32>>"],
  },
  code: `${RADIX}
fn rank(slot: vec4<u32>) -> vec3<u32> {
  if (p.is_margin == 0u) { return vec3<u32>(slot.y, 0u, ~slot.x); }
  let middle = slot.z + (slot.w >> 15u);
  return vec3<u32>(slot.y + (middle >> 15u), ((middle & 0x7fffu) << 15u) | (slot.w & 0x7fffu), ~slot.x);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let lane = local.x;
  let begin = group.x * p.slots;
  var there = 0u;
  for (var i = lane; i < p.slots; i += 256u) {
    there += select(0u, 1u, ballots[begin + i].x != 0u);
  }
  sumUp(lane, there);
  let all = workgroupUniformLoad(&summed);
  var known = vec3<u32>(0u);
  if (p.maxSpans == 0u) { return; }
  if (all > p.maxSpans) {
    if (lane == 0u) { wanted = p.maxSpans; }
    var mask = vec3<u32>(0u);
    for (var word = 0u; word < 3u; word += 1u) {
      if (word == 1u && p.is_margin == 0u) { continue; }
      for (var shift = 24i; shift >= 0i; shift -= 8i) {
        clearCounts(lane);
        for (var i = lane; i < p.slots; i += 256u) {
          let slot = ballots[begin + i];
          let ranks = rank(slot);
          if (slot.x != 0u && all3((ranks & mask) == known)) {
            atomicAdd(&counts[(wordOf(ranks, word) >> u32(shift)) & 255u], 1u);
          }
        }
        takeByte(lane);
        let one = vec3<u32>(vec3<u32>(word) == vec3<u32>(0u, 1u, 2u));
        known |= one * (chosen << u32(shift));
        mask |= one * (255u << u32(shift));
      }
    }
  }
  for (var i = lane; i < p.slots; i += 256u) {
    let slot = ballots[begin + i];
    let ranks = rank(slot);
    let is_kept = ranks.x > known.x || (ranks.x == known.x &&
      (ranks.y > known.y || (ranks.y == known.y && ranks.z >= known.z)));
    if (slot.x == 0u || !is_kept) { continue; }
    let index = slot.x - 1u - p.first;
    let start = index - min(index, p.reach);
    let end = min(p.middle, index + p.reach);
    for (var word = start / 32u; word * 32u < end; word += 1u) {
      let low = max(start, word * 32u) - word * 32u;
      let high = min(end, word * 32u + 32u) - word * 32u;
      let ones = select((1u << high) - 1u, 0xffffffffu, high == 32u);
      atomicOr(&bits[group.x * p.words + word], ones & (0xffffffffu << low));
    }
  }
}

fn all3(x: vec3<bool>) -> bool { return x.x && x.y && x.z; }
fn wordOf(ranks: vec3<u32>, word: u32) -> u32 {
  return select(select(ranks.z, ranks.y, word == 1u), ranks.x, word == 0u);
}`,
});

/**
 * Bits to tokens, ascending: selected u32[ballots][stride], how many there are and then which. A workgroup
 * has a ballot.
 */
export const SPREAD = defineKernel({
  name: "spread",
  params: {
    words: "u32",
    first: "u32",
    stride: "u32",
    chunkSize: "u32",
    has_holes: "u32", // whether tokens may be forgotten
  },
  buffers: {
    selected: ["read_write", "array<u32>"],
    bits: ["read", "array<u32>"],
    table: ["read", "array<u32>"],
  },
  code: `${RADIX}
/** A span may reach into what was forgotten. */
fn tokensOf(ballot: u32, word: u32) -> u32 {
  var found = bits[ballot * p.words + word];
  if (p.has_holes == 0u) { return found; }
  for (var bit = 0u; bit < 32u; bit += 1u) {
    if (((found >> bit) & 1u) == 0u) { continue; }
    if (${
    entryOf("keys", "p.first + word * 32u + bit")
  } == ${NOWHERE_ENTRY}u) { found &= ~(1u << bit); }
  }
  return found;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let lane = local.x;
  let share = (p.words + 255u) / 256u;
  let end = min(p.words, (lane + 1u) * share);
  var own = 0u;
  for (var word = lane * share; word < end; word += 1u) {
    own += countOneBits(tokensOf(group.x, word));
  }
  let to = group.x * p.stride + 1u;
  var at = to + sumUp(lane, own);
  if (lane == 0u) { selected[to - 1u] = summed; }
  for (var word = lane * share; word < end; word += 1u) {
    var left = tokensOf(group.x, word);
    while (left != 0u) {
      selected[at] = p.first + word * 32u + firstTrailingBit(left);
      at += 1u;
      left &= left - 1u;
    }
  }
}`,
});
