/**
 * Things that do the same work, timed in turn by benchmark.js.
 *
 * On a shared machine a rate measured now says little about one measured a minute ago. So each round
 * times every contestant once, shortly after one another, the order turning from round to round;
 * rates are medians over the rounds, and ratios are medians of the ratios *within* each round.
 *
 * @module
 */

import Benchmark from "benchmark";

/** Something that can be timed. */
export interface Contestant {
  readonly name: string;
  /** One call. What it returns is awaited if it is a promise. */
  run(): unknown;
  /** Operations of one call; default 1. */
  readonly operations?: number;
  /**
   * What an operation of the last call took, in seconds, by a clock of its own: where ours would count
   * what is not meant, such as the way to another program.
   */
  seconds?(): number;
  /** Looks at what the last call left behind, and throws if that is wrong. */
  check?(): void | Promise<void>;
  /** Gives back what it holds. */
  dispose?(): void | Promise<void>;
}

/** How long a contest takes. */
export interface Effort {
  /** Samples of each contestant; odd, so that the median is one of them. */
  readonly rounds: number;
  /** What one sample takes at least, in seconds. */
  readonly sampleSeconds: number;
  /** Calls before each sample's clock starts, in seconds: threads may have gone to sleep or home. */
  readonly settleSeconds: number;
}

/** The seconds per operation of each contestant, by round. */
export type Samples = ReadonlyMap<Contestant, readonly number[]>;

/** Calls before the first round, in seconds: engines reach full speed after 10 ms or so. */
const WARM_UP_SECONDS = 0.06;

/**
 * Times contestants in turn and checks what each computed.
 *
 * @throws {Error} If one throws, or its result is wrong; the message names it.
 */
export async function compete(
  contestants: readonly Contestant[],
  { rounds, sampleSeconds, settleSeconds }: Effort,
): Promise<Samples> {
  const entries: { contestant: Contestant; call: Call; samples: number[] }[] = [];
  for (const contestant of contestants) {
    const call = await explain(contestant, () => callFor(contestant, WARM_UP_SECONDS));
    entries.push({ contestant, call, samples: [] });
  }
  const errors: unknown[] = [];
  const suite = new Benchmark.Suite();
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < entries.length; i++) {
      const { contestant, call, samples } = entries[(i + round) % entries.length]!;
      const { operations = 1, name } = contestant;
      const count = contestant.seconds ? 1 : Math.max(1, Math.ceil(sampleSeconds / call.seconds));
      const explained = (error: unknown) => errors.push(explanation(contestant, error));
      if (settleSeconds > 0 && call.seconds < 1) {
        suite.add({
          ...once,
          ...deferred(() => callFor(contestant, settleSeconds), explained),
          name: `${name}, settling`,
        });
      }
      suite.add({
        ...once,
        // A function that is not deferred is called once more, before the clock, to see that it runs.
        ...call.isAsync || call.seconds > sampleSeconds / 2
          ? deferred(() => contestant.run(), explained)
          : { fn: () => contestant.run() },
        name,
        initCount: count,
        // A benchmark that throws has no samples and says nothing; its `error` has to be asked for.
        onComplete(this: Benchmark) {
          if (this.error) explained(this.error);
          samples.push(contestant.seconds?.() ?? this.stats.sample[0]! / operations);
        },
      });
    }
  }
  await new Promise<void>((resolve) => {
    suite.on("complete", () => resolve()).run({ async: true });
  });
  if (errors.length > 0) throw errors[0];
  for (const { contestant } of entries) await explain(contestant, () => contestant.check?.());
  return new Map(entries.map(({ contestant, samples }) => [contestant, samples]));
}

/** One sample and no more, of as many calls as `initCount` says. */
const once: Benchmark.Options = {
  // Anything larger, and benchmark.js tries again with more calls where they were a little too quick.
  minTime: Number.MIN_VALUE,
  minSamples: 1,
  maxTime: -1,
  delay: 0.001,
};

/** benchmark.js does not await: a deferred function says itself when it is done. */
function deferred(work: () => unknown, explained: (error: unknown) => void): Benchmark.Options {
  const fn = async (deferred: { resolve(): void }) => {
    try {
      await work();
    } catch (error) {
      explained(error);
    }
    deferred.resolve();
  };
  return { defer: true, fn: fn as unknown as () => void };
}

/** What a call is like. */
interface Call {
  /** The quickest one. */
  readonly seconds: number;
  readonly isAsync: boolean;
}

/** Calls for a while, at least twice unless that takes too long. */
async function callFor(contestant: Contestant, least: number): Promise<Call> {
  let isAsync = false;
  let seconds = Infinity;
  const began = performance.now();
  const passed = () => (performance.now() - began) / 1000;
  for (let calls = 0; passed() < least || (calls < 2 && passed() < 2); calls++) {
    const start = performance.now();
    const result = contestant.run();
    isAsync = result instanceof Promise;
    await result;
    // Not below what the clock can tell.
    seconds = Math.min(seconds, Math.max(1e-6, (performance.now() - start) / 1000));
  }
  return { seconds, isAsync };
}

async function explain<T>(contestant: Contestant, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw explanation(contestant, cause);
  }
}

function explanation({ name }: Contestant, cause: unknown): Error {
  return new Error(`${name}: ${cause instanceof Error ? cause.message : cause}`, { cause });
}

/** The middle one; NaN of nothing. */
export function median(values: readonly number[]): number {
  const ordered = [...values].sort((a, b) => a - b);
  const half = ordered.length >> 1;
  if (ordered.length === 0) return NaN;
  return ordered.length % 2 === 1 ? ordered[half]! : (ordered[half - 1]! + ordered[half]!) / 2;
}
