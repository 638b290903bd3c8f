/**
 * `ask --follow`: reads a text that need not end, and answers questions about it meanwhile.
 *
 * Reading and answering take turns on the one thread that there is; an answer is written by a fork
 * of the session, so that neither it nor its question becomes part of the text.
 *
 * @module
 */

import { OutOfMemoryError } from "../errors.ts";
import type { Model } from "../llama/load.ts";
import type { Session } from "../llama/session.ts";
import {
  checkReadable,
  ClosedPipeError,
  leaveInput,
  peakMemoryBytes,
  standardError,
  standardOutput,
} from "../system/system.ts";
import type { FollowSettings } from "./args.ts";
import { warnOfUnknownForm } from "./ask.ts";
import { feed } from "./feed.ts";
import { createDesk, type Desk } from "./follow_desk.ts";
import {
  clip,
  formatBytes,
  formatCount,
  formatRate,
  formatSeconds,
  plural,
  printable,
} from "./format.ts";
import { chooseInputs, type Inputs, joinInputs } from "./inputs.ts";
import { toJsonLine } from "./json.ts";
import { forgetNotice } from "./memory.ts";
import { MAX_QUESTION_LENGTH, openQuestions, type QuestionSources } from "./questions.ts";
import {
  describeMemory,
  describeReading,
  nothingRead,
  openModel,
  sayReplaced,
  sessionOptions,
  show,
  writingOptions,
} from "./reading.ts";
import { delay, type WatchedSource, watchSource } from "./source_watch.ts";
import { createTurns, type Turn } from "./turns.ts";

/** UTF-16 units that are read in one turn: what a session encodes at once. */
const PIECE = 2048;

/** Milliseconds without text that are a pause: time for questions that were there before it. */
const PAUSE = 1000;

/** Milliseconds without text after which all that had come when a question came has been read. */
const SETTLED = 10;

/** Milliseconds that a question waits for that at most. */
const PATIENCE = 50;

/** What the parts of it share. */
interface Following {
  readonly settings: FollowSettings;
  readonly model: Model;
  readonly session: Session;
  readonly inputs: Inputs;
  readonly source: WatchedSource;
  readonly desk: Desk;
  /** Says that tokens were forgotten, once they were. */
  sayForgotten(): Promise<void>;
  /** Whether the text is no longer wanted. */
  isOver: boolean;
  /** Why the reading stopped before the text did. */
  failure: Error | null;
  questions: number;
  failedQuestions: number;
}

/**
 * Runs `ask --follow`.
 *
 * @throws {UsageError} If there is nothing to read, or no way to ask.
 * @throws {Error} In the end, if the reading or an answer has failed.
 */
export async function follow(settings: FollowSettings): Promise<void> {
  leaveInput(); // whatever ends this, nobody wants the rest of the text
  const chosen = chooseInputs(settings.files);
  for (const { path } of chosen) if (path !== null) await checkReadable(path);
  const sources = await openQuestions(settings);
  const inputs = joinInputs(chosen);
  using model = await openModel(settings);
  let notice: string | null = null;
  let hasForgotten = false;
  using session = model.session({
    ...sessionOptions(settings),
    // Told by forks, too.
    onForget: (forgotten) => {
      if (!hasForgotten) notice = forgetNotice(forgotten);
      hasForgotten = true;
    },
  });
  const desk = createDesk(standardError, { isTyped: sources.isTyped, quiet: settings.quiet });
  const sayForgotten = async () => {
    if (notice === null) return;
    const line = notice;
    notice = null;
    await desk.say(line);
  };
  const source = watchSource(inputs.text());
  const [readTurn, answerTurn] = createTurns(2) as [Turn, Turn];
  const following: Following = {
    ...{ settings, model, session, inputs, source, desk, sayForgotten },
    ...{ isOver: false, failure: null, questions: 0, failedQuestions: 0 },
  };

  if (sources.isTyped) {
    await desk.say(
      "Type a question and Enter; Enter alone says how far the reading is, Ctrl-D ends.",
    );
  }
  const reading = read(following, sources, readTurn);
  const asking = answerAll(following, sources, answerTurn);
  try {
    // The end of the text ends nothing, unless there was none.
    await Promise.race([asking, reading.then(() => asking)]);
  } finally {
    // In a turn, so that no step is under way when the session goes.
    await answerTurn(() => following.isOver = true);
  }
  await report(following);
}

