/**
 * In which steps a sequence was read, so that it can be read again just so: by another machine, when the first
 * one's device is gone. How steps are cut decides what each token's attention could see.
 *
 * @module
 */

import type { StepPhase } from "./selection_record.ts";

/** One pass of the model: tokens up to `end`. */
export interface ReadStep {
  readonly end: number;
  readonly phase: StepPhase;
}

/** Steps of one size and phase, one after the other: a text of any length is one of them. */
interface Run {
  readonly start: number;
  end: number;
  readonly size: number;
  readonly phase: StepPhase;
}

/** The steps of a sequence, ascending. */
export class StepHistory {
  #runs: Run[] = [];

  /** Tokens that were read. */
  get length(): number {
    return this.#runs.at(-1)?.end ?? 0;
  }

  /** All of them, as they are now. */
  steps(): ReadStep[] {
    return this.#runs.flatMap(({ start, end, size, phase }) =>
      Array.from({ length: (end - start) / size }, (_, i) => ({
        end: start + (i + 1) * size,
        phase,
      }))
    );
  }

  /** Adds a step that was read. */
  push({ end, phase }: ReadStep): void {
    const start = this.length;
    const last = this.#runs.at(-1);
    if (last?.phase === phase && last.size === end - start) last.end = end;
    else this.#runs.push({ start, end, size: end - start, phase });
  }

  /** Steps of `stepSize`, for a sequence of which nobody knows how it was read. */
  assume(length: number, stepSize: number): void {
    this.#runs = [];
    for (let end = 0; end < length;) {
      end = Math.min(length, end + stepSize);
      this.push({ end, phase: "read" });
    }
  }

  /** Forgets what is behind `length`; a step that it cuts stays as far as that. */
  truncate(length: number): void {
    while (this.length > length) {
      const { start, end, size, phase } = this.#runs.pop()!;
      if (start >= length) continue;
      const whole = Math.min(end, start + Math.floor((length - start) / size) * size);
      if (whole > start) this.#runs.push({ start, end: whole, size, phase });
      if (whole < length) this.push({ end: length, phase });
    }
  }

  /** The same history, to go on by itself. */
  fork(): StepHistory {
    const fork = new StepHistory();
    fork.#runs = this.#runs.map((run) => ({ ...run }));
    return fork;
  }
}
