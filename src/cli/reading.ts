/**
 * What `ask` and `generate` have in common: read everything, write something, report.
 *
 * @module
 */

import { loadModel, type Model } from "../llama/load.ts";
import type { Session } from "../llama/session.ts";
import type { AskOptions, SessionOptions } from "../llama/session_options.ts";
import { calmMemoryBytes } from "../system/memory.ts";
import { checkReplaceable } from "../system/replace_file.ts";
import {
  checkReadable,
  createTextFile,
  endLineOnInterrupt,
  isSameFile,
  peakMemoryBytes,
  runtimeName,
  standardError,
  standardOutput,
  type TextFile,
} from "../system/system.ts";
import { type ModelSettings, type ReadSettings, UsageError } from "./args.ts";
import { feed } from "./feed.ts";
import { formatBytes, formatCount, formatRate, formatSeconds, plural } from "./format.ts";
import { chooseInputs, type Inputs, joinInputs } from "./inputs.ts";
import { describeScope, describeSelectLayers } from "./inspect.ts";
import { toJson } from "./json.ts";
import { reportLoading } from "./loading.ts";
import {
  collectingNotice,
  describeAbsent,
  forgetNotice,
  loadOptions,
  memoryOptions,
} from "./memory.ts";
import { attentionOptions } from "./options.ts";
import { createProgress, type Progress } from "./progress.ts";
import { piecesOf } from "./pieces.ts";
import { createTrace, type QuotedTokens, type Trace } from "./trace.ts";

/** What a command does with the text that was read. */
export interface Task {
  /** For messages: `Cannot ask`. */
  readonly verb: string;
  /** Whether the model's chat template is left out. */
  readonly raw: boolean;
  /** Read after all inputs. */
  readonly text?: string;
  /** For the trace: what is asked; undefined where nothing is. */
  readonly question?: string;
  /** What to say before the answer: a line each. */
  notes?(model: Model): string[];
  write(session: Session, options: AskOptions): AsyncGenerator<string>;
  /** The JSON report's first fields. */
  report(text: string): object;
}

/**
 * Reads all inputs and does a task, with progress, statistics and trace as the settings say.
 *
 * @throws {UsageError} If there is nothing to read.
 * @throws {Error} If what there is to read is empty.
 */
export async function readAndWrite(settings: ReadSettings, task: Task): Promise<void> {
  const { load, save } = settings;
  const chosen = chooseInputs(settings.files, task.text !== undefined || load !== undefined);
  // Now, not after hours of reading what comes before.
  for (const { path } of chosen) {
    if (path === null) continue;
    await checkReadable(path);
    if (settings.trace !== undefined && await isSameFile(path, settings.trace)) {
      throw new UsageError(`The trace would overwrite "${path}", which is to be read`);
    }
    if (save !== undefined && await isSameFile(path, save)) {
      throw new UsageError(`The saved session would overwrite "${path}", which is to be read`);
    }
  }
  if (load !== undefined) await checkReadable(load);
  if (save !== undefined) await checkReplaceable(save);
  const inputs = joinInputs(chosen);
  await using file = settings.trace === undefined ? null : await createTextFile(settings.trace);
  const say = async (line: string) => {
    if (!settings.quiet) await standardError.write(`${line}\n`);
  };
  const progress = createProgress(standardError, !settings.quiet);
  using model = await openModel(settings);
  // Known only when the session is made, which wants to know where to record.
  let trace: Trace | null = null;
  let notice: string | null = null;
  let hasForgotten = false;
  using session = await openSession(settings, model, progress, say, {
    ...(task.raw ? { raw: true } : {}),
    onForget: (forgotten) => {
      if (!hasForgotten) notice = forgetNotice(forgotten);
      hasForgotten = true;
    },
    onDeviceLost: (message) => notice = `note: ${message}`,
    ...(file ? { onSelect: (record) => trace!.record(record) } : {}),
  });
  const loadedTokens = session.length;
  trace = file && startTrace(file, settings, model, session, inputs);
  let writingStart: number | null = null;
  const writing = (): { writing?: QuotedTokens & { readonly question: string | null } } => {
    if (writingStart === null) return {};
    const pieces = piecesOf(model, session, writingStart, session.length);
    return { writing: { start: writingStart, question: task.question ?? null, pieces } };
  };
  let calmBytes = calmMemoryBytes() ?? Infinity;
  const flush = async () => {
    await trace?.flush();
    if (notice === null && model.backend.byteLength > calmBytes) {
      notice = collectingNotice(calmBytes);
      calmBytes = Infinity;
    }
    if (notice === null) return;
    await progress.clear();
    await say(notice);
    notice = null;
  };
  try {
    const feedSeconds = await read(session, inputs, flush, progress, task);
    const inputTokens = session.length - loadedTokens;
    if (save !== undefined) await saveSession(session, save, progress, say);
    const stepSeconds = session.stats.readSeconds;
    await sayReplaced(inputs, say);
    for (const note of task.notes?.(model) ?? []) await say(`note: ${note}`);
    const options = writingOptions(settings);
    writingStart = session.length;
    const written = await show(task.write(session, options), settings, flush);
    // The last tokens of the input are read when the question comes.
    const inputSeconds = feedSeconds + session.stats.readSeconds - stepSeconds;
    const report = {
      ...task.report(written.text),
      inputs: inputs.reports(),
      settings: {
        model: settings.model ?? "embedded",
        backend: model.backend.description,
        runtime: runtimeName(),
        scope: session.scope,
        stepSize: session.stepSize,
        select: session.select,
        selectLayers: session.select === "never" ? [] : session.selectLayers,
        cacheFormat: session.kvFormat,
        ...memoryOptions(settings),
        load: load ?? null,
        save: save ?? null,
        maxTokens: settings.maxTokens,
        temperature: settings.temperature,
        topP: settings.topP,
        seed: settings.temperature > 0 ? options.seed : null,
        stop: settings.stop,
      },
      stats: {
        ...session.stats,
        loadedTokens,
        inputTokens,
        inputBytes: inputs.byteLength,
        inputSeconds,
        inputTokensPerSecond: inputTokens / inputSeconds,
        secondsToFirstToken: written.secondsToFirstToken,
        writeSeconds: written.seconds,
        weightBytes: model.weightBytes,
        peakMemoryBytes: peakMemoryBytes(),
      },
    };
    if (settings.json) await standardOutput.write(`${toJson(report)}\n`);
    else for (const line of describe(report, model, session)) await say(line);
    await trace?.end({ length: session.length, inputs: inputs.reports(), ...writing() });
  } catch (error) {
    if (notice !== null) await say(notice);
    const reason = error instanceof Error ? error.message : String(error);
    // Where the file itself is the reason there is nothing more to be written to it.
    const end = { length: session.length, inputs: inputs.reports(), ...writing(), error: reason };
    await trace?.end(end).catch(() => {});
    throw error;
  }
}

