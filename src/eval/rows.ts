/**
 * Rows of measurements that are no cases: one JSON line each, for tables and pictures.
 *
 * @module
 */

/** How well a method expects the text around a position. */
export interface PerplexityRow {
  /** How it was read: `reattention`, `window`, `full attention`, ... */
  readonly method: string;
  /** Tokens before the stretch that was scored, or up to its end; the same for all methods. */
  readonly position: number;
  /** e to the mean negative log-likelihood of a token there; 1 or more. */
  readonly perplexity: number;
}

/** What a text of some length costs. */
export interface CostRow {
  /** What selects, or where it ran: one line of the picture each. */
  readonly selector: string;
  /** Tokens that had been read. */
  readonly length: number;
  /** A question with its answer. */
  readonly secondsPerQuestion: number;
  /** Reading, at this length. */
  readonly tokensPerSecond: number;
}
