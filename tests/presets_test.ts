// Scopes by name, against the runs that they are from.

import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { AUTHORS_SCOPES, type AuthorsModel, slidingWindow } from "../src/reattention/presets.ts";
import { fitScope, planScope, scopeBound } from "../src/reattention/scope.ts";
import { missing, readJson } from "./support/shared.ts";

/** Models as the authors' scripts call them. */
const MODELS: Readonly<Record<AuthorsModel, string>> = {
  "Llama-2-7B": "llama2_7B",
  "Llama-3-8B": "llama3_8B",
  "Llama-3-8B-Instruct": "llama3_8B_chat",
  "Llama-3.1-8B": "llama3_1_8B",
  "Llama-3.1-8B-Instruct": "llama3_1_8B_chat",
  "Llama-3.1-70B": "llama3_1_70B",
  "Llama-3.1-70B-Instruct": "llama3_1_70B_chat",
  "Llama-3.2-3B-Instruct": "llama3_2_3B_chat",
  "Mistral-7B-v0.3": "mistral3_7B",
  "Mistral-7B-Instruct-v0.3": "mistral3_7B_chat",
  "InternLM2-1.8B": "internlm2_1B",
  "InternLM2-7B": "internlm2_7B",
  "InternLM2.5-7B": "internlm2.5_7B",
  "InternLM2.5-7B-Chat": "internlm2.5_7B_chat",
  "Qwen2-1.5B": "qwen2_1B",
  "Qwen2-1.5B-Instruct": "qwen2_1B_chat",
  "Qwen2-7B": "qwen2_7B",
  "Qwen2-7B-Instruct": "qwen2_7B_chat",
  "Qwen2-72B": "qwen2_72B",
};

const RUNS = "facts/reattention_hyperparameters.json";

test("the authors' scopes are those that they ran most often", { skip: missing(RUNS) }, () => {
  const counts = new Map<string, Map<string, number>>();
  for (const run of readJson<unknown[][]>(RUNS)) {
    const settings = run.at(-1);
    if (typeof settings !== "object") continue;
    const fields = settings as Record<string, number | string>;
    if (fields["mid_size"] !== 4 || fields["recall_option"] !== "default") continue;
    const sizes = ["global_size", "local_size", "recall_clip", "span_size"].map((key) =>
      fields[key]
    );
    const of = counts.get(String(run[3])) ?? new Map<string, number>();
    counts.set(String(run[3]), of.set(sizes.join(), (of.get(sizes.join()) ?? 0) + 1));
  }
  for (const [name, scope] of Object.entries(AUTHORS_SCOPES)) {
    const of = counts.get(MODELS[name as AuthorsModel])!;
    const { globalSize, localSize, maxSpans, spanSize, topK } = scope;
    const runs = of.get([globalSize, localSize, maxSpans, spanSize].join());
    equal(runs, Math.max(...of.values()), name);
    equal(topK, 4);
  }
});

test("the paper's scope for 8192 tokens is the one that is fitted to them", () => {
  deepEqual(AUTHORS_SCOPES["Llama-3-8B"], fitScope(8192));
  ok(scopeBound(AUTHORS_SCOPES["Llama-2-7B"], 512) <= 4096);
  equal(scopeBound(AUTHORS_SCOPES["Llama-3.1-8B"], 512), 32 + 256 * 32 + 8192);
});

test("a sliding window is the last tokens, at their true positions", () => {
  const scope = slidingWindow(48);
  deepEqual(planScope(scope, 100, 1), { globalEnd: 0, localStart: 52, length: 100 });
  equal(scope.positions, "sequence");
  equal(scopeBound(scope, 1), 48);
});
