/**
 * Text into a session, in pieces small enough that something can be said in between.
 *
 * @module
 */

import type { Session } from "../llama/session.ts";
import type { Turn } from "./turns.ts";

/** UTF-16 units of a piece. */
const SMALLEST = 1 << 8;
const LARGEST = 1 << 16;
/** Milliseconds that a piece should take at most. */
const PATIENCE = 100;

/** How a text is fed where others want to compute, too. */
export interface FeedOptions {
  /** UTF-16 units of a piece at most. */
  readonly largest?: number;
  /** Does a piece's work when it may be done; time spent waiting for that does not count. */
  readonly turn?: Turn;
}

/**
 * Writes a text to a session, piece by piece, and waits for each to be read: a slow machine slows
 * the source.
 *
 * @param onPiece Called after each piece with the seconds of work so far.
 * @returns Seconds of work; time spent waiting for the text does not count.
 */
export async function feed(
  session: Session,
  text: Iterable<string> | AsyncIterable<string>,
  onPiece: (seconds: number) => Promise<void> = () => Promise.resolve(),
  { largest = LARGEST, turn = async (work) => await work() }: FeedOptions = {},
): Promise<number> {
  const writer = session.writable().getWriter();
  let seconds = 0;
  let size = SMALLEST;
  const timed = (work: () => Promise<void>) =>
    turn(async () => {
      const began = performance.now();
      await work();
      const milliseconds = performance.now() - began;
      seconds += milliseconds / 1000;
      return milliseconds;
    });
  for await (const part of text) {
    for (let start = 0; start < part.length;) {
      const end = endOfPiece(part, start + size);
      const milliseconds = await timed(() => writer.write(part.slice(start, end)));
      start = end;
      size = milliseconds > PATIENCE ? Math.max(SMALLEST, size >> 1) : Math.min(largest, size << 1);
      await onPiece(seconds);
    }
  }
  await timed(() => writer.close());
  return seconds;
}

/** Never between the halves of a character. */
function endOfPiece(text: string, wanted: number): number {
  const isSecondHalf = (text.charCodeAt(wanted) & 0xfc00) === 0xdc00;
  return Math.min(text.length, isSecondHalf ? wanted + 1 : wanted);
}
