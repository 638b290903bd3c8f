/**
 * From a kernel's lists of best keys to picks that vote.
 *
 * @module
 */

import type { ScopeConfig } from "../../reattention/scope.ts";

/** What some queries picked. */
export interface Picks {
  /** Middle tokens, each as often as it was picked. */
  readonly tokens: Uint32Array;
  /** What each of them counts for, at least 0; null: one. */
  readonly votes: Float64Array | null;
}

/** What a list has where it has no token: asm/top_k.ts. */
const NONE = 0xffffffff;

/**
 * Copies lists out of the kernels' memory.
 *
 * @param tokens u32[queries, topK], the best first
 * @param scores f32[queries, topK], each query's but for a constant
 */
export function toPicks(
  tokens: Uint32Array,
  scores: Float32Array,
  topK: number,
  rule: ScopeConfig["votes"],
): Picks {
  const isPick = (_: number, i: number) => tokens[i] !== NONE;
  return {
    tokens: tokens.filter(isPick),
    votes: rule === "count" ? null : margins(tokens, scores, topK).filter(isPick),
  };
}

/** By how much each score exceeds that of its query's last pick. */
function margins(tokens: Uint32Array, scores: Float32Array, topK: number): Float64Array {
  const margins = new Float64Array(scores.length);
  for (let first = 0; first < scores.length; first += topK) {
    let last = first + topK - 1;
    while (last > first && tokens[last] === NONE) last--;
    for (let i = first; i <= last; i++) margins[i] = scores[i]! - scores[last]!;
  }
  return margins;
}

/** The picks, and as many of `filler` as `count` lacks: by margins, they are worth nothing. */
export function padPicks({ tokens, votes }: Picks, count: number, filler: number): Picks {
  const all = new Uint32Array(count).fill(filler);
  all.set(tokens);
  const allVotes = votes && new Float64Array(count);
  allVotes?.set(votes!);
  return { tokens: all, votes: allVotes };
}

/** All picks in order. */
export function joinPicks(picks: readonly Picks[]): Picks {
  const tokens = new Uint32Array(picks.reduce((length, { tokens }) => length + tokens.length, 0));
  const votes = picks.some(({ votes }) => votes) ? new Float64Array(tokens.length) : null;
  let at = 0;
  for (const each of picks) {
    tokens.set(each.tokens, at);
    if (each.votes) votes!.set(each.votes, at);
    at += each.tokens.length;
  }
  return { tokens, votes };
}
