import { deepEqual, equal, match, ok } from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { launch, notBuilt as skip } from "./support/command.ts";

const folder = mkdtempSync(join(tmpdir(), "reattention-test-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Writes a file for a test; gives its path. */
function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

interface Outcome {
  readonly status: number | null;
  readonly signal: string | null;
  readonly out: string;
  readonly error: string;
}

function start(args: readonly string[], environment: Record<string, string> = {}): ChildProcess {
  return spawn(process.execPath, [...launch, ...args], {
    env: { ...process.env, NO_COLOR: "1", REATTENTION_DEBUG: "", ...environment },
  });
}

function outcomeOf(child: ChildProcess): Promise<Outcome> {
  let out = "";
  let error = "";
  child.stdout!.setEncoding("utf8").on("data", (text: string) => out += text);
  child.stderr!.setEncoding("utf8").on("data", (text: string) => error += text);
  return new Promise((resolve) => {
    child.on("close", (status, signal) => resolve({ status, signal, out, error }));
  });
}

/** Runs the real command with `input` on its standard input. */
async function run(
  args: readonly string[],
  input: string | Uint8Array = "",
  environment: Record<string, string> = {},
): Promise<Outcome> {
  const child = start(args, environment);
  const outcome = outcomeOf(child);
  child.stdin!.on("error", () => {}); // it may end before it has read everything
  child.stdin!.end(input);
  return await outcome;
}

const PASS_KEY = " The pass key is 71432. Remember it. 71432 is the pass key.";
const QUESTION = "What is the pass key?";
/** Some 700 tokens: more than the embedded model was trained to. */
const FILLER = "The old man went slowly down to the harbour, and the rain fell upon the roofs. "
  .repeat(25);
const TEXT = `${FILLER.trim()}${PASS_KEY} ${FILLER}\n`;

test(
  "ask answers from standard input and says on standard error what it cost",
  { skip },
  async () => {
    const { status, out, error } = await run(["ask", QUESTION], TEXT);
    equal(out, "71432.\n");
    equal(status, 0);
    match(error, /^read +[\d,]+ tokens \([\d.]+ kB\) in .*tokens\/s$/m);
    match(error, /^wrote +\d+ tokens, the first after [\d.]+ s/m);
    match(
      error,
      /^scope +512 tokens of [\d,]+ at once, from 16 global \+ 16 x 16 selected \+ 240 local/m,
    );
    match(error, /^memory +.*cache.*at the peak$/m);
    ok(!error.includes("\x1b"), "no progress line where there is no terminal");
  },
);

test("ask --quiet leaves standard error empty, also with bytes replaced", { skip }, async () => {
  const input = Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(TEXT)]);
  deepEqual(await run(["ask", QUESTION, "--quiet"], input), {
    status: 0,
    signal: null,
    out: "71432.\n",
    error: "",
  });
});

test(
  "ask --json prints one object: answer, inputs in order, settings, statistics",
  { skip },
  async () => {
    const first = file("first.txt", FILLER);
    const second = file("second.txt", Buffer.concat([Buffer.from(TEXT), Buffer.from([0xc3])]));
    const { status, out, error } = await run(
      ["ask", QUESTION, "--json", "--file", first, "--file", second, "--local", "200"],
      "The end.",
    );
    equal(status, 0, error);
    const report = JSON.parse(out);
    equal(report.question, QUESTION);
    equal(report.answer, "71432.");
    deepEqual(report.inputs, [
      { name: first, byteLength: FILLER.length, replaced: 0 },
      { name: second, byteLength: TEXT.length + 1, replaced: 1 },
      { name: "standard input", byteLength: 8, replaced: 0 },
    ]);
    equal(report.settings.model, "embedded");
    equal(report.settings.scope.localSize, 200);
    equal(report.settings.scope.maxSpans, 16);
    const { stats } = report;
    equal(stats.inputBytes, FILLER.length + TEXT.length + 1 + 8);
    ok(stats.inputTokens > 1000 && stats.length > stats.inputTokens);
    ok(stats.largestScope <= 512 && stats.largestScope > 256, `${stats.largestScope}`);
    for (const name of ["inputSeconds", "secondsToFirstToken", "peakMemoryBytes", "cacheBytes"]) {
      ok(stats[name] > 0, name);
    }
  },
);

