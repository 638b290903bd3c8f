/**
 * `inspect`: what a model's files hold, and what reading with it will cost.
 *
 * @module
 */

import type { KvFormat } from "../backend/backend.ts";
import { kvBytesPerToken } from "../backend/kv_bytes.ts";
import { summarizeDtypes } from "../files/tensor_table.ts";
import type { CalibratedSet, Calibration } from "../llama/calibration.ts";
import { type AnswerMode, answerMode } from "../llama/chat.ts";
import { EMBEDDED_MODEL } from "../llama/load.ts";
import { type ModelFiles, openModelFiles } from "../llama/model_files.ts";
import { resolveSelectLayers } from "../llama/select_layers.ts";
import { defaultStepSize } from "../llama/session_options.ts";
import { fitScope, scopeBound, type ScopeConfig } from "../reattention/scope.ts";
import { memoryLimit } from "../system/memory.ts";
import { standardError, standardOutput } from "../system/system.ts";
import type { InspectSettings } from "./args.ts";
import { formatBytes, formatCount, plural } from "./format.ts";
import { findBackends } from "./inspect_backends.ts";
import { toJson } from "./json.ts";

/** Tokens of a long text, for its price. */
const MILLION = 1_000_000;

/** What a backend may hold where nobody knows what there is. */
const UNKNOWN_LIMIT = 2 ** 32;

/** What {@linkcode summarizeModel} finds. */
export interface ModelSummary {
  readonly name: string;
  readonly format: string;
  readonly shape: Omit<ModelFiles["config"], "bosToken" | "eosTokens">;
  readonly parameters: number;
  readonly tensors: ReturnType<typeof summarizeDtypes>;
  /** All files that hold weights. */
  readonly fileBytes: number;
  readonly hasTokenizer: boolean;
  /** What makes it answer. */
  readonly answers: AnswerMode;
  /** Where the chat template was found; null where there is none. */
  readonly chatTemplate: string | null;
  readonly questionForms: readonly string[];
  /** Keys and values of all layers. */
  readonly cacheBytesPerToken: Readonly<Record<KvFormat, number>>;
  readonly cacheBytesPerMillionTokens: Readonly<Record<KvFormat, number>>;
  /** What weights and cache may hold here unless --memory-limit says otherwise. */
  readonly memoryLimit: number;
  readonly memoryLimitFrom: "available memory" | "default";
  /** What fits into that beside weights as large as the files, in i16. */
  readonly tokensInMemory: number;
  /** The scope that suits the model, and whether the model or its trained length says so. */
  readonly scope: ScopeConfig;
  readonly scopeFrom: "profile" | "trained length";
  readonly scopeTokens: number;
  /** Tokens read at once. */
  readonly stepSize: number;
  /** The layers that select, and whether the model says so or nobody does: then all do. */
  readonly selectLayers: readonly number[];
  readonly selectLayersFrom: "profile" | "default";
  /** What spoke for them; null where nobody measured. */
  readonly calibration: Calibration | null;
}

/** Runs `inspect`. */
export async function inspect(settings: InspectSettings): Promise<void> {
  if (settings.backends) {
    const found = await findBackends(settings);
    const lines = found.map(({ name, runs, text }) =>
      `${name.padEnd(10)} ${runs ? "yes" : "no "}  ${text}`
    );
    const text = settings.json ? toJson(found) : lines.join("\n");
    return await standardOutput.write(`${text}\n`);
  }
  const files = await openModelFiles(settings.model ?? EMBEDDED_MODEL, {
    // Headers are no reason to download a model.
    download: false,
    onNotice: (notice) => void standardError.write(`note: ${notice}\n`),
  });
  try {
    const summary = summarizeModel(files);
    const text = settings.json ? toJson(summary) : describeModel(summary);
    await standardOutput.write(`${text}\n`);
  } finally {
    await files.close();
  }
}

/** Everything that can be known from the headers. */
export function summarizeModel(files: ModelFiles): ModelSummary {
  const { bosToken: _bos, eosTokens: _eos, ...shape } = files.config;
  const tensors = summarizeDtypes(files.tensors);
  const [i16, f32] = [kvBytesPerToken(shape, "i16"), kvBytesPerToken(shape, "f32")];
  const scope = files.profile?.scope ?? fitScope(shape.trainedLength);
  const found = memoryLimit();
  const limit = found ?? UNKNOWN_LIMIT;
  return {
    name: files.name,
    format: files.tensors.format,
    shape,
    parameters: tensors.reduce((sum, { parameters }) => sum + parameters, 0),
    tensors,
    fileBytes: files.byteLength,
    hasTokenizer: files.tokenizer !== null || files.tensors.metadata.has("tokenizer.ggml.model"),
    answers: answerMode(files.profile, files.chatTemplate),
    chatTemplate: files.chatTemplate?.name ?? null,
    questionForms: files.profile?.forms.map((form) => form.questions[0]!) ?? [],
    cacheBytesPerToken: { i16, f32 },
    cacheBytesPerMillionTokens: { i16: i16 * MILLION, f32: f32 * MILLION },
    memoryLimit: limit,
    memoryLimitFrom: found === null ? "default" : "available memory",
    tokensInMemory: Math.max(0, Math.floor((limit - files.byteLength) / i16)),
    scope,
    scopeFrom: files.profile?.scope ? "profile" : "trained length",
    scopeTokens: scopeBound(scope, 1),
    stepSize: files.profile?.stepSize ?? defaultStepSize(scope, shape.trainedLength),
    selectLayers: resolveSelectLayers(files.profile?.selectLayers ?? "all", shape.numLayers),
    selectLayersFrom: files.profile?.selectLayers ? "profile" : "default",
    calibration: files.profile?.calibration ?? null,
  };
}

