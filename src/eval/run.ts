/**
 * Runs cases by methods, one after the other; what a journal holds already is not run again. The
 * journal's first line says what the rows depend on, the others are rows (see {@linkcode EvalResult}):
 *
 *     {"type":"header","version":1,"suite":"needle",...}
 *     {"id":"single/16384/0.5/0","task":"single","method":"reattention",...}
 *
 * @module
 */

import type { Answerer } from "./answerer.ts";
import type { EvalCase, EvalResult } from "./case.ts";
import { mean, type Share, shareOf } from "./statistics.ts";

/** A file of lines that outlives the process; `openJournal` of src/system is one. */
export interface ResultJournal {
  /** The lines that were there. */
  readonly lines: readonly string[];
  append(line: string): Promise<void>;
}

/** What to run. */
export interface EvalRun {
  readonly cases: readonly EvalCase[];
  readonly answerers: readonly Answerer[];
  /** Whether a case is run by an answerer. Default: all are. */
  readonly wants?: (task: EvalCase, answerer: Answerer) => boolean;
}

/** How a run is kept, watched and ended. */
export interface EvalRunOptions {
  /** Null: nothing is kept. */
  readonly journal?: ResultJournal | null;
  /** What the rows depend on besides their cases: another header is another run. */
  readonly header?: Readonly<Record<string, unknown>>;
  /** Ids of the cases to run. Default: all. */
  readonly only?: readonly string[];
  readonly signal?: AbortSignal;
  /** A line about what is being done; asked for only now and then. */
  readonly onProgress?: (line: () => string) => Promise<void>;
  /** For people: `3 min 05 s`. */
  readonly formatSeconds?: (seconds: number) => string;
}

/** A failure that is not a case's own: the run ends, and a later one goes on. */
export class EvalAbort extends Error {
  /** Always `"EvalAbort"`. */
  override readonly name = "EvalAbort";
}

/**
 * Runs what is wanted and not finished, methods outermost. A case that fails becomes a row with its
 * error, which a later run tries again.
 *
 * @returns All rows in the order of methods and cases, as they come; finished ones at once.
 * @throws {RangeError} If two cases have one id, or `only` names none.
 * @throws {Error} If the journal is of other rows, or cannot be written.
 */
export async function* runCases(
  { cases, answerers, wants = () => true }: EvalRun,
  options: EvalRunOptions = {},
): AsyncGenerator<EvalResult> {
  const { journal = null, header = {}, only = [], signal, onProgress } = options;
  const { formatSeconds = (seconds) => `${Math.round(seconds)} s` } = options;
  const chosen = chooseCases(cases, only);
  const finished = await openRows(journal, { type: "header", version: 1, ...header });
  const pairs = answerers.flatMap((answerer) =>
    chosen.filter((task) => wants(task, answerer)).map((task) => ({ task, answerer }))
  );
  const keyOf = (id: string, method: string) => JSON.stringify([id, method]);
  const costs = pairs.map(({ task, answerer }, i) => {
    if (finished.has(keyOf(task.id, answerer.name))) return 0;
    const before = pairs[i - 1];
    return answerer.cost(task, before?.answerer === answerer ? before.task : null);
  });
  const total = costs.reduce((sum, each) => sum + each, 0);
  const began = performance.now();
  let done = 0;
  const timeLeft = () => {
    const seconds = (performance.now() - began) / 1000;
    // Little is known at the beginning.
    return done < total / 100 && seconds < 5
      ? ""
      : `, about ${formatSeconds((total - done) * seconds / Math.max(done, 1e-9))} left`;
  };
  for (const [i, { task, answerer }] of pairs.entries()) {
    signal?.throwIfAborted();
    const key = keyOf(task.id, answerer.name);
    const kept = finished.get(key);
    if (kept !== undefined) {
      yield kept;
      continue;
    }
    const where = `row ${i + 1} of ${pairs.length}`;
    const what = `${answerer.name} ${task.id}`;
    const show = (more: string) => onProgress?.(() => `${where}${timeLeft()}; ${what}${more}`);
    await show("");
    const row = await runCase(task, answerer, {
      signal,
      onRead: async (tokens) => await show(`, ${tokens} tokens read`),
    });
    done += costs[i]!;
    await journal?.append(JSON.stringify(row));
    yield row;
  }
}

async function runCase(
  task: EvalCase,
  answerer: Answerer,
  options: NonNullable<Parameters<Answerer["answer"]>[1]>,
): Promise<EvalResult> {
  const { id, task: name, at, expected } = task;
  const began = performance.now();
  const about = { id, task: name, method: answerer.name, at };
  const seconds = () => Math.round(performance.now() - began) / 1000;
  try {
    const answered = await answerer.answer(task, options);
    const { prediction, tokens, more, score = task.score(prediction) } = answered;
    return { ...about, prediction, expected, score, ...more, tokens, seconds: seconds() };
  } catch (cause) {
    options.signal?.throwIfAborted();
    if (cause instanceof EvalAbort) throw cause;
    const error = cause instanceof Error ? cause.message : String(cause);
    return { ...about, prediction: "", expected, score: 0, tokens: 0, seconds: seconds(), error };
  }
}