test("standard input can stand anywhere among the files, but only once", { skip }, async () => {
  const path = file("last.txt", "b");
  const { out } = await run(["ask", QUESTION, "--json", "--file", "-", "--file", path], "a");
  deepEqual(JSON.parse(out).inputs.map(({ name }: { name: string }) => name), [
    "standard input",
    path,
  ]);
  const twice = await run(["ask", QUESTION, "--file", "-", "--file", "-"], "a");
  equal(twice.status, 2);
  match(twice.error, /only once/);
});

test(
  "a question that fits no form is said to be one, and asked all the same",
  { skip },
  async () => {
    const args = ["ask", "Who are you?", "--max-tokens", "4"];
    const { status, out, error } = await run(args, FILLER);
    equal(status, 0);
    ok(out.trim().length > 0);
    match(error, /^note: .*no assistant.*What is the pass key/m);
    ok(!/^note/m.test((await run([...args, "--raw"], FILLER)).error));
  },
);

test("empty input is an error, not an answer", { skip }, async () => {
  for (const args of [["ask", QUESTION], ["generate"], ["ask", QUESTION, "--json"]]) {
    const { status, out, error } = await run(args, "");
    equal(status, 1);
    equal(out, "");
    match(error, /^reattention: Cannot (ask|generate): .*standard input is empty\n$/);
  }
});

test("files that cannot be read are refused at once, by name and reason", { skip }, async () => {
  const missing = join(folder, "missing.txt");
  const { status, out, error } = await run(["ask", QUESTION, "--file", missing], TEXT);
  deepEqual({ status, out }, { status: 1, out: "" });
  equal(error, `reattention: Cannot read "${missing}": there is no such file\n`);
  match((await run(["ask", QUESTION, "--file", folder])).error, /it is a folder\n$/);
  const trace = join(folder, "no", "trace.jsonl");
  match(
    (await run(["ask", QUESTION, "--trace", trace], TEXT)).error,
    /Cannot write .*there is no such folder\n$/,
  );
});

test("a trace never overwrites what is to be read", { skip }, async () => {
  const path = file("precious.txt", TEXT);
  const { status } = await run(["ask", QUESTION, "--file", path, "--trace", path]);
  equal(status, 2);
  equal(readFileSync(path, "utf8"), TEXT);
});

test("wrong usage exits with 2 and a hint, help and version with 0", { skip }, async () => {
  for (const args of [[], ["ask"], ["sing"], ["ask", QUESTION, "--span", "3"]]) {
    const { status, out, error } = await run(args);
    deepEqual({ status, out }, { status: 2, out: "" }, args.join(" "));
    match(error, /--help/);
  }
  const help = await run(["ask", "--help"]);
  deepEqual({ status: help.status, error: help.error }, { status: 0, error: "" });
  match(help.out, /Usage: reattention ask/);
  match((await run(["--version"])).out, /^\d+\.\d+\.\d+\n$/);
});

test(
  "what cannot work fails with the library's reason; the stack comes on request",
  { skip },
  async () => {
    const args = ["ask", QUESTION, "--local", "1K"];
    const { status, error } = await run(args, TEXT);
    equal(status, 1);
    match(error, /^reattention: .*trained length of 512 tokens.*\n$/);
    const long = await run(["ask", `${FILLER}?`, "--raw"], TEXT);
    equal(long.status, 1);
    match(long.error, /^reattention: Cannot ask a question of \d+ tokens/m);
    const debug = await run(args, TEXT, { REATTENTION_DEBUG: "1" });
    match(debug.error, /\n +at /);
  },
);

test("a folder that is no model and a file that is none are refused", { skip }, async () => {
  const empty = mkdtempSync(join(folder, "empty-"));
  const junk = mkdtempSync(join(folder, "junk-"));
  writeFileSync(join(junk, "config.json"), "{}");
  writeFileSync(join(junk, "model.safetensors"), new Uint8Array(100).fill(0xaa));
  for (const model of [empty, junk, join(folder, "nowhere")]) {
    for (const args of [["inspect", model], ["ask", QUESTION, "--model", model]]) {
      const { status, out, error } = await run(args, TEXT);
      deepEqual({ status, out }, { status: 1, out: "" }, error);
      match(error, /^reattention: Cannot .*\n$/);
    }
  }
});

