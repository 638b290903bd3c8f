/**
 * `calibrate`: which layers of a model must select.
 *
 * @module
 */

import { readBytes } from "../files/byte_source.ts";
import { asObject, parseJson } from "../files/json.ts";
import type { Calibration } from "../llama/calibration.ts";
import { EMBEDDED_MODEL } from "../llama/load.ts";
import { MAX_CONFIG_BYTES, openModelFiles } from "../llama/model_files.ts";
import { parseProfile, type Profile } from "../llama/profile.ts";
import { kindOf, openFile } from "../system/file_source.ts";
import { openJournal } from "../system/journal.ts";
import { replaceFile } from "../system/replace_file.ts";
import { standardError, standardOutput } from "../system/system.ts";
import { type CalibrateSettings, UsageError } from "./args.ts";
import { plural } from "./format.ts";
import { describeSelectLayers, nameLayers } from "./inspect.ts";
import { toReadableJson } from "./json.ts";
import { searchLayers } from "./layer_search.ts";
import { reportLoading } from "./loading.ts";
import { identify, planProbes } from "./probe_plan.ts";
import { startProbeRun } from "./probe_run.ts";
import type { NeedleTemplates } from "./probes.ts";
import { createProgress } from "./progress.ts";
import { openModel } from "./reading.ts";

/** Runs `calibrate`. */
export async function calibrate(settings: CalibrateSettings): Promise<void> {
  const templates = checkTemplates(settings);
  const out = settings.out ?? await besideModel(settings.model);
  const say = async (line: string) => {
    if (!settings.quiet) await standardError.write(`${line}\n`);
  };
  const name = settings.model ?? "the embedded model";
  const report = reportLoading(name, standardError, !settings.quiet);
  const files = await openModelFiles(settings.model ?? EMBEDDED_MODEL, report)
    .finally(() => report.end());
  const { numLayers } = files.config;
  const identity = await identify(files).finally(() => files.close());
  // Before hours of probing, not after.
  const before = await readProfile(out, files.profile, numLayers);
  const text = settings.text === undefined ? null : await openFile(settings.text);
  try {
    using model = await openModel(settings);
    const { plan, header, notes } = await planProbes(model, settings, templates, text);
    for (const note of notes) await say(`note: ${note}`);
    const journalPath = `${out}.probes.jsonl`;
    await using journal = await openJournal(journalPath, { fresh: settings.fresh });
    const progress = createProgress(standardError, !settings.quiet);
    const run = await startProbeRun(model, plan, journal, { version: 1, ...identity, ...header }, {
      onProgress: (line) => progress.show(line),
      onStage: async (line) => {
        await progress.clear();
        await say(line);
      },
    });
    if (run.resumed > 0) {
      await say(`goes on after ${plural(run.resumed, "finished probe")} of ${journalPath}`);
    }
    const tolerance = settings.tolerance / 100;
    const { layers, sets } = await searchLayers({
      numLayers,
      tolerance,
      measure: run.measure,
      ...(plan.haystacks.length > 0 ? { confirm: run.confirm } : {}),
    }).finally(() => progress.clear());
    const calibration: Calibration = {
      needles: plan.haystacks.length === 0 ? null : {
        questions: plan.haystacks.reduce((sum, { questions }) => sum + questions, 0),
        lengths: [...new Set(plan.haystacks.map(({ tokens }) => tokens))],
      },
      prose: plan.windows.length === 0 ? null : {
        windows: plan.windows.length,
        length: Math.max(...plan.windows.map(({ length }) => length)),
        scored: plan.windows.reduce((sum, { length }) => sum + Math.ceil(length / 2), 0),
      },
      tolerance,
      sets,
    };
    await standardOutput.write(describeSets(calibration, numLayers));
    if (layers === null) {
      throw new Error(
        "Cannot tell which layers must select: nothing is lost where none does, so these probes " +
          "do not need what lies beyond the window; longer ones may (--length, --window), or " +
          "others (--text, --needle). Nothing was written",
      );
    }
    const after = { ...before, selectLayers: layers, calibration };
    parseProfile(after, out, numLayers);
    await replaceFile(out, `${toReadableJson(after)}\n`);
    await standardOutput.write(`selects ${describeSelectLayers(layers, numLayers)}\n`);
    await say(`wrote ${out}; the finished probes are in ${journalPath}, not needed any more`);
  } finally {
    await text?.close?.();
  }
}

