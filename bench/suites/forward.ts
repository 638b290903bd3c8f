/**
 * Whole steps of the embedded model, and where their time goes.
 *
 * @module
 */

import { loadModel } from "../../mod.ts";
import { fitScope } from "../../src/reattention/scope.ts";
import type { Contestant } from "../support/contest.ts";
import { profiled } from "../support/profile.ts";
import {
  matmulOperations,
  profileStep,
  readTokens,
  type Step,
  stepContestant,
} from "../support/steps.ts";
import {
  type Contest,
  type Figure,
  ONE_THREAD,
  openMachines,
  type Settings,
} from "../support/suite.ts";

/** Tokens read before each step. */
const LENGTH = 4096;

const CASES: readonly (Omit<Step, "scope"> & { readonly name: string })[] = [
  { name: "64 tokens, read", tokens: 64, selects: false, wantsLogits: false },
  { name: "64 tokens, selecting", tokens: 64, selects: true, wantsLogits: false },
  { name: "1 token, selecting, and its logits", tokens: 1, selects: true, wantsLogits: true },
];

/** The group `forward`. */
export async function* forwardSuite(settings: Settings): AsyncGenerator<Contest | Figure> {
  for (const threads of settings.threads) {
    using machines = await openMachines(threads);
    const watched = profiled(machines.ours);
    using model = await loadModel(undefined, { backend: machines.ours });
    using watchedModel = await loadModel(undefined, { backend: watched.backend });
    using singleModel = machines.single &&
      await loadModel(undefined, { backend: machines.single });
    const scope = model.profile?.scope ?? fitScope(model.config.trainedLength);
    using read = await readTokens(model, LENGTH, scope);
    using watchedRead = await readTokens(watchedModel, LENGTH, scope);
    using singleRead = singleModel && await readTokens(singleModel, LENGTH, scope);
    for (const { name: caseName, ...rest } of CASES) {
      const name = `forward/pocket after ${LENGTH} tokens/${caseName}`;
      if (!settings.wants(name)) continue;
      const step: Step = { ...rest, scope };
      const peers: Contestant[] = singleRead ? [stepContestant(singleRead, step, ONE_THREAD)] : [];
      yield {
        name,
        threads,
        unit: "tokens/s",
        work: step.tokens,
        limit: { name: "fma", work: matmulOperations(model.config, step) },
        ours: stepContestant(read, step, "reattention"),
        peers,
      };
      const contestant = stepContestant(watchedRead, step, "profiled");
      yield* await profileStep(watched, contestant, name, threads);
      await contestant.dispose?.();
    }
  }
}