test("bytes that are no text are replaced, counted and said", { skip }, async () => {
  let state = 1;
  const junk = Uint8Array.from({ length: 2000 }, () => {
    state = Math.imul(state, 1103515245) + 12345 | 0;
    return state >>> 16 & 0xff;
  });
  const replaced = [...new TextDecoder().decode(junk)].filter((c) => c === "\ufffd").length;
  const { status, out, error } = await run(["ask", QUESTION, "--max-tokens", "4"], junk);
  equal(status, 0, error);
  ok(out.endsWith("\n"));
  match(error, new RegExp(`^note: ${replaced} invalid UTF-8 sequences in standard input`, "m"));
});

test("generate goes on with the text, the same with the same seed", { skip }, async () => {
  const args = ["generate", "--max-tokens", "12", "--quiet"];
  const greedy = await run(args, "It was a dark and stormy night, and the old man");
  equal(greedy.status, 0, greedy.error);
  match(greedy.out, /^ \w+.*\n$/);
  // The same text in three places: what is read is their sum.
  const path = file("begin.txt", "It was a dark ");
  const cut = await run([...args, "--file", path, ", and the old man"], "and stormy night");
  equal(cut.out, greedy.out);

  const drawn = [...args, "--temperature", "1", "--seed"];
  const seven = await run([...drawn, "7"], FILLER);
  equal((await run([...drawn, "7"], FILLER)).out, seven.out);
  ok((await run([...drawn, "8"], FILLER)).out !== seven.out);
  const report = JSON.parse((await run([...drawn, "7", "--json"], FILLER)).out);
  equal(report.text.trimEnd(), seven.out.trimEnd());
  equal(report.settings.seed, 7);
  equal(report.stats.generatedTokens, 12);
});

test("generate needs no input when it is given a text", { skip }, async () => {
  const { status, out } = await run(["generate", "Once upon a time", "--max-tokens", "3"], "");
  equal(status, 0);
  ok(out.trim().length > 0);
});

test("--stop ends the text before it", { skip }, async () => {
  const whole = await run(["generate", "--max-tokens", "40", "--quiet"], FILLER);
  const word = whole.out.trim().split(/\s+/)[2]!;
  const { out } = await run(["generate", "--max-tokens", "40", "--quiet", "--stop", word], FILLER);
  equal(out, `${whole.out.slice(0, whole.out.indexOf(word))}\n`);
});

test("what was read is kept by --save, and gone on with by --load", { skip }, async () => {
  const path = join(folder, "kept.session");
  const first = await run(["ask", QUESTION, "--save", path], TEXT);
  equal(first.status, 0, first.error);
  match(first.error, /^saved +[\d,]+ tokens in .*kept\.session$/m);
  const kept = readFileSync(path);

  const again = await run(["ask", QUESTION, "--load", path], "");
  deepEqual({ status: again.status, out: again.out }, { status: 0, out: first.out });
  match(again.error, /^loaded +[\d,]+ tokens in .*kept\.session$/m);
  ok(kept.equals(readFileSync(path)));

  // A text in two parts, with a session's file in between, is the text.
  const half = join(folder, "half.session");
  const rules = ["--local", "200", "--select", "always", "--json"];
  const cut = TEXT.indexOf(" ", 500);
  await run(["generate", ...rules, "--save", half, "--max-tokens", "1"], TEXT.slice(0, cut));
  const trace = join(folder, "loaded.jsonl");
  const args = ["generate", "--load", half, "--save", half, "--max-tokens", "9", "--trace", trace];
  const parts = await run([...args, "--json"], TEXT.slice(cut));
  equal(parts.status, 0, parts.error);
  const whole = await run(["generate", ...rules, "--max-tokens", "9"], TEXT);
  const [one, two] = [JSON.parse(parts.out), JSON.parse(whole.out)];
  equal(one.text, two.text);
  equal(one.stats.loadedTokens + one.stats.inputTokens, two.stats.inputTokens);
  deepEqual(one.settings.scope, two.settings.scope);
  deepEqual([one.settings.select, one.settings.load, one.settings.save], ["always", half, half]);
  deepEqual([two.settings.load, two.settings.save], [null, null]);
  // What the trace says of the second part's bytes is true of that part.
  const spans = readFileSync(trace, "utf8").trimEnd().split("\n").map((line) => JSON.parse(line))
    .filter(({ type }) => type === "selection").flatMap(({ spans }) => spans);
  ok(spans.some(({ input }) => input === null), "nothing of the first part was selected");
  for (const { input, endByte } of spans) ok(input === null || endByte <= TEXT.length - cut);
});

