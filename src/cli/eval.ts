/**
 * `eval`: runs a suite by several methods, or at a server, and says what came of it.
 *
 * @module
 */

import { type Answerer, modelAnswerer, type ModelAnswererOptions } from "../eval/answerer.ts";
import { type EvalCase, type EvalResult, lengthOf } from "../eval/case.ts";
import { type Method, resolveMethod } from "../eval/methods.ts";
import { runCases, summarize } from "../eval/run.ts";
import { serverAnswerer } from "../eval/server.ts";
import { modelTokens, type TextTokens, wordTokens } from "../eval/text_tokens.ts";
import type { Model } from "../llama/load.ts";
import { openJournal } from "../system/journal.ts";
import { environmentVariable, standardError, standardOutput } from "../system/system.ts";
import { createTokenizer, type Tokenizer } from "../text/tokenizer.ts";
import type { EvalRunSettings } from "./eval_args.ts";
import { benchmarkSuite, scorePredictions } from "./eval_benchmarks.ts";
import { needleSuite } from "./eval_needle.ts";
import { perplexitySuite } from "./eval_perplexity.ts";
import { describeResults } from "./eval_report.ts";
import { rulerSuite } from "./eval_ruler.ts";
import type { EvalSettings } from "./eval_suites.ts";
import { readJsonFile } from "./eval_texts.ts";
import { formatSeconds, plural } from "./format.ts";
import { toJsonLine } from "./json.ts";
import { memoryOptions } from "./memory.ts";
import { attentionOptions } from "./options.ts";
import { createProgress } from "./progress.ts";
import { openModel } from "./reading.ts";

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
  /** Who answers by a method. Default: the model, in words. */
  answerer?(model: Model, method: Method, options: ModelAnswererOptions): Answerer;
  /** Scores in the suite's own way: for people, and what the summary has besides. */
  report?(rows: readonly EvalResult[]): { readonly text: string; readonly summary: object };
}

/** Runs `eval`. */
export async function evaluate(settings: EvalSettings): Promise<void> {
  switch (settings.suite) {
    case "needle":
      return await runSuite(settings, needleSuite(settings));
    case "ruler":
      return await runSuite(settings, rulerSuite(settings));
    case "perplexity":
      return await runSuite(settings, perplexitySuite(settings));
    case "longbench":
    case "leval":
    case "infinitebench":
      return settings.score !== undefined
        ? await scorePredictions(settings, settings.score)
        : await runSuite(settings, await benchmarkSuite(settings));
  }
}

/** Runs a suite as the settings say; rows and summary go to standard output. */
export async function runSuite(settings: EvalRunSettings, suite: EvalSuite): Promise<void> {
  const { json, quiet, only, out, fresh, seed, raw } = settings;
  const progress = createProgress(standardError, !quiet);
  await using journal = out === undefined ? null : await openJournal(out, { fresh });
  using subject = await openSubject(settings, suite);
  const { answerers, units } = subject;
  try {
    const cases = await suite.cases({ units });
    const rows: EvalResult[] = [];
    const results = runCases({
      cases,
      answerers,
      // Its cost grows with the square of the length, and beyond the trained length it fails anyway.
      wants: (task, answerer) => !answerer.isFull || lengthOf(task) <= settings.fullLimit,
    }, {
      journal,
      only,
      header: { suite: suite.name, seed, raw, ...subject.header, ...suite.header },
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
    await progress.clear();
  }
}

/** What is measured: a model by some methods, or a server. */
interface Subject extends Disposable {
  readonly answerers: readonly Answerer[];
  readonly units: TextTokens;
  /** What rows depend on: who answers, by which rules. */
  readonly header: Readonly<Record<string, unknown>>;
}

async function openSubject(
  settings: EvalRunSettings,
  { answerer: open = modelAnswerer }: EvalSuite,
): Promise<Subject> {
  const { server, methods, raw, cacheFormat } = settings;
  if (server !== undefined) return await openServer(settings, server);
  const model = await openModel(settings);
  try {
    const rules = attentionOptions(settings);
    const answerers = methods.map((name) =>
      open(model, resolveMethod(name, model, rules), {
        raw,
        ...memoryOptions(settings),
        ...(cacheFormat === undefined ? {} : { kvFormat: cacheFormat }),
      })
    );
    const { tokenizer, weights } = model.identity;
    return {
      answerers,
      units: modelTokens(model.tokenizer),
      header: { model: { tokenizer, weights }, rules },
      [Symbol.dispose]() {
        for (const answerer of answerers) answerer[Symbol.dispose]();
        model[Symbol.dispose]();
      },
    };
  } catch (error) {
    model[Symbol.dispose]();
    throw error;
  }
}

async function openServer(settings: EvalRunSettings, url: string): Promise<Subject> {
  const { model, tokenizer, timeout } = settings;
  const apiKey = environmentVariable("REATTENTION_API_KEY") ??
    environmentVariable("OPENAI_API_KEY");
  const answerer = serverAnswerer({
    url,
    timeoutSeconds: timeout,
    ...(model === undefined ? {} : { model }),
    ...(apiKey === undefined ? {} : { apiKey }),
  });
  return {
    answerers: [answerer],
    units: tokenizer === undefined ? wordTokens() : modelTokens(await readTokenizer(tokenizer)),
    header: { server: url, model: model ?? null, tokenizer: tokenizer ?? null },
    [Symbol.dispose]() {},
  };
}

/** The tokenizer of a model's folder, without the model. */
async function readTokenizer(folder: string): Promise<Tokenizer> {
  const path = `${folder.replace(/[/\\]+$/, "")}/tokenizer.json`;
  return createTokenizer(await readJsonFile(path), null, { name: path });
}
