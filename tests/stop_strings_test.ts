import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type StopRules, StopStrings } from "../src/llama/stop_strings.ts";

/** What a text in pieces shows, and whether it was stopped. */
function show(rules: StopRules, pieces: readonly string[]): { text: string; stopped: boolean } {
  const stop = new StopStrings(rules);
  let text = "";
  for (const piece of pieces) {
    const step = stop.push(piece);
    text += step.text;
    if (step.stopped) return { text, stopped: true };
  }
  return { text: text + stop.flush(), stopped: false };
}

test("StopStrings ends before or after the string that comes first", () => {
  const rules = { before: ["\n", "END"], after: ["."] };
  deepEqual(show(rules, ["one. two\n"]), { text: "one.", stopped: true });
  deepEqual(show(rules, ["one\ntwo."]), { text: "one", stopped: true });
  deepEqual(show(rules, ["one EN", "D two"]), { text: "one ", stopped: true });
  deepEqual(show(rules, ["one EN"]), { text: "one EN", stopped: false });
  deepEqual(show({}, ["all", "."]), { text: "all.", stopped: false });
});

test("StopStrings shows text as soon as it cannot become a stop string", () => {
  const stop = new StopStrings({ before: ["</s>"] });
  equal(stop.push("a <").text, "a ");
  equal(stop.push("b").text, "<b");
});

test("StopStrings gives the same text however it is cut", () => {
  const text = fc.string({ unit: fc.constantFrom("a", "b", "."), maxLength: 24 });
  const rules = fc.record({
    before: fc.array(fc.constantFrom("aab", "ba", "abab"), { maxLength: 2 }),
    after: fc.array(fc.constantFrom("..", "b.a"), { maxLength: 2 }),
  });
  fc.assert(
    fc.property(text, rules, fc.nat(24), (text, rules, cut) => {
      const whole = show(rules, [text]);
      deepEqual(show(rules, [text.slice(0, cut), text.slice(cut)]), whole);
      deepEqual(show(rules, text.split("")), whole);
      const stops = [...rules.before, ...rules.after];
      equal(whole.stopped, stops.some((stop) => text.includes(stop)));
      ok(text.startsWith(whole.text));
    }),
    { seed: 1, numRuns: 2000 },
  );
});