/** Reads until the text ends; a failure is kept for the end, since what was read can be asked. */
async function read(following: Following, sources: QuestionSources, turn: Turn): Promise<void> {
  const { session, inputs, desk, source } = following;
  const whileWanted: Turn = (work) =>
    turn(() => {
      if (following.isOver) throw new Error("Cannot read on: nobody wants it");
      return work();
    });
  const onPiece = async (seconds: number) => {
    await following.sayForgotten();
    await desk.show(() => describeReading(session, inputs, seconds));
  };
  try {
    await feed(session, source.text, onPiece, { largest: PIECE, turn: whileWanted });
  } catch (error) {
    if (following.isOver) return;
    following.failure = toError(error);
  }
  const length = textLength(session);
  if (length === 0) throw following.failure ?? nothingRead(inputs, "follow");
  if (following.failure) {
    await desk.complain(`reading has stopped: ${following.failure.message}`);
  }
  if (sources.live === null) return;
  await desk.say(
    `${following.failure ? "what was read" : "the text has ended: all of it"} ` +
      `(${plural(length, "token")}) can be asked about` +
      (sources.isTyped ? " until Ctrl-D" : ""),
  );
}

/** Answers all questions, one after the other; ends when there can be no more. */
async function answerAll(
  following: Following,
  { early, live, isTyped }: QuestionSources,
  turn: Turn,
): Promise<void> {
  const { source, desk } = following;
  let hasBegun = false;
  const begun = source.begun.then(() => {
    hasBegun = true;
  });
  let last: Promise<void> = Promise.resolve();
  const inOrder = (work: () => Promise<void>) =>
    last = last.then(async () => {
      await desk.attend();
      await work();
      await desk.release();
    });
  const sayAndAnswer = async (question: string) => {
    await desk.say(`question: ${clip(printable(question), standardError.columns - 11)}`);
    await answer(following, question, turn);
  };

  async function answerLive(questions: AsyncIterable<string>): Promise<void> {
    await desk.open();
    for await (const line of questions) {
      if (line === "") {
        if (isTyped) await inOrder(async () => desk.say(await turn(() => status(following))));
        continue;
      }
      if (!hasBegun) await desk.say("nothing has been read yet: the question waits for it");
      await begun;
      await inOrder(() => isTyped ? answer(following, line, turn) : sayAndAnswer(line));
    }
    await desk.close();
  }

  const liveEnds = live && answerLive(live);
  const answerEarly = async () => {
    await begun;
    await Promise.race([source.rests(PAUSE), ...(liveEnds ? [liveEnds] : [])]);
    for await (const question of early) {
      if (question !== "") await inOrder(() => sayAndAnswer(question));
    }
  };
  await Promise.all([liveEnds, answerEarly()]);
}

/** Tokens of the text so far, with those that the session holds back; no piece must be under way. */
function textLength(session: Session): number {
  try {
    using fork = session.fork();
    return fork.length;
  } catch (error) {
    if (error instanceof OutOfMemoryError) return session.length;
    throw error;
  }
}

/** How far the reading is. */
function status({ session, inputs }: Following): string {
  return `so far ${plural(textLength(session), "token")} (${formatBytes(inputs.byteLength)}); ` +
    `${formatBytes(session.stats.cacheBytes)} of cache`;
}

/**
 * Answers one question from what has been read by now.
 *
 * @throws {ClosedPipeError} If nobody reads the answers; any other failure is said and counted.
 */
