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

/** The steps of a sequence, ascending. */
export class StepHistory {
  #steps: ReadStep[] = [];

  /** All of them. */
  get steps(): readonly ReadStep[] {
    return this.#steps;
  }

  /** Adds a step that was read. */
  push(step: ReadStep): void {
    this.#steps.push(step);
  }

  /** Steps of `stepSize`, for a sequence of which nobody knows how it was read. */
  assume(length: number, stepSize: number): void {
    this.#steps = [];
    for (let start = 0; start < length; start += stepSize) {
      this.#steps.push({ end: Math.min(length, start + stepSize), phase: "read" });
    }
  }

  /** Forgets what is behind `length`; a step that it cuts stays as far as that. */
  truncate(length: number): void {
    const first = this.#steps.findIndex(({ end }) => end > length);
    if (first < 0) return;
    const cut = this.#steps[first]!;
    this.#steps.length = first;
    if ((this.#steps.at(-1)?.end ?? 0) < length) {
      this.#steps.push({ end: length, phase: cut.phase });
    }
  }

  /** The same history, to go on by itself. */
  fork(): StepHistory {
    const fork = new StepHistory();
    fork.#steps = this.#steps.slice();
    return fork;
  }
}
