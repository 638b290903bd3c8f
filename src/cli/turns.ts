/**
 * Several parties computing on one thread, fairly.
 *
 * @module
 */

/** Does some work when it is the party's turn; a party asks for one turn at a time. */
export type Turn = <T>(work: () => Promise<T>) => Promise<T>;

interface Party {
  /** Milliseconds of work, or what counts as such. */
  used: number;
  /** Whether it did not want the turn when it was last passed on. */
  idle: boolean;
  /** Starts its turn; null where it does not wait for one. */
  start: (() => void) | null;
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
 *   read!(async () => void order.push("read")),
 *   answer!(async () => void order.push("answer")),
 * ]);
 * deepEqual(order, ["read", "answer"]);
 * ```
 */
export function createTurns(count: number, now: () => number = () => performance.now()): Turn[] {
  const parties: Party[] = Array.from(
    { length: count },
    () => ({ used: 0, idle: true, start: null }),
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
    if (parties.every(({ start }) => start === null)) {
      busy = false;
      return;
    }
    // Whoever has just worked may want to go on and gets the time to say so; so do pipes and signals.
    await new Promise((resolve) => setTimeout(resolve, 0));
    for (const party of parties) party.idle = party.start === null;
    const next = parties.filter(({ idle }) => !idle).reduce((a, b) => b.used < a.used ? b : a);
    const start = next.start!;
    next.start = null;
    start();
  };

  return parties.map((party) => async <T>(work: () => Promise<T>): Promise<T> => {
    if (busy) {
      arrive(party);
      await new Promise<void>((resolve) => party.start = resolve);
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
