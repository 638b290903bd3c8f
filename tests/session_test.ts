/**
 * Sessions on the embedded model: what is read does not depend on how it arrives, and nothing that
 * was accepted is lost.
 */
import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { after, before, test } from "node:test";
import { OutOfMemoryError } from "../src/errors.ts";
import { type Needle, writeHaystack } from "../src/eval/haystack.ts";
import { loadModel, type Model } from "../src/llama/load.ts";
import type { Session } from "../src/llama/session.ts";
import type { SessionOptions } from "../src/llama/session_options.ts";
import type { SelectionRecord } from "../src/llama/selection_record.ts";
import { FULL_ATTENTION } from "../src/reattention/scope.ts";

let model: Model;
before(async () => {
  model = await loadModel();
});
after(() => model[Symbol.dispose]());

const NEEDLE = " One of the special magic numbers for quiet-falcon is: 7392148.";
const QUESTION = "What is the special magic number for quiet-falcon?";

/** Some prose of at least `length` characters, a sentence a third into it. */
function text(length: number, sentence = NEEDLE): string {
  const needle: Needle = {
    kind: "magic",
    key: "",
    sentence,
    question: QUESTION,
    answer: "",
    depth: 1 / 3,
  };
  let text = "";
  for (const piece of writeHaystack({ seed: 3, length, needles: [needle] })) text += piece.text;
  return text;
}

/** Writes pieces to a session and closes it. */
async function write(session: Session, pieces: Iterable<string>): Promise<void> {
  const writer = session.writable().getWriter();
  for (const piece of pieces) await writer.write(piece);
  await writer.close();
}

/** `text` in pieces of the sizes, in turn. */
function* cut(text: string, sizes: readonly number[]): Generator<string> {
  for (let start = 0, i = 0; start < text.length; i++) {
    const size = sizes[i % sizes.length]!;
    yield text.slice(start, start + size);
    start += size;
  }
}

async function answer(session: Session, question = QUESTION): Promise<string> {
  let answer = "";
  for await (const piece of session.ask(question, { maxTokens: 16 })) answer += piece;
  return answer;
}

test("a session answers from a text forty times the trained length", async () => {
  using session = model.session();
  await write(session, [text(60_000)]);
  ok(session.length > 40 * model.config.trainedLength, `${session.length} tokens`);
  equal(await answer(session), "7392148.");
  ok(session.stats.largestScope <= model.config.trainedLength);
});

test("a session without selection, or with full attention, does not", async () => {
  using session = model.session();
  await write(session, [text(60_000)]);
  using window = session.fork({ select: "never" });
  using full = session.fork({ scope: FULL_ATTENTION, beyondTrainedLength: true });
  ok(!(await answer(window)).includes("7392148"));
  ok(!(await answer(full)).includes("7392148"));
  equal(await answer(session), "7392148.");
});

test("a session's logits do not depend on how its text was cut", async () => {
  const whole = text(4000);
  const all: Float32Array[] = [];
  for (const sizes of [[whole.length], [1], [7, 300, 64], [63, 64, 65]]) {
    using session = model.session();
    await write(session, cut(whole, sizes));
    all.push(await session.logits());
  }
  for (const logits of all) deepEqual(logits, all[0]);
});

test("prefill in any pieces is the same as at once", async () => {
  const tokens = model.tokenizer.encode(text(3000));
  const all: Float32Array[] = [];
  for (const size of [tokens.length, 1, 63, 64, 65]) {
    using session = model.session();
    for (let start = 0; start < tokens.length; start += size) {
      await session.prefill(tokens.subarray(start, start + size));
    }
    equal(session.length, tokens.length);
    all.push(await session.logits());
  }
  for (const logits of all) deepEqual(logits, all[0]);
});

for (const length of [0, 1, 2, 63, 64, 65, 255, 256, 257, 513]) {
  test(`a session of ${length} tokens forks, truncates and replays`, async () => {
    const tokens = model.tokenizer.encode(text(3000)).subarray(0, length + 40);
    using session = model.session();
    await session.prefill(tokens.subarray(0, length));
    equal(session.length, length);
    if (length === 0) {
      await rejects(session.logits(), RangeError);
      return;
    }
    const logits = await session.logits();
    deepEqual(await session.logits(), logits);

    using fork = session.fork();
    await session.prefill(tokens.subarray(length));
    const longer = await session.logits();
    deepEqual(await fork.logits(), logits);
    await fork.prefill(tokens.subarray(length));
    deepEqual(await fork.logits(), longer);

    // Forgetting what came after `length` gives the same next token's logits as before it.
    session.truncate(length);
    deepEqual(await session.logits(), logits);
  });
}

