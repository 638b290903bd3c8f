/**
 * Turns for timers and signals amid long work.
 *
 * @module
 */

/** Milliseconds of work after which there is one. */
const BREATH_MILLISECONDS = 30;

let lastBreath = performance.now();

/**
 * Gives timers and signals a turn now and then: steps follow one another without waiting.
 *
 * @throws What a signal was aborted with, if it was meanwhile.
 */
export async function breathe(signal?: AbortSignal): Promise<void> {
  if (performance.now() - lastBreath < BREATH_MILLISECONDS) return;
  await new Promise((resolve) => setTimeout(resolve, 0));
  lastBreath = performance.now();
  signal?.throwIfAborted();
}
