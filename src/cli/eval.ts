/**
 * `eval`: runs a suite by several methods, or at a server, and says what came of it.
 *
 * @module
 */

import { type Answerer, modelAnswerer } from "../eval/answerer.ts";
import type { EvalCase, EvalResult } from "../eval/case.ts";
import { resolveMethod } from "../eval/methods.ts";
import { lengthOf, runCases, summarize } from "../eval/run.ts";
import { modelTokens, type TextTokens } from "../eval/text_tokens.ts";
import { loadModel, type Model } from "../llama/load.ts";
import { openJournal } from "../system/journal.ts";
import { standardError, standardOutput } from "../system/system.ts";
import type { EvalRunSettings } from "./eval_args.ts";
import { benchmarkSuite, isBenchmark, scorePredictions } from "./eval_benchmarks.ts";
import { needleSuite } from "./eval_needle.ts";
import { describeResults } from "./eval_report.ts";
import type { EvalSettings } from "./eval_suites.ts";
import { formatSeconds, plural } from "./format.ts";
import { toJsonLine } from "./json.ts";
import { loadOptions, memoryOptions } from "./memory.ts";
import { attentionOptions } from "./options.ts";
import { createProgress, type Progress } from "./progress.ts";

/** What a suite may know before it makes its cases. */
export interface EvalContext {
  /** What texts are measured in. */
  readonly units: TextTokens;
}

/** What is to be measured. */
export interface EvalSuite {
  readonly name: string;
  /** What its rows depend on besides their ids, the model and the rules. */
  readonly header: Readonly<Record<string, unknown>>;
  cases(context: EvalContext): Promise<readonly EvalCase[]>;
  /** Scores in the suite's own way: for people, and what the summary has besides. */
  report?(rows: readonly EvalResult[]): { readonly text: string; readonly summary: object };
}

/** Runs `eval`. */
export async function evaluate(settings: EvalSettings): Promise<void> {
  if (isBenchmark(settings)) {
    if (settings.score !== undefined) await scorePredictions(settings, settings.score);
    else await runSuite(settings, await benchmarkSuite(settings));
  } else await runSuite(settings, needleSuite(settings));
}

/** Runs a suite as the settings say; rows and summary go to standard output. */
export async function runSuite(settings: EvalRunSettings, suite: EvalSuite): Promise<void> {
  const { json, quiet, only, out, fresh, seed, raw } = settings;
  const progress = createProgress(standardError, !quiet);
  await using journal = out === undefined ? null : await openJournal(out, { fresh });
  using model = await openModel(settings, progress);
  const answerers = openAnswerers(model, settings);
  try {
    const units = modelTokens(model.tokenizer);
    const cases = await suite.cases({ units });
    const rows: EvalResult[] = [];
    const results = runCases({
      cases,
      answerers,
      wants: (task, answerer) => isAffordable(task, answerer, settings.fullLimit),
    }, {
      journal,
      only,
      header: { suite: suite.name, seed, raw, ...rulesOf(settings, model), ...suite.header },
      onProgress: (line) => progress.show(line),
      formatSeconds,
    });
    for await (const row of results) {
      rows.push(row);
      if (row.error !== undefined && !quiet) {
        await progress.clear();
        await standardError.write(`note: ${row.method} ${row.id}: ${row.error}\n`);
      }
      if (json) {
        await progress.clear();
        await standardOutput.write(toJsonLine(row));
      }
    }
    await progress.clear();
    const summary = summarize(suite.name, rows);
    const own = suite.report?.(rows);
    await standardOutput.write(
      json
        ? toJsonLine({ ...summary, ...own?.summary })
        : own?.text ?? describeResults(summary, rows),
    );
    if (!quiet && !json && out !== undefined) {
      await standardError.write(`kept    ${plural(rows.length, "row")}: ${out}\n`);
    }
  } finally {
    for (const answerer of answerers) answerer[Symbol.dispose]();
    await progress.clear();
  }
}

async function openModel(settings: EvalRunSettings, progress: Progress): Promise<Model> {
  await progress.show(() => `loading ${settings.model ?? "the embedded model"}`);
  return await loadModel(settings.model, loadOptions(settings)).finally(() => progress.clear());
}

function openAnswerers(model: Model, settings: EvalRunSettings): Answerer[] {
  const { methods, raw, cacheFormat } = settings;
  const rules = attentionOptions(settings);
  return methods.map((name) =>
    modelAnswerer(model, resolveMethod(name, model, rules), {
      raw,
      ...memoryOptions(settings),
      ...(cacheFormat === undefined ? {} : { kvFormat: cacheFormat }),
    })
  );
}

/** Full attention's cost grows with the square of the length, and it was over long before. */
function isAffordable(task: EvalCase, answerer: Answerer, fullLimit: number): boolean {
  return !/^(full|dynamic-ntk)/.test(answerer.name) || lengthOf(task) <= fullLimit;
}

/** What rows depend on: the model, and the rules that were given. */
function rulesOf(
  settings: EvalRunSettings,
  { identity }: Model,
): Readonly<Record<string, unknown>> {
  const { tokenizer, weights } = identity;
  return { model: { tokenizer, weights }, rules: attentionOptions(settings) };
}