test("two questions over one reading answer as two readings do", async () => {
  const other = " One of the special magic numbers for golden-river is: 1850263.";
  const whole = text(20_000, NEEDLE) + other + text(9_000, "");
  using session = model.session();
  await write(session, [whole]);
  using fork = session.fork();
  equal(await answer(session), "7392148.");
  equal(await answer(fork, "What is the special magic number for golden-river?"), "1850263.");
  equal(session.stats.bytesPerToken, fork.stats.bytesPerToken);
});

test("a fork has all that was written to a writable that is still open", async () => {
  const before = text(9_000, "");
  using session = model.session();
  const writer = session.writable().getWriter();
  {
    using empty = session.fork();
    equal(empty.length, 0);
  }
  // Far less than is encoded or read at once.
  await writer.write("It was");
  {
    using fork = session.fork();
    equal(fork.textOf(1, fork.length), "It was");
  }
  await writer.write(before.slice(6) + NEEDLE);
  {
    using fork = session.fork();
    using whole = model.session();
    await write(whole, [`It was${before.slice(6)}${NEEDLE}`]);
    equal(fork.length, whole.length);
    ok(fork.length > session.length, "the writable holds nothing back");
    equal(fork.byteOffset(fork.length), `It was${before.slice(6)}${NEEDLE}`.length);
    const [logits, expected] = [await fork.logits(), await whole.logits()];
    deepEqual(logits, expected);
    equal(await answer(fork), "7392148.");
  }
  await writer.write(" The end.");
  await writer.close();
  equal(session.textOf(session.length - 6, session.length).trimEnd().slice(-8), "The end.");
});

test("a slow session slows its source", async () => {
  using session = model.session();
  let pulled = 0;
  const piece = text(2000);
  const source = new ReadableStream<string>({
    pull(controller) {
      pulled++;
      controller.enqueue(piece);
    },
  }, { highWaterMark: 0 });
  const stop = new AbortController();
  const done = source.pipeTo(session.writable(), { signal: stop.signal });
  while (session.length < 5000) await new Promise((resolve) => setTimeout(resolve, 1));
  const read = session.length * 2.6 / piece.length;
  ok(pulled <= read * 1.3 + 4, `${pulled} pieces pulled, about ${read} read`);
  stop.abort();
  await rejects(done, { name: "AbortError" });
});

test("aborting a write keeps what was read and leaves the session usable", async () => {
  using session = model.session();
  const stop = new AbortController();
  const writer = session.writable({ signal: stop.signal }).getWriter();
  await writer.write(text(20_000));
  const before = session.length;
  const write = writer.write(text(200_000));
  setTimeout(() => stop.abort(new Error("enough")), 40);
  await rejects(write, /enough/);
  ok(session.length >= before);
  equal(await answer(session), "7392148.");
});

test("aborting an answer leaves the session usable", async () => {
  using session = model.session();
  await write(session, [text(6000)]);
  const stop = new AbortController();
  await rejects(async () => {
    for await (const _ of session.ask(QUESTION, { signal: stop.signal })) stop.abort();
  }, { name: "AbortError" });
  using fork = session.fork();
  equal(await answer(fork), "7392148.");
});

test("a question that cannot fit is refused with what would, and nothing is read", async () => {
  using session = model.session();
  await write(session, [text(4000)]);
  const { length } = session;
  await rejects(answer(session, "why ".repeat(400)), (error) => {
    ok(error instanceof RangeError);
    ok(/at most 240/.test(error.message), error.message);
    return true;
  });
  equal(session.length, length);
  equal(await answer(session), "7392148.");
});

test("a scope or step that cannot fit is refused with what would", () => {
  const refused: readonly (readonly [SessionOptions, RegExp])[] = [
    [{ scope: { localSize: 241 } }, /trained length of 512 tokens at once, got 513.*at most 240/],
    [{ scope: { maxSpans: 40 } }, /leave no room/],
    [{ stepSize: 300 }, /step \(300\).*at most 240/],
    [{ stepSize: 0 }, /stepSize must be at least 1/],
    [{ scope: { spanSize: 15 } }, /spanSize must be even/],
    [{ scope: { topK: -1 } }, /topK must be an integer of at least 0/],
  ];
  for (const [options, message] of refused) {
    throws(() => model.session(options), (error) => {
      ok(error instanceof RangeError);
      ok(message.test(error.message), error.message);
      return true;
    });
  }
});

