/**
 * From picks to spans: reattention.ts's vote and spread. Liu et al. 2024 (arXiv 2407.15176), 3.1.
 *
 * @module
 */

/** Counts votes for tokens of a middle; reused, because a middle may be long. */
export class Ballot {
  /** All zero between two elections. */
  #votes = new Uint32Array(0);

  /**
   * The `maxSpans` tokens with most votes, ascending; equal votes go to the earlier token.
   *
   * @param picks Middle tokens, each as often as it was picked.
   * @param globalEnd The first middle token.
   * @param localStart The end of the middle.
   * @param maxSpans May be `Infinity`.
   */
  elect(
    picks: Uint32Array,
    globalEnd: number,
    localStart: number,
    maxSpans: number,
  ): Uint32Array {
    const size = localStart - globalEnd;
    if (this.#votes.length < size) this.#votes = new Uint32Array(Math.ceil(size * 1.25));
    const votes = this.#votes;
    const seen = new Uint32Array(picks.length);
    let numSeen = 0;
    let most = 0;
    for (let i = 0; i < picks.length; i++) {
      const index = picks[i]! - globalEnd;
      const count = ++votes[index]!;
      if (count === 1) seen[numSeen++] = index;
      if (count > most) most = count;
    }
    const candidates = seen.subarray(0, numSeen).sort();
    const kept = numSeen <= maxSpans
      ? candidates.slice()
      : mostVoted(candidates, votes, most, maxSpans);
    for (const index of candidates) votes[index] = 0;
    return kept.map((index) => index + globalEnd);
  }
}

/** The `count` of ascending candidates with most votes, ascending; fewer than there are. */
function mostVoted(
  candidates: Uint32Array,
  votes: Uint32Array,
  most: number,
  count: number,
): Uint32Array {
  const byVotes = new Uint32Array(most + 1); // candidates with so many votes
  for (const index of candidates) byVotes[votes[index]!]!++;
  let cutoff = most;
  let above = 0;
  while (above + byVotes[cutoff]! < count) above += byVotes[cutoff--]!;
  let ties = count - above;
  return candidates.filter((index) =>
    votes[index]! > cutoff || (votes[index] === cutoff && ties-- > 0)
  );
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
