// The steps that a sequence was read in, beside a plain list of them.

import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { type ReadStep, StepHistory } from "../src/llama/step_history.ts";
import { integers } from "./support/random.ts";

/** What a list of steps is after a truncation. */
function truncated(steps: readonly ReadStep[], length: number): ReadStep[] {
  const kept = steps.filter(({ end }) => end <= length);
  const cut = steps[kept.length];
  return cut && (kept.at(-1)?.end ?? 0) < length
    ? [...kept, { end: length, phase: cut.phase }]
    : kept;
}

test("a history is the list of its steps, whatever is read, forgotten and forked", () => {
  const phases = ["read", "read", "read", "question", "generate"] as const;
  const numbers = [...integers(1, 4000, 1000)];
  const next = (below: number) => Math.abs(numbers.pop()!) % below;
  let history = new StepHistory();
  let plain: ReadStep[] = [];
  for (let i = 0; i < 800; i++) {
    const end = plain.at(-1)?.end ?? 0;
    const action = next(10);
    if (action < 7) {
      const size = action < 5 ? 64 : 1 + next(70);
      const step = { end: end + size, phase: action < 5 ? "read" : phases[next(5)]! } as const;
      history.push(step);
      plain.push(step);
    } else if (action === 7) {
      const length = Math.max(0, end - next(300));
      history.truncate(length);
      plain = truncated(plain, length);
    } else {
      const fork = history.fork();
      history.push({ end: end + 64, phase: "read" });
      history.truncate(0);
      equal(history.length, 0);
      history = fork;
    }
    equal(history.length, plain.at(-1)?.end ?? 0);
    deepEqual(history.steps(), plain);
  }
});

test("a text of ten million tokens is a few numbers; edges are steps, too", () => {
  const history = new StepHistory();
  deepEqual(history.steps(), []);
  history.assume(10_000_001, 64);
  equal(history.length, 10_000_001);
  const steps = history.steps();
  equal(steps.length, 156_251);
  deepEqual(steps.slice(-2), [{ end: 10_000_000, phase: "read" }, {
    end: 10_000_001,
    phase: "read",
  }]);
  for (const length of [10_000_000, 9_999_999, 65, 64, 63, 1, 0]) {
    history.truncate(length);
    equal(history.length, length);
    equal(history.steps().length, Math.ceil(length / 64));
  }
});