async function answer(following: Following, question: string, turn: Turn): Promise<void> {
  const { settings, model, session, source, desk } = following;
  const { json } = settings;
  const asked = performance.now();
  const elapsed = () => (performance.now() - asked) / 1000;
  following.questions++;
  // A line that came just before the question counts, and may still be on its way.
  await Promise.race([source.rests(SETTLED), delay(PATIENCE)]);
  const before = session.stats.readTokens;
  let tokensRead = session.length;
  let bytesRead = 0;
  try {
    // Between two pieces, so that the fork has all of what was read.
    using fork = await turn(() => session.fork());
    tokensRead = fork.length;
    bytesRead = fork.byteOffset(tokensRead);
    if (question.length > MAX_QUESTION_LENGTH) {
      throw new RangeError(
        `Cannot ask: a question must have at most ${formatCount(MAX_QUESTION_LENGTH)} characters`,
      );
    }
    for (const note of settings.raw ? [] : warnOfUnknownForm(model, question)) {
      await desk.say(`note: ${note}`);
    }
    const pieces = fork.ask(question, { ...writingOptions(settings), raw: settings.raw });
    const began = elapsed();
    const written = await show(inTurns(pieces, turn), settings);
    const { secondsToFirstToken: toFirst, text } = written;
    const figures = {
      tokensRead,
      bytesRead,
      tokensReadMeanwhile: session.stats.readTokens - before,
      tokensWritten: fork.stats.generatedTokens,
      secondsToFirstToken: toFirst === null ? null : began + toFirst,
      seconds: elapsed(),
    };
    if (json) await standardOutput.write(toJsonLine({ question, answer: text, ...figures }));
    await following.sayForgotten();
    await desk.say(describeAnswer(figures));
  } catch (error) {
    if (error instanceof ClosedPipeError) throw error;
    following.failedQuestions++;
    const reason = toError(error).message;
    if (json) {
      await standardOutput.write(toJsonLine({ question, error: reason, tokensRead, bytesRead }));
    }
    await desk.complain(`no answer: ${reason}`);
  }
}

/** Each piece in a turn. */
async function* inTurns(pieces: AsyncGenerator<string>, turn: Turn): AsyncGenerator<string> {
  try {
    while (true) {
      const { value, done } = await turn(() => pieces.next());
      if (done) return;
      yield value;
    }
  } finally {
    await pieces.return(undefined);
  }
}

function describeAnswer(
  figures: {
    readonly tokensRead: number;
    readonly bytesRead: number;
    readonly tokensReadMeanwhile: number;
    readonly secondsToFirstToken: number | null;
    readonly seconds: number;
  },
): string {
  const { tokensRead, bytesRead, tokensReadMeanwhile, secondsToFirstToken, seconds } = figures;
  return `from the first ${plural(tokensRead, "token")} (${formatBytes(bytesRead)}); ` +
    (secondsToFirstToken === null
      ? ""
      : `first token after ${formatSeconds(secondsToFirstToken)}, `) +
    `all after ${formatSeconds(seconds)}; ${plural(tokensReadMeanwhile, "token")} read meanwhile`;
}

/** What was done in all. */
async function report(following: Following): Promise<void> {
  const { session, inputs, desk, failure, questions, failedQuestions } = following;
  const say = (line: string) => desk.say(line);
  await following.sayForgotten();
  await sayReplaced(inputs, say);
  const { readTokens, readSeconds, cacheBytes, bytesPerToken } = session.stats;
  // The last of it may not have been a step yet.
  const speed = readTokens === 0
    ? ""
    : ` in ${formatSeconds(readSeconds)}: ${formatRate(readTokens, readSeconds)}`;
  await say(
    `read    ${plural(textLength(session), "token")} (${formatBytes(inputs.byteLength)})${speed}`,
  );
  await say(describeMemory(
    { cacheBytes, bytesPerToken, peakMemoryBytes: peakMemoryBytes() },
    session.kvFormat,
  ));
  if (failure) throw failure;
  if (failedQuestions > 0) {
    throw new Error(`Cannot answer ${failedQuestions} of ${plural(questions, "question")}`);
  }
}

function toError(cause: unknown): Error {
  return cause instanceof Error ? cause : new Error(String(cause));
}
