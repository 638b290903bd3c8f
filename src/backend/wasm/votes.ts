/**
 * From picks to spans: reattention.ts's vote and spread. Liu et al. 2024 (arXiv 2407.15176), 3.1.
 *
 * @module
 */

import type { Picks } from "./picks.ts";

/** Sums up votes for tokens of a middle; reused, because a middle may be long. */
export class Ballot {
  /** Which candidate a token is, from 1 on; all zero between two elections. */
  #candidates = new Uint32Array(0);

  /**
   * The `maxSpans` tokens with most votes, ascending; equal votes go to the earlier token.
   *
   * @param picks Tokens of the middle.
   * @param globalEnd The first middle token.
   * @param localStart The end of the middle.
   * @param maxSpans May be `Infinity`.
   */
  elect(
    picks: Picks,
    globalEnd: number,
    localStart: number,
    maxSpans: number,
  ): Uint32Array {
    const { tokens, votes } = picks;
    const size = localStart - globalEnd;
    if (this.#candidates.length < size) this.#candidates = new Uint32Array(Math.ceil(size * 1.25));
    const candidates = this.#candidates;
    const seen = new Uint32Array(tokens.length);
    const sums = new Float64Array(tokens.length);
    let numSeen = 0;
    for (let i = 0; i < tokens.length; i++) {
      const index = tokens[i]! - globalEnd;
      if (candidates[index] === 0) {
        seen[numSeen] = index;
        candidates[index] = ++numSeen;
      }
      sums[candidates[index]! - 1]! += votes === null ? 1 : votes[i]!;
    }
    const ascending = seen.subarray(0, numSeen).sort();
    const kept = numSeen <= maxSpans
      ? ascending.slice()
      : mostVoted(ascending, (index) => sums[candidates[index]! - 1]!, maxSpans);
    for (const index of ascending) candidates[index] = 0;
    return kept.map((index) => index + globalEnd);
  }
}

/** The `count` of ascending candidates with most votes, ascending; fewer than there are. */
function mostVoted(
  ascending: Uint32Array,
  votesOf: (candidate: number) => number,
  count: number,
): Uint32Array {
  const byVotes = Float64Array.from(ascending, votesOf).sort();
  const cutoff = byVotes[byVotes.length - count]!; // none where nothing is kept: nothing reaches it
  let ties = count;
  for (let i = byVotes.length - 1; byVotes[i]! > cutoff; i--) ties--;
  return ascending.filter((candidate) => {
    const votes = votesOf(candidate);
    return votes > cutoff || (votes === cutoff && ties-- > 0);
  });
}

/**
 * The union of [t - spanSize / 2, t + spanSize / 2) for all kept tokens, within [globalEnd, localStart).
 *
 * @param kept Ascending.
 * @returns Runs of tokens, ascending and apart: u32[runs][start, end].
 */
export function spread(
  kept: Uint32Array,
  spanSize: number,
  globalEnd: number,
  localStart: number,
): Uint32Array {
  const runs = new Uint32Array(2 * kept.length);
  let numRuns = 0;
  for (const t of kept) {
    const start = Math.max(globalEnd, t - spanSize / 2);
    const end = Math.min(localStart, t + spanSize / 2);
    if (numRuns > 0 && start <= runs[2 * numRuns - 1]!) {
      runs[2 * numRuns - 1] = end;
    } else {
      runs[2 * numRuns] = start;
      runs[2 * numRuns + 1] = end;
      numRuns++;
    }
  }
  return runs.slice(0, 2 * numRuns);
}
