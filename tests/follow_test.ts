/** Reading without end while questions come: whole processes, and the parts that share the time. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { createDesk } from "../src/cli/follow_desk.ts";
import { MAX_QUESTION_LENGTH, readLines } from "../src/cli/questions.ts";
import { delay, watchSource } from "../src/cli/source_watch.ts";
import { createTurns, type Turn } from "../src/cli/turns.ts";
import { launch, notBuilt } from "./support/command.ts";

const { deno, bun } = process.versions as Record<string, string | undefined>;

function isInstalled(command: string, ...args: string[]): boolean {
  try {
    execFileSync(command, args, { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
const skip = notBuilt || !isInstalled("mkfifo", "--version") && "there is no mkfifo";
const skipTerminal = notBuilt || !isInstalled("script", "--version") && "there is no script";
if (skip) console.error(`!! ${skip}: most tests of --follow were skipped`);
else if (skipTerminal) console.error(`!! ${skipTerminal}: --follow on a terminal was not tested`);

const folder = mkdtempSync(join(tmpdir(), "reattention-follow-"));
const started = new Set<ChildProcess>();
after(() => {
  for (const child of started) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

interface Running {
  readonly child: ChildProcess;
  out(): string;
  error(): string;
  /** The lines of standard output, parsed. */
  answers(): Record<string, unknown>[];
  /** Waits for something to become true; fails with what was said if it does not. */
  until(holds: () => boolean, what: string): Promise<void>;
  readonly ended: Promise<{ readonly status: number | null; readonly signal: string | null }>;
}

/** Starts a process; it has no terminal unless `script` gives it one. */
function start(command: string, args: readonly string[]): Running {
  const child = spawn(command, args, {
    detached: true,
    env: { ...process.env, NO_COLOR: "1", REATTENTION_DEBUG: "" },
  });
  started.add(child);
  let out = "";
  let error = "";
  child.stdin!.on("error", () => {});
  child.stdout!.setEncoding("utf8").on("data", (text: string) => out += text);
  child.stderr!.setEncoding("utf8").on("data", (text: string) => error += text);
  return {
    child,
    out: () => out,
    error: () => error,
    answers: () => out.trimEnd().split("\n").filter(Boolean).map((line) => JSON.parse(line)),
    async until(holds: () => boolean, what: string): Promise<void> {
      const began = performance.now();
      while (!holds()) {
        ok(performance.now() - began < 20_000, `${what} did not come:\n${out}\n${error}`);
        await delay(10);
      }
    },
    ended: new Promise((resolve) => {
      child.on("close", (status, signal) => {
        started.delete(child);
        resolve({ status, signal });
      });
    }),
  };
}

const follow = (...args: string[]) =>
  start(process.execPath, [...launch, "ask", "--follow", ...args]);

let fifos = 0;

/** A fifo with a writer that stays, so that it ends when the test says so. */
function questionsFifo(): { readonly path: string; ask(question: string): void; end(): void } {
  const path = join(folder, `questions-${fifos++}`);
  execFileSync("mkfifo", [path]);
  const writer = spawn("sh", ["-c", 'cat > "$0"', path]);
  started.add(writer);
  writer.stdin!.on("error", () => {});
  return {
    path,
    ask: (question) => void writer.stdin!.write(`${question}\n`),
    end: () => void writer.stdin!.end(),
  };
}

const FILLER = "The old man went slowly down to the harbour, and the rain fell upon the roofs. "
  .repeat(25);
const PASS_KEY = "The pass key is 71432. Remember it. 71432 is the pass key.\n";
const ASK_KEY = "What is the pass key?";
const FALCON = "One of the special magic numbers for quiet-falcon is: 7392148.\n";
const ASK_FALCON = "What is the special magic number for quiet-falcon?";