/** How a model answers, for people. */
const ANSWERS: Readonly<Record<AnswerMode, string>> = {
  "question forms": "in the question forms it was trained on:",
  "chat template": "by its chat template",
  "continuation": "goes on with the text: it has no chat template",
};

/** A page for people. */
function describeModel(summary: ModelSummary): string {
  const { shape, scope, cacheBytesPerToken: perToken } = summary;
  const perMillion = summary.cacheBytesPerMillionTokens;
  const rows: [string, string][] = [
    ["model", `${summary.name} (${summary.format})`],
    [
      "shape",
      `${plural(shape.numLayers, "layer")} of ${formatCount(shape.hiddenSize)}, ` +
      `feed-forward ${formatCount(shape.intermediateSize)}, ` +
      `${
        plural(shape.numHeads, "head")
      } of ${shape.headDim} (${shape.numKvHeads} for keys and values)`,
    ],
    [
      "vocabulary",
      `${plural(shape.vocabSize, "token")}${shape.tiedEmbeddings ? ", tied embeddings" : ""}` +
      `${summary.hasTokenizer ? "" : "; no tokenizer"}`,
    ],
    ["rotary base", formatCount(shape.ropeTheta)],
    ["trained length", plural(shape.trainedLength, "token")],
    [
      "parameters",
      `${formatCount(summary.parameters)} in ${formatBytes(summary.fileBytes)} of files`,
    ],
    ...summary.tensors.map(({ dtype, tensors, parameters, byteLength }): [string, string] => [
      `  ${dtype}`,
      `${plural(tensors, "tensor")}, ${formatCount(parameters)} numbers, ${
        formatBytes(byteLength)
      }`,
    ]),
    [
      "cache",
      `${formatBytes(perToken.i16)} a token in i16, ${formatBytes(perToken.f32)} in f32`,
    ],
    [
      "  1M tokens",
      `${formatBytes(perMillion.i16)} in i16, ${formatBytes(perMillion.f32)} in f32`,
    ],
    [
      "memory",
      `${formatBytes(summary.memoryLimit)} for weights and cache ` +
      (summary.memoryLimitFrom === "default"
        ? "(what is available is not known)"
        : "(3/4 of what is available)"),
    ],
    ["  holds", `${plural(summary.tokensInMemory, "token")} in i16`],
    ["scope", `${describeScope(scope)} (from the ${summary.scopeFrom})`],
    ["step", plural(summary.stepSize, "token")],
    [
      "selects",
      `${describeSelectLayers(summary.selectLayers, shape.numLayers)} ` +
      (summary.selectLayersFrom === "profile" ? "(from the profile)" : "(not calibrated)"),
    ],
    ...describeCalibration(summary).map((line): [string, string] => ["", line]),
    ["answers", ANSWERS[summary.answers]],
    ...summary.questionForms.map((form): [string, string] => ["", form]),
  ];
  return rows.map(([name, value]) => `${name.padEnd(16)}${value}`).join("\n");
}

/** `16 global + 16 x 16 selected + 240 local = 512 tokens`, or what else it is. */
export function describeScope(scope: ScopeConfig): string {
  const { globalSize, localSize, topK, maxSpans, spanSize } = scope;
  if (globalSize === Infinity) return "everything (full attention)";
  const parts = [`${formatCount(globalSize)} global`];
  if (topK > 0) parts.push(`${formatCount(maxSpans)} x ${formatCount(spanSize)} selected`);
  parts.push(`${formatCount(localSize)} local`);
  return `${parts.join(" + ")} = ${plural(scopeBound(scope, 1), "token")}`;
}

/** `in layers 1, 2 of 4`, `in layers 8-11, 15 of 32`, `in all 4 layers`. */
export function describeSelectLayers(layers: readonly number[], numLayers: number): string {
  if (layers.length === numLayers) return `in all ${plural(numLayers, "layer")}`;
  return `in ${layers.length === 1 ? "layer" : "layers"} ${nameLayers(layers)} of ${numLayers}`;
}

/** Ascending indices, three and more in a row as a range: `0, 1, 8-11`; `none` of none. */
export function nameLayers(layers: readonly number[]): string {
  const names: string[] = [];
  for (let i = 0; i < layers.length;) {
    let end = i + 1;
    while (end < layers.length && layers[end] === layers[end - 1]! + 1) end++;
    if (end - i >= 3) {
      names.push(`${layers[i]}-${layers[end - 1]}`);
      i = end;
    } else names.push(`${layers[i++]}`);
  }
  return names.length === 0 ? "none" : names.join(", ");
}

/** What those layers were measured to cost against all: a line for each kind of evidence. */
function describeCalibration({ calibration, selectLayers, shape }: ModelSummary): string[] {
  if (calibration === null) return [];
  const find = (layers: readonly number[]): CalibratedSet | undefined =>
    calibration.sets.find((set) => set.layers.join() === layers.join());
  const chosen = find(selectLayers);
  const all = find(resolveSelectLayers("all", shape.numLayers));
  const lines: string[] = [];
  if (calibration.needles && chosen?.right !== undefined && all?.right !== undefined) {
    const { questions, lengths } = calibration.needles;
    lines.push(
      `${chosen.right} of ${plural(questions, "answer")} right at ${
        lengths.map(formatCount).join(" and ")
      } tokens; all layers: ${all.right}`,
    );
  }
  if (calibration.prose && chosen?.nll !== undefined && all?.nll !== undefined) {
    const perplexity = (nll: number) => Math.exp(nll).toFixed(2);
    lines.push(
      `perplexity ${perplexity(chosen.nll)} on ${
        plural(calibration.prose.scored, "token")
      } of prose; all layers: ${perplexity(all.nll)}`,
    );
  }
  return lines;
}
