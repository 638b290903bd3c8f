/**
 * A source of text, and whether it has anything to give at the moment.
 *
 * @module
 */

/** A source being watched. */
export interface WatchedSource {
  /** The source's text. */
  readonly text: AsyncGenerator<string>;
  /** Resolves when the source has given some text, or has ended without any. */
  readonly begun: Promise<void>;
  /** Resolves when the source has given nothing for `milliseconds` though asked, or has ended. */
  rests(milliseconds: number): Promise<void>;
}

/** Watches a source. */
export function watchSource(source: AsyncIterable<string>): WatchedSource {
  let pieces = 0;
  let isAsked = false;
  let hasEnded = false;
  let begin: () => void;
  let end: () => void;
  const begun = new Promise<void>((resolve) => begin = resolve);
  const ended = new Promise<void>((resolve) => end = resolve);
  async function* watched(): AsyncGenerator<string> {
    try {
      isAsked = true;
      for await (const piece of source) {
        isAsked = false;
        pieces++;
        begin();
        yield piece;
        isAsked = true;
      }
    } finally {
      hasEnded = true;
      begin();
      end();
    }
  }
  return {
    text: watched(),
    begun,
    async rests(milliseconds: number): Promise<void> {
      // In two halves: after a long computation a timer is late, and comes before what has arrived.
      for (let halves = 0; halves < 2 && !hasEnded;) {
        const before = pieces;
        const wasAsked = isAsked;
        await Promise.race([ended, delay(milliseconds / 2)]);
        halves = wasAsked && isAsked && pieces === before ? halves + 1 : 0;
      }
    },
  };
}

/** Waits. */
export function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