function checkTemplates({ needle, question }: CalibrateSettings): NeedleTemplates | null {
  if (needle === undefined && question === undefined) return null;
  if (needle === undefined || question === undefined) {
    throw new UsageError("--needle and --question belong together: a fact and how it is asked for");
  }
  if (!needle.includes("{key}") || !needle.includes("{value}")) {
    throw new UsageError(`--needle must have {key} and {value}, got "${needle}"`);
  }
  if (!question.includes("{key}") || question.includes("{value}")) {
    throw new UsageError(`--question must have {key} and not {value}, got "${question}"`);
  }
  return { needle, question };
}

/** Where a model's profile is, if it is a model of this machine's and not of the package. */
async function besideModel(model: string | undefined): Promise<string> {
  if (model === undefined || /^(https?|file|hf):/i.test(model)) {
    throw new UsageError(
      `${
        model === undefined ? "The embedded model is" : "A model by URL or name is"
      } not written to: ` +
        "name the profile to write with --out",
    );
  }
  const folder = await kindOf(model) === "directory"
    ? `${model.replace(/[/\\]+$/, "")}/`
    : model.replace(/[^/\\]*$/, "");
  return `${folder}reattention.json`;
}

/** The fields to keep: those of the file to write, else those of the model's own profile. */
async function readProfile(
  path: string,
  profile: Profile | null,
  numLayers: number,
): Promise<object> {
  if (await kindOf(path) === "missing") return profile ?? {};
  const file = await openFile(path);
  try {
    if (file.byteLength > MAX_CONFIG_BYTES) {
      throw new Error(
        `Cannot write "${path}": it is no profile, it has ${file.byteLength} bytes already`,
      );
    }
    const bytes = await readBytes(file, 0, file.byteLength);
    const { value } = parseJson(bytes, { name: path });
    parseProfile(value, path, numLayers);
    return asObject(value)!;
  } finally {
    await file.close?.();
  }
}

/** A table for people: what each set of layers came to. */
export function describeSets(calibration: Calibration, numLayers: number): string {
  const { needles, prose, sets } = calibration;
  const nllOfAll = sets.find(({ layers }) => layers.length === numLayers)?.nll;
  const answers = (right?: number) =>
    right === undefined ? "" : `${right} of ${needles!.questions}`;
  const percent = (nll?: number) =>
    nll === undefined || !nllOfAll ? "" : `${(100 * (nll / nllOfAll - 1)).toFixed(2)} %`;
  const rows = [
    [
      "layers that select",
      ...(needles ? ["right (ask)", "right (always)"] : []),
      ...(prose ? ["perplexity", "loss against all"] : []),
    ],
    ...sets.map(({ layers, right, rightAlways, nll }) => [
      nameSet(layers, numLayers),
      ...(needles ? [answers(right), answers(rightAlways)] : []),
      ...(prose ? [nll === undefined ? "" : Math.exp(nll).toFixed(2), percent(nll)] : []),
    ]),
  ];
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  const lines = rows.map((row) =>
    row.map((cell, i) => cell.padEnd(widths[i]!)).join("  ").trimEnd()
  );
  return `${lines.join("\n")}\n`;
}

/** `all`, `none`, `1, 2`, `all but 3`. */
function nameSet(layers: readonly number[], numLayers: number): string {
  if (layers.length === numLayers) return "all";
  if (layers.length === numLayers - 1 && numLayers > 3) {
    const missing = Array.from({ length: numLayers }, (_, layer) => layer)
      .find((layer) => !layers.includes(layer));
    return `all but ${missing}`;
  }
  return nameLayers(layers);
}
