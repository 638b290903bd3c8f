/**
 * Scopes that are someone's: those the authors of ReAttention measured, by model, and the window
 * that a model was trained with. For any other trained length there is {@linkcode fitScope}.
 *
 * @module
 */

import { FULL_ATTENTION, resolveScope, type ScopeConfig } from "./scope.ts";

/** The authors' sizes: 32 global tokens, 4 picks a query and head, spans of 32. */
function authors(localSize: number, maxSpans: number): ScopeConfig {
  const sizes = { globalSize: 32, localSize, topK: 4, maxSpans, spanSize: 32 };
  return resolveScope({ ...sizes, positions: "scope" }, FULL_ATTENTION);
}

/** 8192 tokens: the paper's. */
const NARROW = authors(4096, 127);
/** 16416 tokens, for models that were trained on more. */
const WIDE = authors(8192, 256);

/** Models that the authors ran, by their makers' names. */
export type AuthorsModel =
  | "Llama-2-7B"
  | "Llama-3-8B"
  | "Llama-3-8B-Instruct"
  | "Llama-3.1-8B"
  | "Llama-3.1-8B-Instruct"
  | "Llama-3.1-70B"
  | "Llama-3.1-70B-Instruct"
  | "Llama-3.2-3B-Instruct"
  | "Mistral-7B-v0.3"
  | "Mistral-7B-Instruct-v0.3"
  | "InternLM2-1.8B"
  | "InternLM2-7B"
  | "InternLM2.5-7B"
  | "InternLM2.5-7B-Chat"
  | "Qwen2-1.5B"
  | "Qwen2-1.5B-Instruct"
  | "Qwen2-7B"
  | "Qwen2-7B-Instruct"
  | "Qwen2-72B";

/**
 * The scope that the authors ran most often with a model: from the evaluation scripts beside Liu et
 * al. 2024 (arXiv 2407.15176), runs with 4 picks. Their steps are 512 tokens.
 *
 * @example Usage
 * ```ts
 * import { AUTHORS_SCOPES, scopeBound } from "../../mod.ts";
 * import { equal } from "node:assert/strict";
 *
 * equal(scopeBound(AUTHORS_SCOPES["Llama-3-8B"], 512), 8192);
 * // A model's session takes it as it is: model.session({ scope: AUTHORS_SCOPES["Qwen2-7B"] })
 * ```
 */
export const AUTHORS_SCOPES: Readonly<Record<AuthorsModel, ScopeConfig>> = {
  "Llama-2-7B": authors(2048, 48),
  "Llama-3-8B": NARROW,
  "Llama-3-8B-Instruct": NARROW,
  "Llama-3.1-8B": WIDE,
  "Llama-3.1-8B-Instruct": WIDE,
  "Llama-3.1-70B": WIDE,
  "Llama-3.1-70B-Instruct": NARROW,
  "Llama-3.2-3B-Instruct": NARROW,
  "Mistral-7B-v0.3": WIDE,
  "Mistral-7B-Instruct-v0.3": WIDE,
  "InternLM2-1.8B": WIDE,
  "InternLM2-7B": WIDE,
  "InternLM2.5-7B": WIDE,
  "InternLM2.5-7B-Chat": NARROW,
  "Qwen2-1.5B": WIDE,
  "Qwen2-1.5B-Instruct": WIDE,
  "Qwen2-7B": WIDE,
  "Qwen2-7B-Instruct": NARROW,
  "Qwen2-72B": WIDE,
};

/**
 * The attention of a model that was trained with a sliding window, for the baseline: the last
 * `window` tokens at their true positions. Exact where a step is one token; in a longer step its
 * first tokens see fewer before them, because a step has one local region.
 *
 * @param window Tokens, the new one included: `LlamaConfig.slidingWindow`.
 */
export function slidingWindow(window: number): ScopeConfig {
  return resolveScope(
    { globalSize: 0, localSize: window, positions: "sequence" },
    FULL_ATTENTION,
  );
}