test("a question sees the newest line of a pipe that trickles, and the pipe goes on", {
  skip,
}, async () => {
  const questions = questionsFifo();
  const { child, answers, until, ended, error } = follow("--json", "--questions", questions.path);
  child.stdin!.write(FILLER);
  child.stdin!.write(PASS_KEY);
  questions.ask(ASK_KEY);
  await until(() => answers().length === 1, "the first answer");
  // A line that is far from filling a step, or what is encoded at once.
  child.stdin!.write(FALCON);
  await delay(20);
  questions.ask(`  ${ASK_FALCON}\r`);
  questions.ask("");
  questions.ask(ASK_KEY);
  await until(() => answers().length === 3, "the queued answers");
  // All text is there, and more questions can come.
  child.stdin!.end("The end.\n");
  await until(() => /the text has ended: all of it/.test(error()), "the note of the end");
  questions.ask(ASK_FALCON);
  await until(() => answers().length === 4, "the answer after the end");
  questions.end();
  deepEqual(await ended, { status: 0, signal: null }, error());
  deepEqual(answers().map((line) => line.question), [ASK_KEY, ASK_FALCON, ASK_KEY, ASK_FALCON]);
  deepEqual(answers().map((line) => line.answer), ["71432.", "7392148.", "71432.", "7392148."]);
  const bytes = [FILLER + PASS_KEY, FALCON, "", "The end.\n"]
    .map((_, i, parts) => parts.slice(0, i + 1).join("").length);
  deepEqual(answers().map((line) => line.bytesRead), bytes);
  const [first, second, third, fourth] = answers().map((line) => line.tokensRead as number);
  ok(first! > 500 && first! < second! && second === third && third! < fourth!);
  for (const line of answers()) {
    ok((line.secondsToFirstToken as number) > 0);
    ok((line.seconds as number) >= (line.secondsToFirstToken as number));
  }
  match(error(), /^from the first [\d,]+ tokens \([\d.]+ kB\); first token after [\d.]+ s, all/m);
  match(error(), /^read +[\d,]+ tokens \(2\.\d+ kB\).*\nmemory +.*cache/m);
});

test("questions of the command line and of a whole file wait for a pause, then nothing is left", {
  skip: notBuilt,
}, async () => {
  const path = join(folder, "whole.txt");
  writeFileSync(path, `${ASK_FALCON}\n\n${"long ".repeat(400)}\n${ASK_KEY}`);
  // Its input stays open: it ends because no question can come any more.
  const { child, out, error, ended } = follow(ASK_KEY, "--questions", path);
  child.stdin!.write(FILLER);
  await delay(300);
  child.stdin!.write(PASS_KEY + FALCON);
  deepEqual(await ended, { status: 1, signal: null });
  equal(out(), "71432.\n7392148.\n71432.\n");
  match(error(), /^question: What is the special magic number for quiet-falcon\?$/m);
  match(error(), /^question: long long .*…$/m);
  match(error(), /^no answer: Cannot ask a question of \d+ tokens: .*trained length/m);
  match(error(), /^reattention: Cannot answer 1 of 4 questions\n$/m);
});

test("without a terminal one question is answered at the first pause, quietly", {
  skip: notBuilt,
}, async () => {
  const { child, out, error, ended } = follow(ASK_KEY, "--quiet");
  child.stdin!.write(PASS_KEY);
  deepEqual(await ended, { status: 0, signal: null }, error());
  deepEqual([out(), error()], ["71432.\n", ""]);
});

test("what is forgotten while it reads is said once", { skip: notBuilt }, async () => {
  const { child, error, ended } = follow("Who?", "--cache-bytes", "4M", "--forget", "oldest");
  child.stdin!.end(FILLER.repeat(8));
  deepEqual(await ended, { status: 0, signal: null }, error());
  equal(
    error().match(/^note: forgot tokens \[256, [\d,]+\), since the cache may not grow/gm)?.length,
    1,
  );
});

