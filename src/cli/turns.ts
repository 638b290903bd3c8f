/**
 * Several parties computing on one thread, fairly.
 *
 * @module
 */

/** Does some work when it is the party's turn. */
export type Turn = <T>(work: () => T | Promise<T>) => Promise<T>;

interface Party {
  /** Milliseconds of work, or what counts as such. */
  used: number;
  /** Whether it did not want the turn when it was last passed on. */
  idle: boolean;
  /** Start what it waits to do, in order. */
  readonly waiting: (() => void)[];
}

/**
 * Turns for parties that work on one thread: one at a time, the turn going to who has worked least
 * while more than one wanted to. So each gets its share of the time, however long its turns are; a
 * party alone goes on at full speed, and one that comes back has no claim to what others used
 * meanwhile.
 *
 * @param count Parties.
 * @param now Milliseconds; for tests.
 * @returns Each party's way to its turns.
 *
 * @example Usage
 * ```ts
 * import { createTurns } from "./turns.ts";
 * import { deepEqual } from "node:assert/strict";
 *
 * const [read, answer] = createTurns(2);
 * const order: string[] = [];
 * await Promise.all([
 *   read!(() => order.push("read")),
 *   answer!(() => order.push("answer")),
 * ]);
 * deepEqual(order, ["read", "answer"]);
 * ```
 */
export function createTurns(count: number, now: () => number = () => performance.now()): Turn[] {
  const parties: Party[] = Array.from(
    { length: count },
    () => ({ used: 0, idle: true, waiting: [] }),
  );
  let busy = false;

  /** Gives `party` as much of a past as the others have. */
  const arrive = (party: Party): void => {
    const others = parties.filter((other) => other !== party && !other.idle);
    if (party.idle && others.length > 0) {
      party.used = Math.max(party.used, Math.min(...others.map(({ used }) => used)));
    }
    party.idle = false;
  };

  const passOn = async (): Promise<void> => {
    if (parties.every(({ waiting }) => waiting.length === 0)) {
      busy = false;
      return;
    }
    // Whoever has just worked may want to go on and gets the time to say so; so do pipes and signals.
    await new Promise((resolve) => setTimeout(resolve, 0));
    for (const party of parties) party.idle = party.waiting.length === 0;
    const next = parties.filter(({ idle }) => !idle).reduce((a, b) => b.used < a.used ? b : a);
    next.waiting.shift()!();
  };

  return parties.map((party) => async <T>(work: () => T | Promise<T>): Promise<T> => {
    if (busy) {
      arrive(party);
      await new Promise<void>((resolve) => party.waiting.push(resolve));
    } else {
      busy = true;
      for (const other of parties) other.idle = other !== party;
    }
    const began = now();
    try {
      return await work();
    } finally {
      party.used += now() - began;
      void passOn();
    }
  });
}