/** A new session, or the one that was kept. */
async function openSession(
  settings: ReadSettings,
  model: Model,
  progress: Progress,
  say: (line: string) => Promise<void>,
  watch: Pick<SessionOptions, "raw" | "onForget" | "onSelect" | "onDeviceLost">,
): Promise<Session> {
  const { load } = settings;
  const options = { ...sessionOptions(settings), ...watch };
  if (load === undefined) return model.session(options);
  await progress.show(() => `loading ${load}`);
  const began = performance.now();
  const session = await model.restore(load, options).finally(() => progress.clear());
  const seconds = (performance.now() - began) / 1000;
  await say(`loaded  ${plural(session.length, "token")} in ${formatSeconds(seconds)}: ${load}`);
  return session;
}

/** Keeps what was read: the question is not part of it. */
async function saveSession(
  session: Session,
  path: string,
  progress: Progress,
  say: (line: string) => Promise<void>,
): Promise<void> {
  await progress.show(() => `saving ${path}`);
  const began = performance.now();
  await session.save(path).finally(() => progress.clear());
  const seconds = (performance.now() - began) / 1000;
  await say(`saved   ${plural(session.length, "token")} in ${formatSeconds(seconds)}: ${path}`);
}

/** Loads the model of the settings. */
export async function openModel(
  settings: ModelSettings & Pick<ReadSettings, "quiet">,
): Promise<Model> {
  const { model, quiet } = settings;
  const report = reportLoading(model ?? "the embedded model", standardError, !quiet);
  return await loadModel(model, { ...loadOptions(settings), ...report })
    .finally(() => report.end());
}

/** What the settings say of a session, new or loaded. */
export function sessionOptions(settings: ReadSettings): SessionOptions {
  const { scope, load } = settings;
  return {
    ...attentionOptions(settings),
    // An empty one, too, is another scope than a loaded session's.
    ...(load === undefined ? { scope } : {}),
    ...memoryOptions(settings),
  };
}

function startTrace(
  file: TextFile,
  settings: ReadSettings,
  model: Model,
  session: Session,
  inputs: Inputs,
): Trace {
  // What was loaded is in none of the inputs.
  const start = session.byteOffset(session.length);
  return createTrace(file, {
    model: settings.model ?? "embedded",
    backend: model.backend.description,
    scope: session.scope,
    stepSize: session.stepSize,
    select: session.select,
    selectLayers: session.select === "never" ? [] : session.selectLayers,
    inputs: inputs.names,
  }, (startByte, endByte) => {
    return startByte < start ? null : inputs.locate(startByte - start, endByte - start);
  }, (start, end) => piecesOf(model, session, start, end));
}

/** Reads everything; gives the seconds of work. */
async function read(
  session: Session,
  inputs: Inputs,
  flush: () => Promise<void>,
  progress: Progress,
  task: Task,
): Promise<number> {
  async function* text(): AsyncGenerator<string> {
    yield* inputs.text();
    if (task.text !== undefined) yield task.text;
  }
  try {
    const seconds = await feed(session, text(), async (seconds) => {
      await flush();
      await progress.show(() => describeReading(session, inputs, seconds));
    });
    if (session.length > 0) return seconds;
  } finally {
    await progress.clear();
  }
  throw nothingRead(inputs, task.verb);
}