test("at full speed questions are answered, the reading goes on, and its source waits", {
  skip,
}, async () => {
  const questions = questionsFifo();
  const { child, answers, until, ended, error } = follow("--json", "--questions", questions.path);
  child.stdin!.write(PASS_KEY);
  const piece = FILLER.repeat(32);
  let accepted = 0;
  let isOpen = true;
  child.stdin!.on("error", () => isOpen = false);
  const pump = () => {
    if (!isOpen) return;
    child.stdin!.write(piece, (failure) => failure || (accepted += piece.length, pump()));
  };
  pump();
  await until(() => accepted > 0, "any text");
  for (let i = 1; i <= 3; i++) {
    questions.ask("Who?"); // as long an answer as there can be
    questions.ask(ASK_KEY);
    await until(() => answers().length === 2 * i, "an answer");
  }
  const bytesRead = answers().at(-1)!.bytesRead as number;
  questions.end();
  deepEqual(await ended, { status: 0, signal: null }, error());
  for (const { question, answer, tokensReadMeanwhile } of answers()) {
    if (question === ASK_KEY) equal(answer, "71432.");
    else ok(tokensReadMeanwhile as number > 0, "the reading stood still");
  }
  const [first, last] = [answers()[0]!, answers().at(-1)!];
  ok((last.tokensRead as number) > (first.tokensRead as number));
  // Beyond what was read there are only what pipes and buffers hold.
  ok(accepted - bytesRead < 4e6, `${accepted} bytes were taken, ${bytesRead} read`);
});

test("an empty text is an error although questions could come", { skip }, async () => {
  const questions = questionsFifo();
  const { child, out, error, ended } = follow("--questions", questions.path);
  child.stdin!.end();
  if (!deno && !bun) questions.end(); // Node waits for what it reads
  deepEqual(await ended, { status: 1, signal: null });
  equal(out(), "");
  match(error(), /^reattention: Cannot follow: .* standard input is empty\n$/);
});

// A file of which nothing can be read, though it can be opened.
const broken = "/proc/self/mem";
test("a text that cannot be read to its end can be asked about all the same", {
  skip: skip || !existsSync(broken) && `there is no ${broken}`,
}, async () => {
  const path = join(folder, "before.txt");
  writeFileSync(path, PASS_KEY);
  const questions = questionsFifo();
  const { out, error, until, ended } = follow(
    ...["--file", path, "--file", broken, "--questions", questions.path, "--quiet"],
  );
  await until(() => error() !== "", "the failure");
  match(error(), /^reading has stopped: Cannot read "\/proc\/self\/mem": .*\n$/);
  questions.ask(ASK_KEY);
  await until(() => out() === "71432.\n", "the answer");
  questions.end();
  deepEqual(await ended, { status: 1, signal: null });
  match(error(), /\nreattention: Cannot read "\/proc\/self\/mem": .*\n$/);
});

test("nobody reading the answers ends it", { skip }, async () => {
  const questions = questionsFifo();
  const { child, error, ended } = follow("--questions", questions.path);
  child.stdin!.write(PASS_KEY);
  child.stdout!.destroy();
  questions.ask(ASK_KEY);
  if (!deno && !bun) questions.end(); // Node waits for what it reads
  deepEqual(await ended, { status: 0, signal: null }, error());
  ok(!/reattention:|EPIPE|Error/.test(error()), error());
});

test("an interrupt ends it at once, whatever it waits for", { skip }, async () => {
  const questions = questionsFifo();
  const { child, answers, until, ended } = follow("--json", "--questions", questions.path);
  child.stdin!.write(PASS_KEY);
  questions.ask(ASK_KEY);
  await until(() => answers().length === 1, "the answer");
  const began = performance.now();
  child.kill("SIGINT");
  const { status, signal } = await ended;
  ok(signal === "SIGINT" || status === 130, `status ${status}, signal ${signal}`);
  ok(performance.now() - began < 1500);
});

test("no way to ask, or a text that cannot be followed, is wrong usage", {
  skip: notBuilt,
}, async () => {
  const mute = follow();
  equal((await mute.ended).status, 2);
  match(mute.error(), /^reattention: There is nothing to answer: .*--questions.*terminal/);
  const missing = join(folder, "missing.txt");
  const lost = follow("--questions", missing);
  equal((await lost.ended).status, 1);
  equal(lost.error(), `reattention: Cannot read "${missing}": there is no such file\n`);
});

