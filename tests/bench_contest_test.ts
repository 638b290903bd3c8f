// How the benchmarks take turns, and what they make of the samples.

import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "node:test";
import { compete, type Contestant, median } from "../bench/support/contest.ts";
import { type Limits, openLimits } from "../bench/support/limits.ts";
import { evaluate, linesOf, markdown, resultOf } from "../bench/support/report.ts";
import type { Contest } from "../bench/support/suite.ts";

const quick = { rounds: 3, sampleSeconds: 0.001, settleSeconds: 0 };

function busy(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end) { /* takes its time */ }
}

test("contestants are timed in turn, synchronous and asynchronous ones alike", async () => {
  const calls: string[] = [];
  const one: Contestant = {
    name: "one",
    run() {
      calls.push("one");
      busy(4);
    },
  };
  const two: Contestant = {
    name: "two",
    run() {
      calls.push("two");
      return new Promise((resolve) => setTimeout(resolve, 8));
    },
  };
  const samples = await compete([one, two], quick);
  equal(samples.get(one)!.length, 3);
  equal(samples.get(two)!.length, 3);
  ok(median(samples.get(one)!) >= 0.0039, `${samples.get(one)}`);
  ok(median(samples.get(two)!) >= 0.0069, `${samples.get(two)}`);
  // After the warm-up they alternate: at least a turn a round.
  const turns = calls.filter((name, i) => name !== calls[i - 1]).length;
  ok(turns >= 6, calls.join());
});

test("a contestant's own clock counts where it has one", async () => {
  const other: Contestant = { name: "other", run: () => Promise.resolve(), seconds: () => 0.25 };
  deepEqual((await compete([other], quick)).get(other), [0.25, 0.25, 0.25]);
});

test("a wrong result ends the contest and names whose it is", async () => {
  const wrong: Contestant = {
    name: "wrong",
    run: () => {},
    check() {
      throw new Error("output 3 was not written");
    },
  };
  await rejects(compete([wrong], quick), /^Error: wrong: output 3 was not written$/);
});

test("what throws while it is timed is not taken for quick", async () => {
  for (const isAsync of [false, true]) {
    let calls = 0;
    const late: Contestant = {
      name: "late",
      run() {
        busy(1);
        // The warm-up takes 60 ms.
        const fails = ++calls > 70;
        if (isAsync) return fails ? Promise.reject(new Error("too late")) : Promise.resolve();
        if (fails) throw new Error("too late");
      },
    };
    await rejects(compete([late], { ...quick, rounds: 100 }), /^Error: late: too late$/);
  }
});

test("median is the middle, or between the two middles", () => {
  equal(median([3, 1, 2]), 2);
  equal(median([4, 1, 2, 3]), 2.5);
  ok(Number.isNaN(median([])));
});

test("rates and shares of the limit are medians of what was measured in the same round", () => {
  const [ours, peer, limit] = ["ours", "peer", "limit"].map((name) => ({ name, run: () => {} }));
  const contest: Contest = {
    name: "matmul/f32",
    threads: 1,
    unit: "GFLOPS",
    work: 6,
    limit: { name: "fma", work: 6e9 },
    ours: ours!,
    peers: [peer!],
  };
  const samples = new Map([
    // The machine slows down by half in the second round, and by two thirds in the third.
    [ours!, [0.1, 0.2, 0.3]],
    [peer!, [0.2, 0.4, 0.6]],
    [limit!, [0.05, 0.1, 0.15]],
  ]);
  const limits = { work: () => 6e9 } as unknown as Limits;
  const result = evaluate(contest, samples, { contestant: limit!, limits });
  deepEqual(linesOf(result, "deno 2"), [{
    name: "matmul/f32",
    runtime: "deno 2",
    threads: 1,
    value: 30,
    unit: "GFLOPS",
    percentOfLimit: 50,
    peer: "peer",
    ratio: 2,
  }]);
});

test("shares of one step stand in one row of the report", () => {
  const share = (part: string, value: number) =>
    resultOf({ name: `s: ${part}`, threads: 1, value, unit: "%", share: { of: "s", part } });
  const lines = markdown(["machine", "version", "command"], [
    share("matmul", 60),
    share("attend", 39.5),
    share("copy", 0.5),
  ], []);
  ok(lines.includes("| step | threads | matmul | attend |"));
  ok(lines.includes("| s | 1 | 60.0 | 39.5 |"));
});

test("the limits are computed, on one thread and on two, and their workers leave", async () => {
  for (const threads of [1, 2]) {
    const limits = await openLimits(threads);
    try {
      limits.contestant("fma").run();
      limits.contestant("fma").run();
      equal(limits.work("read") % threads, 0);
    } finally {
      await limits.close();
    }
  }
});