test("--save and --load refuse what cannot work, before anything is read", { skip }, async () => {
  const path = file("no.session", TEXT);
  const none = await run(["ask", QUESTION, "--load", path], TEXT);
  equal(none.status, 1);
  match(none.error, /^reattention: Cannot restore the session in ".*is none\n$/);
  match(
    (await run(["ask", QUESTION, "--load", join(folder, "gone")])).error,
    /there is no such file/,
  );
  match((await run(["ask", QUESTION, "--save", folder], TEXT)).error, /it is a folder\n$/);
  const nowhere = join(folder, "no", "where");
  match(
    (await run(["ask", QUESTION, "--save", nowhere], TEXT)).error,
    /there is no such folder\n$/,
  );
  const { status } = await run(["ask", QUESTION, "--file", path, "--save", path]);
  equal(status, 2);
  equal(readFileSync(path, "utf8"), TEXT);
});

test("inspect knows the embedded model's size and price", { skip }, async () => {
  const { status, out } = await run(["inspect", "--json"]);
  equal(status, 0);
  const summary = JSON.parse(out);
  equal(summary.parameters, 2_623_744);
  equal(summary.shape.trainedLength, 512);
  deepEqual(summary.cacheBytesPerToken, { i16: 2080, f32: 4640 });
  equal(summary.cacheBytesPerMillionTokens.i16, 2080e6);
  equal(summary.scopeTokens, 512);
  equal(summary.stepSize, 64);
  deepEqual(summary.selectLayers, [1, 2]);
  equal(summary.selectLayersFrom, "profile");
  const page = (await run(["inspect"])).out;
  match(page, /^cache +2\.08 kB a token in i16, 4\.64 kB in f32$/m);
  match(page, /^selects +in layers 1, 2 of 4 \(from the profile\)$/m);
  match(page, /^ +\d+ of 54 answers right at 8,192 and 16,384 tokens; all layers: \d+$/m);
  match(page, /^ +perplexity [\d.]+ on 16,384 tokens of prose; all layers: [\d.]+$/m);
});

test(
  "what selects is chosen by --select-layers, and reports and traces say so",
  { skip },
  async () => {
    const trace = join(folder, "layers.jsonl");
    const args = ["ask", QUESTION, "--select-layers", "3,1"];
    const { status, out, error } = await run([...args, "--trace", trace], TEXT);
    equal(status, 0, error);
    equal(out, "71432.\n");
    match(error, /^select +for the question and what was written, in layers 1, 3 of 4$/m);
    const [header, ...lines] = readFileSync(trace, "utf8").trimEnd().split("\n")
      .map((line) => JSON.parse(line));
    deepEqual(header.selectLayers, [1, 3]);
    deepEqual(new Set(lines.slice(0, -1).map(({ layer }) => layer)), new Set([1, 3]));
    deepEqual(JSON.parse((await run([...args, "--json"], TEXT)).out).settings.selectLayers, [1, 3]);
    match((await run([...args, "--select", "never"], TEXT)).error, /^select +never$/m);
    const wrong = await run(["ask", QUESTION, "--select-layers", "4"], TEXT);
    equal(wrong.status, 1);
    match(wrong.error, /integer from 0 to 3, the model's last layer, got 4/);
  },
);

test("the trace says in bytes of each input what was selected", { skip }, async () => {
  // Invalid bytes before the fact: offsets are those of the input, not of the text it became.
  const prefix = Buffer.concat([
    Buffer.from([0xff]),
    Buffer.from(FILLER),
    Buffer.from([0xc3, 0x28]),
  ]);
  const first = Buffer.concat([prefix, Buffer.from(FILLER)]);
  const second = Buffer.concat([prefix, Buffer.from(TEXT)]);
  const paths = [file("one.txt", first), file("two.txt", second)];
  const trace = join(folder, "trace.jsonl");
  const args = ["ask", QUESTION, "--trace", trace, "--file", paths[0]!, "--file", paths[1]!];
  const { status, out, error } = await run(args);
  equal(status, 0, error);
  equal(out, "71432.\n");

  const lines = readFileSync(trace, "utf8").trimEnd().split("\n").map((line) => JSON.parse(line));
  const header = lines.shift();
  const end = lines.pop();
  equal(header.type, "header");
  deepEqual(header.inputs, [...paths, "standard input"]);
  equal(header.scope.localSize, 240);
  equal(end.type, "end");
  equal(end.error, undefined);
  deepEqual(end.inputs.map(({ byteLength }: { byteLength: number }) => byteLength), [
    first.length,
    second.length,
    0,
  ]);
  ok(lines.length > 0);
  const bytes = [first, second];
  let hits = 0;
  for (const line of lines) {
    equal(line.type, "selection");
    ok(["question", "generate"].includes(line.phase));
    for (const span of line.spans) {
      ok(span.start < span.end && span.end <= line.length);
      if (span.input === null) continue;
      if (span.endInput === undefined) {
        const text = bytes[span.input]!.subarray(span.startByte, span.endByte).toString();
        ok(span.endByte > span.startByte && span.endByte <= bytes[span.input]!.length);
        if (text.includes("pass key is 7")) hits++;
      } else ok(span.endInput > span.input);
    }
  }
  ok(hits > 0, "no selected stretch of the inputs holds the fact");
  // The embedded model looks things up in its layer 1.
  ok(lines.some(({ layer, phase }) => layer === 1 && phase === "generate"));
});

test("with a selection per KV head the trace has a line for each", { skip }, async () => {
  const trace = join(folder, "heads.jsonl");
  const args = ["ask", QUESTION, "--sharing", "kvHead", "--spans", "8", "--trace", trace];
  equal((await run([...args, "--quiet"], TEXT)).status, 0);
  const lines = readFileSync(trace, "utf8").trimEnd().split("\n").map((line) => JSON.parse(line));
  deepEqual(
    new Set(lines.filter(({ type }) => type === "selection").map(({ kvHead }) => kvHead)),
    new Set([0, 1]),
  );
});

test("a trace of a run that fails ends with the reason", { skip }, async () => {
  const trace = join(folder, "failed.jsonl");
  const { status } = await run(["ask", `${FILLER}?`, "--raw", "--trace", trace], TEXT);
  equal(status, 1);
  const lines = readFileSync(trace, "utf8").trimEnd().split("\n").map((line) => JSON.parse(line));
  equal(lines[0].type, "header");
  match(lines.at(-1).error, /Cannot ask a question/);
});

test("a reader that goes away is not an error", { skip }, async () => {
  const child = start(["generate", "--max-tokens", "400"]);
  let error = "";
  child.stderr!.setEncoding("utf8").on("data", (text: string) => error += text);
  child.stdin!.end(FILLER);
  child.stdout!.once("data", () => child.stdout!.destroy());
  const status = await new Promise((resolve) => child.on("close", resolve));
  equal(status, 0, error);
  ok(!/reattention:|EPIPE|Error/.test(error), error);
});

test("an answer needs nobody to read standard error", { skip }, async () => {
  const child = start(["ask", QUESTION]);
  child.stderr!.destroy();
  let out = "";
  child.stdout!.setEncoding("utf8").on("data", (text: string) => out += text);
  child.stdin!.end(Buffer.concat([Buffer.from([0xff]), Buffer.from(TEXT)])); // something to note
  equal(await new Promise((resolve) => child.on("close", resolve)), 0);
  equal(out, "71432.\n");
});

test(
  "input is read no faster than the model reads, and Ctrl-C ends it at once",
  { skip },
  async () => {
    const child = start(["ask", QUESTION]);
    const outcome = outcomeOf(child);
    const chunk = Buffer.from(TEXT.repeat(16)); // 64 kB
    let accepted = 0;
    let ended = false;
    child.stdin!.on("error", () => ended = true);
    const feed = () => {
      if (!ended) child.stdin!.write(chunk, (error) => error || (accepted += chunk.length, feed()));
    };
    feed();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    // A second's work is some 100 kB; what pipes and buffers hold comes on top.
    ok(accepted < 8e6, `${accepted} bytes were taken`);
    const began = performance.now();
    child.kill("SIGINT");
    const { status, signal } = await outcome;
    ok(signal === "SIGINT" || status === 130, `status ${status}, signal ${signal}`);
    ok(performance.now() - began < 1500);
  },
);