/** The command with a terminal of its own, on which `type` types; its text comes from a fifo. */
function onTerminal(): Running & {
  type(keys: string): void;
  readonly text: ReturnType<typeof questionsFifo>;
} {
  const text = questionsFifo();
  const quoted = [process.execPath, ...launch].map((word) => `'${word}'`).join(" ");
  const command = `cat '${text.path}' | ${quoted} ask --follow; echo "status $?"`;
  const running = start("script", ["-qfec", command, "/dev/null"]);
  return { ...running, text, type: (keys) => void running.child.stdin!.write(keys) };
}

test("questions are typed on the terminal, and Ctrl-D ends them", {
  skip: skipTerminal || skip,
}, async () => {
  const { type, text, out, until, ended } = onTerminal();
  await until(() => out().includes("> "), "the prompt");
  type(`${ASK_KEY}\r`);
  await until(() => /nothing has been read yet/.test(out()), "the note to wait");
  text.ask(FILLER + PASS_KEY);
  await until(() => out().includes("71432.\r\n"), "the answer");
  await until(() => /first token after.*\r\n> $/.test(out()), "the next prompt");
  type("\r");
  await until(() => /so far [\d,]+ tokens \(2\.\d+ kB\).*\r\n> $/.test(out()), "how far it is");
  text.end();
  await until(() => /can be asked about until Ctrl-D\r\n> $/.test(out()), "the end of the text");
  type(`${ASK_KEY}\r`);
  await until(() => out().split("71432.\r\n").length === 3, "the second answer");
  await until(() => out().endsWith("> "), "the last prompt");
  type("\x04");
  await ended;
  match(out(), /> \r\nread +[\d,]+ tokens.*\r\nmemory .*\r\nstatus 0\r\n$/);
});

test("Ctrl-C on the terminal ends it at once with the signal's status", {
  skip: skipTerminal || skip,
}, async () => {
  const { type, text, out, until, ended } = onTerminal();
  await until(() => out().includes("> "), "the prompt");
  text.ask(FILLER);
  await delay(100);
  const began = performance.now();
  type("\x03");
  const { status, signal } = await ended;
  ok(signal === "SIGINT" || status === 130, `status ${status}, signal ${signal}`);
  ok(performance.now() - began < 2000);
  ok(!/reattention:/.test(out()), out());
});

test("turns share the time by its length while two want it, and cost one alone nothing", async () => {
  let time = 0;
  const [read, answer] = createTurns(2, () => time) as [Turn, Turn];
  const used = { read: 0, answer: 0 };
  const loop = async (turn: Turn, name: "read" | "answer", length: number, turns: number) => {
    for (let i = 0; i < turns; i++) {
      await turn(async () => {
        await Promise.resolve();
        time += length;
        used[name] += length;
        if (isSharing) ok(Math.abs(used.read - used.answer) <= 60, JSON.stringify(used));
      });
    }
  };
  let isSharing = false;
  await loop(read, "read", 60, 20);
  deepEqual(used, { read: 1200, answer: 0 });
  // Who comes later gets no more than its share; who comes back neither.
  used.read = used.answer = 0;
  isSharing = true;
  const first = loop(read, "read", 60, 5);
  await Promise.resolve();
  await Promise.all([first, loop(answer, "answer", 10, 30)]);
  isSharing = false;
  await loop(answer, "answer", 10, 50);
  used.read = used.answer = 0;
  isSharing = true;
  const second = loop(answer, "answer", 10, 12);
  await Promise.all([second, loop(read, "read", 60, 2)]);
});

test("a party may wait for more than one turn, and gets them in order", async () => {
  const [one, other] = createTurns(2) as [Turn, Turn];
  const order: number[] = [];
  await Promise.all([
    one(() => order.push(0)),
    one(() => order.push(1)),
    other(() => order.push(2)),
    one(() => order.push(3)),
  ]);
  deepEqual(order.filter((i) => i !== 2), [0, 1, 3]);
  equal(order.length, 4);
});

