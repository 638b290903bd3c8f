/**
 * Votes of picks: each token that was picked, and what its picks count for in sum.
 *
 * A ballot is a hash table: a slot is u32[4], one more than the token (0: free) and its votes. Counts are
 * one integer. Margins are sums of f32, exact and the same in whatever order they come: three integers
 * of 15 bits each, by how much a margin falls short of the next power of two above the largest.
 *
 * @module
 */

import { defineKernel } from "../kernel.ts";
import { ORDER } from "./order.ts";

/** How many picks may have the same token, so that 15 bits each do not overflow 32. */
export const MAX_VOTERS = 1 << 17;

const PICKS = {
  queries: "u32", // of all KV heads
  most: "u32", // picks of each
} as const;

/** largest[0] = the bits of the largest margin; margins are not negative, so that bits rank as they do. */
export const MARGINS = defineKernel({
  name: "margins",
  params: PICKS,
  buffers: {
    largest: ["read_write", "array<atomic<u32>>"],
    picks: ["read", "array<vec2<u32>>"],
    ends: ["read", "array<vec2<u32>>"],
  },
  code: `${ORDER}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= p.queries * p.most || picks[i].x == 0u) { return; }
  let margin = unordered(picks[i].x) - unordered(ends[i / p.most].y);
  atomicMax(&largest[0], bitcast<u32>(max(margin, 0.0)));
}`,
});

/** Counts all picks. Those of KV heads join in one ballot, or have one each. */
export const VOTE = defineKernel({
  name: "vote",
  params: {
    ...PICKS,
    perBallot: "u32", // queries whose votes are pooled
    slots: "u32", // of a ballot; a power of two
    shift: "u32", // 32 - log2(slots)
    is_margin: "u32",
    wanted: "u32", // picks that are made up to this with `first`; 0: none are
    first: "u32", // a token
  },
  buffers: {
    ballots: ["read_write", "array<atomic<u32>>"],
    picks: ["read", "array<vec2<u32>>"],
    ends: ["read", "array<vec2<u32>>"],
    largest: ["read", "array<u32>"],
  },
  code: `${ORDER}
/** Where a token's slot begins: its own, or a free one, which becomes its own. */
fn slotFor(ballot: u32, token: u32) -> u32 {
  var slot = (token * 2654435769u) >> p.shift;
  var at = 0u;
  loop {
    at = (ballot * p.slots + slot) * 4u;
    let found = atomicCompareExchangeWeak(&ballots[at], 0u, token + 1u);
    if (found.exchanged || found.old_value == token + 1u) { break; }
    // A weak exchange may fail for no reason.
    if (found.old_value != 0u) { slot = (slot + 1u) & (p.slots - 1u); }
  }
  return at;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= p.queries * p.most) { return; }
  let query = i / p.most;
  let ballot = query / p.perBallot;
  if (p.wanted != 0u && i % p.most == 0u && ends[query].x < p.wanted) {
    let at = slotFor(ballot, p.first);
    if (p.is_margin == 0u) { atomicAdd(&ballots[at + 1u], p.wanted - ends[query].x); }
  }
  let pick = picks[i];
  if (pick.x == 0u) { return; }
  let at = slotFor(ballot, pick.y);
  if (p.is_margin == 0u) {
    atomicAdd(&ballots[at + 1u], 1u);
    return;
  }
  // Powers of two: all products and differences below are exact.
  let exponent = clamp(i32(largest[0] >> 23u) - 126, -96, 126);
  let to_one = bitcast<f32>(u32(127 - exponent) << 23u);
  var rest = max(unordered(pick.x) - unordered(ends[query].y), 0.0) * to_one * 32768.0;
  for (var limb = 1u; limb < 4u; limb += 1u) {
    let whole = floor(rest);
    atomicAdd(&ballots[at + limb], u32(whole));
    rest = (rest - whole) * 32768.0;
  }
}`,
});
