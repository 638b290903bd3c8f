import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { TokenLog } from "../src/text/token_log.ts";

/** Token `n` has `n % 7` bytes. */
const lengthOf = (token: number) => token % 7;

/** What a log must say, the plain way: each token's start, and the end. */
interface Model {
  readonly tokens: number[];
  readonly starts: number[];
  end: number;
}

function check(log: TokenLog, model: Model): void {
  equal(log.length, model.tokens.length);
  equal(log.byteLength, model.end);
  deepEqual([...log.slice()], model.tokens);
  const starts = Array.from({ length: log.length + 1 }, (_, i) => log.byteOffset(i));
  deepEqual(starts, [...model.starts, model.end]);
}

function appendBoth(log: TokenLog, model: Model, count: number, isInput: boolean, extra: number) {
  const tokens = Array.from({ length: count }, (_, i) => model.tokens.length + i);
  let sum = 0;
  for (const token of tokens) {
    model.tokens.push(token);
    model.starts.push(model.end + sum);
    if (isInput) sum += lengthOf(token);
  }
  log.append(Uint32Array.from(tokens), isInput ? sum + extra : null);
  if (isInput) model.end += sum + extra;
}

test("TokenLog answers like plain lists through appends, truncations and forks", () => {
  const step = fc.oneof(
    fc.record({
      count: fc.integer({ min: 0, max: 6000 }),
      isInput: fc.boolean(),
      extra: fc.nat(3),
    }),
    fc.record({ keep: fc.double({ min: 0, max: 1, noNaN: true }) }),
    fc.constant("fork" as const),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12, size: "max" }), (steps) => {
      let log = new TokenLog(lengthOf);
      let model: Model = { tokens: [], starts: [], end: 0 };
      const left: [TokenLog, Model][] = [];
      for (const step of steps) {
        if (step === "fork") {
          left.push([log, { ...model, tokens: [...model.tokens], starts: [...model.starts] }]);
          log = log.fork();
        } else if ("keep" in step) {
          const length = Math.floor(step.keep * log.length);
          if (length < log.length) {
            model = {
              tokens: model.tokens.slice(0, length),
              starts: model.starts.slice(0, length),
              end: model.starts[length]!,
            };
          }
          log.truncate(length);
        } else appendBoth(log, model, step.count, step.isInput, step.extra);
      }
      check(log, model);
      // What a fork did is none of its parent's business.
      for (const [parent, before] of left) check(parent, before);
    }),
    { seed: 2, numRuns: 60 },
  );
});

test("TokenLog believes anchors and the batch's length before the tokens' own lengths", () => {
  const log = new TokenLog(lengthOf);
  log.append([5, 3, 3], 10, [{ index: 1, byteOffset: 4 }, { index: 3, byteOffset: 10 }]);
  log.append([2], 2);
  deepEqual([0, 1, 2, 3, 4].map((t) => log.byteOffset(t)), [0, 4, 7, 10, 12]);
});

test("TokenLog never says more than the input had", () => {
  const log = new TokenLog(lengthOf);
  log.append([6, 6, 6], 8);
  deepEqual([0, 1, 2, 3].map((t) => log.byteOffset(t)), [0, 6, 8, 8]);
});

test("TokenLog keeps tokens that come from no input where the input ended", () => {
  const log = new TokenLog(lengthOf);
  log.append([6], null);
  log.append([5, 4], 9);
  log.append([6, 6], null);
  log.append([1], 1);
  deepEqual([0, 1, 2, 3, 4, 5, 6].map((t) => log.byteOffset(t)), [0, 0, 5, 9, 9, 9, 10]);
  equal(log.textOf((tokens) => [...tokens].join(), 1, 3), "5,4");
});

test("TokenLog declines indices beyond its end, and byte lengths that are none", () => {
  const log = new TokenLog(lengthOf);
  log.append([1, 2], 3);
  for (const index of [3, -1, 0.5]) throws(() => log.byteOffset(index), RangeError);
  throws(() => log.slice(1, 3), RangeError);
  throws(() => log.slice(2, 1), RangeError);
  throws(() => log.truncate(3), RangeError);
  throws(() => log.append([1], -1), RangeError);
});
