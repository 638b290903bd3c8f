/**
 * The rules that a session reads by, and that they let attention read no more than the model was trained on.
 *
 * @module
 */

import { fitScope, resolveScope, scopeBound } from "../reattention/scope.ts";
import { resolveSelectLayers } from "./select_layers.ts";
import type { SavedRules } from "./session_header.ts";
import type { SessionModel } from "./session_model.ts";
import { defaultStepSize, type SessionOptions } from "./session_options.ts";

/** How a session reads. */
export interface SessionRules
  extends Pick<SavedRules, "scope" | "stepSize" | "select" | "selectLayers"> {
  /** The most tokens that a call may read; `Infinity` for baselines, which may break the model. */
  readonly longestScope: number;
}

/**
 * The rules that options mean.
 *
 * @throws {TypeError} If `select` is none of its values.
 * @throws {RangeError} If a size is out of range, or the scope would not fit.
 */
export function resolveRules(
  { llama: { config }, profile }: Pick<SessionModel, "llama" | "profile">,
  options: SessionOptions,
): SessionRules {
  const scope = resolveScope(
    options.scope ?? {},
    profile?.scope ?? fitScope(config.trainedLength),
  );
  const select = options.select ?? "ask";
  if (!["always", "ask", "never"].includes(select)) {
    throw new TypeError(
      `Cannot open a session: select must be one of always, ask, never, got "${select}"`,
    );
  }
  const selectLayers = resolveSelectLayers(
    options.selectLayers ?? profile?.selectLayers ?? "all",
    config.numLayers,
  );
  const stepSize = options.stepSize ?? (options.scope ? undefined : profile?.stepSize) ??
    defaultStepSize(scope, config.trainedLength);
  if (!Number.isSafeInteger(stepSize) || stepSize < 1) {
    throw new RangeError(
      `Cannot open a session: stepSize must be at least 1 token, got ${stepSize}`,
    );
  }
  const longestScope = options.beyondTrainedLength ? Infinity : config.trainedLength;
  const rules = { scope, stepSize, select, selectLayers, longestScope };
  checkQueries(rules, stepSize, "Cannot open a session");
  return rules;
}

/**
 * Refuses new tokens that would not fit the scope, where its size is known.
 *
 * @throws {RangeError} If they do not fit; begins with `attempt`.
 */
export function checkQueries(rules: SessionRules, queries: number, attempt: string): void {
  const bound = scopeBound(rules.scope, queries, rules.select !== "never");
  if (bound !== Infinity) checkBound(rules, bound, attempt);
}

/**
 * Refuses an attention call that could read more tokens than the model was trained on.
 *
 * @throws {RangeError} If it could; begins with `attempt`, and says what would fit.
 */
export function checkBound(
  { scope, stepSize, select, longestScope }: SessionRules,
  bound: number,
  attempt: string,
): void {
  if (bound <= longestScope) return;
  const { globalSize, localSize, topK, maxSpans, spanSize } = scope;
  const spans = topK > 0 && select !== "never" ? maxSpans * spanSize : 0;
  const room = longestScope - globalSize - spans;
  const advice = room > 0
    ? `beside ${globalSize} global and ${spans} selected tokens, the local region (${localSize}), a ` +
      `step (${stepSize}) and a question may have at most ${room}`
    : `${globalSize} global and ${spans} selected tokens leave no room for local ones`;
  throw new RangeError(
    `${attempt}: attention must read at most the trained length of ${longestScope} tokens at ` +
      `once, got ${bound}; ${advice}`,
  );
}
