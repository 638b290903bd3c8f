/**
 * The ways to read that evaluations compare, by name.
 *
 * | name | reads |
 * |---|---|
 * | `reattention` | global, selected and local tokens, by the session's rules |
 * | `reattention:NAME…` | the same with other rules, e.g. `reattention:blockmax:kvHead` |
 * | `window` | global and local tokens alone, as many in all as `reattention` (StreamingLLM) |
 * | `full` | everything before, at true positions: ordinary attention |
 * | `dynamic-ntk`, `dynamic-ntk:FACTOR` | everything, the rotary base growing with the length |
 *
 * @module
 */

import type { Model } from "../llama/load.ts";
import { resolveSelectLayers } from "../llama/select_layers.ts";
import type { SessionOptions } from "../llama/session_options.ts";
import { createRope, type Rope } from "../reattention/rope.ts";
import { FULL_ATTENTION, type ScopeConfig } from "../reattention/scope.ts";

/** A way to read. */
export interface Method {
  readonly name: string;
  readonly scope: ScopeConfig;
  /** Tokens read at once. */
  readonly stepSize: number;
  readonly select: "always" | "ask" | "never";
  readonly selectLayers: readonly number[];
  /** In the place of the model's own. */
  readonly rope?: Rope;
}

/** What `reattention:` may be followed by. */
const RULES: Readonly<Record<string, Partial<ScopeConfig>>> = {
  exact: { selector: "exact" },
  blockmax: { selector: "blockmax" },
  layer: { sharing: "layer" },
  kvHead: { sharing: "kvHead" },
  count: { votes: "count", voteEvery: 1 },
  margin: { votes: "margin" },
  qk: { scores: "qk" },
  qkv1: { scores: "qkv1" },
  qkv2: { scores: "qkv2" },
};
/** Rules that are none of the scope's. */
const MANNERS = ["ask", "always", "all-layers"] as const;

/** What may be named, for messages and help. */
export const METHODS_HELP: string = `reattention, reattention:RULE (RULE is ${
  [...Object.keys(RULES), ...MANNERS].join(", ")
}; there may be several), window, full, dynamic-ntk, dynamic-ntk:FACTOR`;

/** By how much dynamic NTK stretches where nobody says: as the authors' runs with it. */
const NTK_FACTOR = 4;

/**
 * A method of a model.
 *
 * @param options The rules that `reattention` has.
 * @throws {RangeError} If there is no such method, or a rule does not fit the model.
 */
export function resolveMethod(name: string, model: Model, options: SessionOptions = {}): Method {
  const [kind, ...rules] = name.split(":");
  const fail = (found: string): never => {
    throw new RangeError(
      `Cannot evaluate by "${name}": a method must be ${METHODS_HELP}; ${found}`,
    );
  };
  // Opened for its rules: what it fills in and what it refuses.
  const rulesOf = (options: SessionOptions): Method => {
    using session = model.session(options);
    const { scope, stepSize, select, selectLayers } = session;
    return { name, scope, stepSize, select, selectLayers };
  };
  if (kind === "reattention") {
    const { numLayers } = model.config;
    let changed = options;
    for (const rule of rules) {
      const scope = RULES[rule];
      if (scope !== undefined) changed = { ...changed, scope: { ...changed.scope, ...scope } };
      else if (rule === "ask" || rule === "always") changed = { ...changed, select: rule };
      else if (rule === "all-layers") {
        changed = { ...changed, selectLayers: resolveSelectLayers("all", numLayers) };
      } else fail(`got the rule "${rule}"`);
    }
    // A scope that is given has no step of the profile's; the same scope but for a rule has.
    const stepSize = changed.scope === undefined ? {} : { stepSize: rulesOf(options).stepSize };
    const method = rulesOf({ ...stepSize, ...changed });
    if (method.scope.topK === 0 || method.scope.globalSize === Infinity) {
      fail(
        `got a scope with ${method.scope.topK} picks, which selects nothing or reads everything`,
      );
    }
    return method;
  }
  if (kind === "window" && rules.length === 0) {
    const { scope, stepSize } = rulesOf(options);
    const localSize = scope.localSize + scope.maxSpans * scope.spanSize;
    return rulesOf({
      ...options,
      scope: { ...scope, topK: 0, localSize },
      stepSize,
      select: "never",
    });
  }
  if (kind === "full" && rules.length === 0) return { ...rulesOf(fullOptions(options)), name };
  if (kind === "dynamic-ntk" && rules.length <= 1) {
    const factor = rules.length === 0 ? NTK_FACTOR : Number(rules[0]);
    if (!(factor >= 1)) fail(`its factor must be a number of at least 1, got "${rules[0]}"`);
    const { ropeTheta, headDim, trainedLength } = model.config;
    return {
      ...rulesOf(fullOptions(options)),
      rope: createRope(ropeTheta, headDim, {
        type: "dynamic",
        factor,
        originalLength: trainedLength,
      }),
    };
  }
  return fail(`got "${name}"`);
}

function fullOptions({ kvFormat }: SessionOptions): SessionOptions {
  return {
    scope: FULL_ATTENTION,
    select: "never",
    beyondTrainedLength: true,
    ...(kvFormat === undefined ? {} : { kvFormat }),
  };
}
