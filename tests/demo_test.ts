import { deepEqual, equal, match, ok } from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { judge } from "../src/cli/answers.ts";
import { createNeedles } from "../src/eval/haystack.ts";
import { mostSelected, stepsThatSelected } from "../src/cli/selections.ts";
import type { SelectionRecord } from "../src/llama/selection_record.ts";
import { launch, notBuilt as skip } from "./support/command.ts";

const folder = mkdtempSync(join(tmpdir(), "reattention-test-"));
after(() => rmSync(folder, { recursive: true, force: true }));

test("the demo's answers are those it hid, and the baselines' are not", { skip }, async () => {
  // The shortest text there may be, so that it takes seconds; long enough for all baselines to fail.
  const args = [...launch, "demo", "--tokens", "2000", "--seed", "4"];
  const child = spawn(process.execPath, args, {
    env: { ...process.env, NO_COLOR: "1", TMPDIR: folder },
  });
  let out = "";
  let error = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => out += text);
  child.stderr.setEncoding("utf8").on("data", (text: string) => error += text);
  const status = await new Promise((resolve) => child.on("close", resolve));
  equal(status, 0, `${error}\n${out}`);
  equal(error, "");
  // Everything it says can be found in the file it wrote.
  const path = /^text +(\S+)/m.exec(out)![1]!;
  for (const line of out.split("\n")) ok(line.length <= 100 || line.includes(path), line);
  ok(path.startsWith(folder));
  const text = readFileSync(path, "latin1");
  const tokens = Number(/^read +([\d,]+) tokens/m.exec(out)![1]!.replaceAll(",", ""));
  ok(tokens >= 2000 && tokens < 2500, `${tokens} tokens`);
  match(out, /^right +5 of 5 +\d of 5 +\d of 5 +\d of 5 +5 of 5$/m);
  const [, window, full] = /^right +5 of 5 +(\d) of 5 +(\d) of 5/m.exec(out)!;
  ok(Number(window) <= 1 && Number(full) <= 1, "the baselines should fail");
  for (const needle of createNeedles(["magic", "magic", "magic", "passkey", "date"], 4)) {
    ok(text.includes(needle.sentence));
    ok(out.includes(`${needle.question} ${needle.answer}`));
  }
  const quotes = [...out.matchAll(/bytes ([\d,]+) to ([\d,]+)(?:: the fact)?\n +"([^]*?)"\n/g)];
  ok(quotes.length >= 10, out);
  for (const [, from, to, quote] of quotes) {
    const [start, end] = [from, to].map((count) => Number(count!.replaceAll(",", "")));
    equal(text.slice(start, end).replace(/\s+/g, " ").trim(), quote!.replace(/\s+/g, " ").trim());
  }
  match(out, /^ {2}▸ layer \d, \d+ steps, bytes [\d,]+ to [\d,]+: the fact$/m);
  match(out, /^took [\d.]+ s, [\d.]+ MB of memory at the peak$/m);
});

test("an answer is right when it is the hidden one to the letter", () => {
  const [needle] = createNeedles(["magic"], 1);
  const { answer } = needle!;
  for (const text of [answer, `${answer}.`, ` ${answer}. `]) ok(judge(text, needle!).right, text);
  for (const text of ["", ".", answer.slice(1), `${answer}0`, `${answer}.5`, `${answer} and`]) {
    ok(!judge(text, needle!).right, text);
  }
});

/** A record of one layer's step, from [start, end) pairs of 10-byte tokens. */
function record(layer: number, ...sets: [number, number][][]): SelectionRecord {
  return {
    step: 0,
    phase: "generate",
    layer,
    length: 1000,
    spans: sets.map((set) =>
      set.map(([start, end]) => ({ start, end, startByte: start * 10, endByte: end * 10 }))
    ),
  };
}

test("the most selected stretches come first and end where they are half as frequent", () => {
  const records = [
    record(1, [[10, 20], [50, 60]]),
    record(1, [[12, 20], [80, 84]]),
    record(1, [[12, 18]]),
    record(1, [[12, 18], [80, 84]]),
    record(0, [[0, 100]]),
  ];
  deepEqual(mostSelected(records, 1), [
    { start: 12, end: 20, steps: 4 }, // 10 and 11 only once
    { start: 80, end: 84, steps: 2 },
    { start: 10, end: 12, steps: 1 },
    { start: 50, end: 60, steps: 1 },
  ]);
  deepEqual(mostSelected(records, 2), []);
});

test("a token that several KV heads selected counts once a step", () => {
  const records = [record(0, [[5, 8]], [[6, 9]])];
  deepEqual(mostSelected(records, 0), [{ start: 5, end: 9, steps: 1 }]);
});

test("steps that selected any byte of a stretch are counted, for one layer", () => {
  const records = [
    record(1, [[10, 20]]),
    record(1, [[30, 40]], [[20, 21]]),
    record(1, [[21, 30]]),
    record(0, [[10, 20]]),
  ];
  equal(stepsThatSelected(records, 1, { startByte: 195, endByte: 205 }), 2);
  equal(stepsThatSelected(records, 0, { startByte: 195, endByte: 205 }), 1);
  equal(stepsThatSelected(records, 0, { startByte: 200, endByte: 205 }), 0);
});