function chooseCases(cases: readonly EvalCase[], only: readonly string[]): readonly EvalCase[] {
  const ids = new Set<string>();
  for (const { id } of cases) {
    if (ids.has(id)) throw new RangeError(`Cannot evaluate: ids must differ, got "${id}" twice`);
    ids.add(id);
  }
  const unknown = only.find((id) => !ids.has(id));
  if (unknown !== undefined) {
    const some = [...ids].slice(0, 3).map((id) => `"${id}"`).join(", ");
    throw new RangeError(
      `Cannot evaluate only "${unknown}": it must be one of the ${ids.size} cases, such as ${some}`,
    );
  }
  return only.length === 0 ? cases : cases.filter(({ id }) => only.includes(id));
}

/** The rows of a journal by id and method, but for errors; begins the journal where it is empty. */
async function openRows(
  journal: ResultJournal | null,
  header: Readonly<Record<string, unknown>>,
): Promise<ReadonlyMap<string, EvalResult>> {
  const rows = new Map<string, EvalResult>();
  if (journal === null) return rows;
  const [first, ...rest] = journal.lines;
  if (first === undefined) await journal.append(JSON.stringify(header));
  else checkHeader(first, header);
  for (const [i, line] of rest.entries()) {
    const row = parseRow(line);
    if (row === null) {
      throw new Error(
        `Cannot go on with the results: line ${i + 2} must be a row; --fresh begins anew`,
      );
    }
    if (row.error === undefined) rows.set(JSON.stringify([row.id, row.method]), row);
  }
  return rows;
}

/** Rows of another evaluation would mix with these. */
function checkHeader(line: string, expected: Readonly<Record<string, unknown>>): void {
  const found = parseObject(line);
  if (found?.["type"] !== "header") {
    throw new Error("Cannot go on with the results: the first line must be a header of ours");
  }
  const plain = JSON.parse(JSON.stringify(expected)) as Record<string, unknown>;
  const different = [...new Set([...Object.keys(found), ...Object.keys(plain)])]
    .filter((key) => JSON.stringify(found[key]) !== JSON.stringify(plain[key]));
  if (different.length > 0) {
    throw new Error(
      `Cannot go on with the results: they must be of the same evaluation, but differ in ` +
        `${different.join(", ")}; --fresh begins anew`,
    );
  }
}

/** A row of a results file; null where the line is none. */
export function parseRow(line: string): EvalResult | null {
  const row = parseObject(line);
  const isRow = row !== null && ["id", "task", "method", "prediction"]
    .every((key) => typeof row[key] === "string") &&
    typeof row["score"] === "number";
  return isRow ? row as unknown as EvalResult : null;
}

function parseObject(line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? value as Record<string, unknown>
      : null;
  } catch {
    return null;
  }
}

/** Scores of some rows, and how many have none. */
export interface EvalShare extends Share {
  readonly errors: number;
}

/** What an evaluation came to: the last line of its output. */
export interface EvalSummary extends EvalShare {
  readonly type: "summary";
  readonly suite: string;
  /** The method that `score`, `n`, `interval`, `errors` and `byTask` are of: the first. */
  readonly method: string;
  readonly byTask: Readonly<Record<string, EvalShare>>;
  /** `average` is the mean of the tasks' means. */
  readonly byMethod: Readonly<
    Record<
      string,
      EvalShare & {
        readonly average: number;
        readonly byTask: Readonly<Record<string, EvalShare>>;
        readonly byLength: Readonly<Record<string, EvalShare>>;
        readonly seconds: number;
      }
    >
  >;
}

/** Sums rows up. Rows with an error count as errors and not as scores. */
export function summarize(suite: string, rows: readonly EvalResult[]): EvalSummary {
  const methods = [...new Set(rows.map(({ method }) => method))];
  const byMethod = Object.fromEntries(methods.map((method) => {
    const own = rows.filter((row) => row.method === method);
    const byTask = groupBy(own, ({ task }) => task);
    return [method, {
      ...shareOfRows(own),
      average: Object.keys(byTask).length === 0
        ? 0
        : mean(Object.values(byTask).map(({ score }) => score)),
      byTask,
      byLength: groupBy(own, ({ at }) => at["length"] === undefined ? null : String(at["length"])),
      seconds: own.reduce((sum, { seconds }) => sum + seconds, 0),
    }];
  }));
  const method = methods[0] ?? "";
  const first = rows.filter((row) => row.method === method);
  return {
    type: "summary",
    suite,
    method,
    ...shareOfRows(first),
    byTask: byMethod[method]?.byTask ?? {},
    byMethod,
  };
}

/** What some rows came to. */
export function shareOfRows(rows: readonly EvalResult[]): EvalShare {
  const scored = rows.filter(({ error }) => error === undefined);
  return { ...shareOf(scored.map(({ score }) => score)), errors: rows.length - scored.length };
}

function groupBy(
  rows: readonly EvalResult[],
  keyOf: (row: EvalResult) => string | null,
): Record<string, EvalShare> {
  const groups = new Map<string, EvalResult[]>();
  for (const row of rows) {
    const key = keyOf(row);
    if (key !== null) groups.set(key, [...groups.get(key) ?? [], row]);
  }
  return Object.fromEntries([...groups].map(([key, rows]) => [key, shareOfRows(rows)]));
}