/** What is wrong where there was nothing to read. */
export function nothingRead(inputs: Inputs, verb: string): Error {
  const names = inputs.names.join(", ") || "the text";
  return new Error(
    `Cannot ${verb}: there must be a text to read, but ${names} ` +
      `${inputs.names.length > 1 ? "are" : "is"} empty`,
  );
}

/** How far the reading is. */
export function describeReading(session: Session, inputs: Inputs, seconds: number): string {
  return `reading  ${plural(session.length, "token")}  ${formatRate(session.length, seconds)}  ` +
    `${formatBytes(inputs.byteLength)} read  cache ${formatBytes(session.stats.cacheBytes)}`;
}

/** Says what was no text. */
export async function sayReplaced(
  inputs: Inputs,
  say: (line: string) => Promise<void>,
): Promise<void> {
  for (const { name, replaced } of inputs.reports()) {
    if (replaced === 0) continue;
    await say(`note: ${plural(replaced, "invalid UTF-8 sequence")} in ${name} became U+FFFD`);
  }
}

/** A text that was written, and in what time. */
export interface Written {
  readonly text: string;
  /** From the question on; null where nothing was written. */
  readonly secondsToFirstToken: number | null;
  readonly seconds: number;
}

/** What the settings say of an answer. */
export function writingOptions(settings: ReadSettings): AskOptions {
  const { maxTokens, temperature, topP, stop } = settings;
  const seed = settings.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!;
  return { maxTokens, temperature, topP, stop, seed };
}

/**
 * Shows a text on standard output as it comes, and ends its last line; in a report it is shown
 * later.
 *
 * @param onPiece Called after each piece.
 */
export async function show(
  pieces: AsyncIterable<string>,
  { json }: Pick<ReadSettings, "json">,
  onPiece: () => Promise<void> = () => Promise.resolve(),
): Promise<Written> {
  const began = performance.now();
  const elapsed = () => (performance.now() - began) / 1000;
  let text = "";
  let secondsToFirstToken: number | null = null;
  let watch: Disposable | null = null;
  try {
    for await (const piece of pieces) {
      secondsToFirstToken ??= elapsed();
      text += piece;
      if (!json) {
        if (standardOutput.isTerminal) watch ??= endLineOnInterrupt();
        await standardOutput.write(piece);
      }
      await onPiece();
    }
    if (!json && !text.endsWith("\n")) await standardOutput.write("\n");
  } finally {
    watch?.[Symbol.dispose]();
  }
  return { text, secondsToFirstToken, seconds: elapsed() };
}

/** What is said of a report to people. */
interface Figures {
  readonly settings: { readonly stepSize: number; readonly cacheFormat: string };
  readonly stats: Session["stats"] & {
    readonly inputTokens: number;
    readonly inputBytes: number;
    readonly inputSeconds: number;
    readonly secondsToFirstToken: number | null;
    readonly peakMemoryBytes: number;
  };
}

function describe({ settings, stats }: Figures, model: Model, session: Session): string[] {
  const { generatedTokens, generateSeconds, secondsToFirstToken } = stats;
  return [
    `read    ${plural(stats.inputTokens, "token")} (${formatBytes(stats.inputBytes)}) in ` +
    `${formatSeconds(stats.inputSeconds)}: ${formatRate(stats.inputTokens, stats.inputSeconds)}`,
    `wrote   ${plural(generatedTokens, "token")}` +
    (secondsToFirstToken === null
      ? ""
      : `, the first after ${formatSeconds(secondsToFirstToken)}, ` +
        `${formatRate(generatedTokens, generateSeconds)}`),
    `scope   ${plural(stats.largestScope, "token")} of ${
      formatCount(stats.length)
    } at once, from ` +
    `${
      describeScope(session.select === "never" ? { ...session.scope, topK: 0 } : session.scope)
    }; trained length ` +
    `${formatCount(model.config.trainedLength)}, step ${settings.stepSize}`,
    `select  ${describeSelect(session, model)}`,
    describeMemory(stats, settings.cacheFormat),
    ...describeAbsent(stats),
  ];
}

/** What the cache and the process hold. */
export function describeMemory(
  { cacheBytes, bytesPerToken, peakMemoryBytes }: {
    readonly cacheBytes: number;
    readonly bytesPerToken: number;
    readonly peakMemoryBytes: number;
  },
  cacheFormat: string,
): string {
  return `memory  ${formatBytes(cacheBytes)} of cache (${formatCount(bytesPerToken)} bytes ` +
    `a token, ${cacheFormat}), ${formatBytes(peakMemoryBytes)} at the peak`;
}

/** When and where attention selected. */
function describeSelect({ select, selectLayers, scope }: Session, { config }: Model): string {
  if (select === "never" || scope.topK === 0) return "never";
  const when = select === "always" ? "every step" : "the question and what was written";
  return `for ${when}, ${describeSelectLayers(selectLayers, config.numLayers)}`;
}