test("full attention stops at the trained length, and says so, unless it is allowed beyond", async () => {
  const tokens = model.tokenizer.encode(text(4000));
  using session = model.session({ scope: FULL_ATTENTION });
  await session.prefill(tokens.subarray(0, 512));
  await session.logits();
  await rejects(
    (async () => {
      await session.prefill(tokens.subarray(512));
      await session.logits();
    })(),
    /trained length of 512 tokens/,
  );
  using beyond = model.session({ scope: FULL_ATTENTION, beyondTrainedLength: true });
  await beyond.prefill(tokens);
  equal((await beyond.logits()).length, model.config.vocabSize);
});

test("prefill refuses ids that are not in the vocabulary and reads nothing", async () => {
  using session = model.session();
  for (const token of [-1, 1.5, 1024, NaN]) {
    await rejects(session.prefill([5, token]), /integers from 0 to 1023/);
  }
  equal(session.length, 0);
});

test("a session is written by one writable at a time, and can be forked meanwhile", async () => {
  using session = model.session();
  const writer = session.writable().getWriter();
  await writer.write(text(6000));
  throws(() => session.writable(), /must be closed first/);
  await rejects(answer(session), /must be closed first/);
  using fork = session.fork();
  equal(await answer(fork), "7392148.");
  await writer.close();
  equal(await answer(session), "7392148.");
});

test("memory that ends stops the reading with an error, and what was read can still be asked", async () => {
  using small = await loadModel(undefined, { threads: 1, memoryLimit: 40 * 2 ** 20 });
  using session = small.session();
  const writer = session.writable().getWriter();
  await rejects(writer.write(text(100_000)), (error) => {
    ok(error instanceof OutOfMemoryError);
    ok(error.requestedBytes > 0 && error.limitBytes === 40 * 2 ** 20);
    ok(/KV cache.*i16.*shorter text/.test(error.message), error.message);
    return true;
  });
  const { length, cacheBytes } = session.stats;
  ok(length > 10_000 && cacheBytes <= 40 * 2 ** 20, `${length} tokens in ${cacheBytes} bytes`);
  // There is room left for questions, in a fork too.
  using fork = session.fork();
  equal(await answer(fork), "7392148.");
  equal(await answer(session), "7392148.");
});

test("onSelect tells which bytes of the text every layer chose", async () => {
  const records: SelectionRecord[] = [];
  using session = model.session({ onSelect: (record) => records.push(record) });
  const whole = text(30_000);
  await write(session, [whole]);
  equal(records.length, 0);
  await answer(session);
  const bytes = new TextEncoder().encode(whole);
  const layer = records.filter((record) => record.layer === 1 && record.phase === "generate");
  ok(layer.length >= 8, "one record per generated token");
  for (const { spans, length } of layer) {
    equal(spans.length, 1);
    const tokens = spans[0]!.reduce((sum, span) => sum + span.end - span.start, 0);
    ok(tokens > 0 && tokens <= 256 && length > 512);
    for (const { start, end, startByte, endByte } of spans[0]!) {
      const quoted = new TextDecoder().decode(bytes.subarray(startByte, endByte));
      equal(quoted, session.textOf(start, end));
    }
  }
  // Layer 1 is where this model retrieves: its card says so.
  const at = bytes.length && whole.indexOf("7392148");
  ok(layer.some(({ spans }) => spans[0]!.some((s) => s.startByte <= at && s.endByte >= at + 7)));
});

test("readable writes one token per pull and ends when cancelled", async () => {
  using session = model.session();
  await write(session, ["It was a dark and stormy night, and the old man"]);
  const before = session.length;
  const reader = session.readable({ maxTokens: 1000 }).getReader();
  equal((await reader.read()).value, " had");
  await reader.read();
  await reader.cancel();
  const generated = session.length - before;
  ok(generated >= 2 && generated <= 4, `${generated} tokens for 2 pulls`);
});

test("generation is greedy by default and repeatable by seed otherwise", async () => {
  using session = model.session();
  await write(session, ["It was a dark and stormy night, and the old man"]);
  const go = async (options: object) => {
    using fork = session.fork();
    const tokens: number[] = [];
    for await (const token of fork.generate({ maxTokens: 12, ...options })) tokens.push(token);
    return tokens;
  };
  const greedy = await go({});
  equal(model.tokenizer.decode(greedy), " had a little dark, and the old man had a");
  deepEqual(await go({ temperature: 1, seed: 4 }), await go({ temperature: 1, seed: 4 }));
  deepEqual(await go({ stopTokens: [greedy[3]!] }), greedy.slice(0, 3));
});