test("a turn that fails passes on", async () => {
  const [one, other] = createTurns(2) as [Turn, Turn];
  const failed = one(() => Promise.reject(new Error("no")));
  const next = other(() => Promise.resolve("yes"));
  await rejects(failed, /no/);
  equal(await next, "yes");
});

test("a watched source says when it begins, rests and ends", async () => {
  const gates: ((text: string | null) => void)[] = [];
  async function* source(): AsyncGenerator<string> {
    while (true) {
      const text = await new Promise<string | null>((resolve) => gates.push(resolve));
      if (text === null) return;
      yield text;
    }
  }
  const give = async (text: string | null) => {
    while (gates.length === 0) await delay(1);
    gates.shift()!(text);
  };
  const watched = watchSource(source());
  const events: string[] = [];
  void watched.begun.then(() => events.push("begun"));
  const taken = (async () => {
    for await (const text of watched.text) {
      events.push(text);
      if (text === "slow") await delay(60);
    }
    events.push("ended");
  })();
  await give("a");
  await watched.begun;
  await watched.rests(10);
  deepEqual(events, ["begun", "a"]);
  await give("slow"); // being worked on is no rest
  await delay(5);
  await watched.rests(10).then(() => events.push("rested"));
  equal(gates.length, 1, "it has been asked for more by then");
  const rests = watched.rests(4000);
  await give(null);
  await taken;
  deepEqual(events, ["begun", "a", "slow", "rested", "ended"]);
  await rests;
});

test("questions are lines, however their bytes come", async () => {
  const bytes = new TextEncoder().encode("  Où?\r\n\nwhat \nlast");
  for (const size of [1, 2, 100]) {
    const lines: string[] = [];
    const chunks = async function* () {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    };
    for await (const line of readLines(chunks())) lines.push(line);
    deepEqual(lines, ["Où?", "", "what", "last"]);
  }
  const endless = async function* () {
    for (let i = 0; i < 9; i++) yield new Uint8Array(10_000).fill(97);
    yield new TextEncoder().encode("\nnext\n");
  };
  const lengths: number[] = [];
  for await (const line of readLines(endless())) lengths.push(line.length);
  deepEqual(lengths, [MAX_QUESTION_LENGTH + 1, 4]);
});

test("the prompt stays below what is said, and away while a question is answered", async () => {
  let written = "";
  const output = {
    isTerminal: true,
    columns: 80,
    write(text: string): Promise<void> {
      written += text;
      return Promise.resolve();
    },
  };
  const said = async (work: () => Promise<void>) => {
    written = "";
    await work();
    return written;
  };
  const desk = createDesk(output, { isTyped: true, quiet: false });
  equal(await said(() => desk.say("hello")), "hello\n");
  equal(await said(() => desk.open()), "> ");
  equal(await said(() => desk.say("news")), "\r\x1b[Knews\n> ");
  equal(await said(() => desk.show(() => "progress")), "");
  equal(await said(() => desk.attend()), "\r\x1b[K");
  equal(await said(() => desk.say("note")), "note\n");
  equal(await said(() => desk.release()), "> ");
  equal(await said(() => desk.close()), "\n");
  equal(await said(() => desk.say("bye")), "bye\n");

  const quiet = createDesk(output, { isTyped: true, quiet: true });
  equal(await said(() => quiet.open()) + await said(() => quiet.say("news")), "");
  equal(await said(() => quiet.complain("no")), "no\n");

  const untyped = createDesk(output, { isTyped: false, quiet: false });
  equal(await said(() => untyped.open()), "");
  equal(await said(() => untyped.show(() => "progress")), "progress\n");
  equal(await said(() => untyped.attend()), "\x1b[1A\r\x1b[2K");
  equal(await said(() => untyped.show(() => "progress")), "");
});
