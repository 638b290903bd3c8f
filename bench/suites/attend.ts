/**
 * Attention over a scope of 8192 tokens, as the paper's models have it: gather, rotation, softmax,
 * weighted sum.
 *
 * @module
 */

import type { Backend, KvFormat, Selection } from "../../src/backend/backend.ts";
import { fitScope, planScope, type Scope } from "../../src/reattention/scope.ts";
import { openOrtNode, openOrtWeb } from "../peers/ort.ts";
import { ortAttend } from "../peers/ort_attend.ts";
import { type ShapeName, SHAPES } from "../shapes.ts";
import {
  attendOperations,
  type AttendProblem,
  attendProblem,
  checkAttend,
} from "../support/attend_problem.ts";
import type { Contestant } from "../support/contest.ts";
import { storeOf } from "../support/keys.ts";
import { type Contest, ONE_THREAD, openMachines, type Settings } from "../support/suite.ts";

interface Case {
  readonly shape: ShapeName;
  /** New tokens of the step. */
  readonly rows: readonly number[];
  readonly format: KvFormat;
}

const CASES: readonly Case[] = [
  { shape: "Llama-3.2-1B", rows: [1, 4, 64], format: "i16" },
  { shape: "Llama-3.1-8B", rows: [1, 64], format: "i16" },
  { shape: "Llama-3.1-8B", rows: [64], format: "f32" },
];

/** Tokens read before: twice a scope. */
const LENGTH = 16_384;

const CONFIG = fitScope(8192);

/** The group `attend`. */
export async function* attendSuite(settings: Settings): AsyncGenerator<Contest> {
  for (const threads of settings.threads) {
    using machines = await openMachines(threads);
    for (const { shape, rows: counts, format } of CASES) {
      for (const rows of counts) {
        const name = `attend/${format}/${shape}, scope of 8192/${rows} ${
          rows === 1 ? "token" : "tokens"
        }`;
        if (!settings.wants(name)) continue;
        const problem = attendProblem(SHAPES[shape], LENGTH + 1, rows);
        const ours = await oursOf(machines.ours, problem, format, "reattention");
        const single = machines.single &&
          await oursOf(machines.single, problem, format, ONE_THREAD);
        const operations = attendOperations(problem, ours.tokens.length);
        yield {
          name,
          threads,
          unit: "GFLOPS",
          work: operations / 1e9,
          limit: { name: "fma", work: operations },
          ours: ours.contestant,
          peers: [
            ...single ? [single.contestant] : [],
            ...settings.peers ? await peersOf(problem, ours.tokens, threads) : [],
          ],
        };
      }
    }
  }
}

/** The verb `attend` after one `select`, and the tokens in its scope. */
async function oursOf(
  backend: Backend,
  problem: AttendProblem,
  format: KvFormat,
  name: string,
): Promise<{ contestant: Contestant; tokens: Uint32Array }> {
  const { keys, rows, rope } = problem;
  const cols = keys.shape.numHeads * keys.shape.headDim;
  const store = storeOf(backend, keys, format);
  const query = backend.tensor(rows, cols);
  const out = backend.tensor(rows, cols);
  backend.write(query, problem.query);
  backend.write(out, new Float32Array(rows * cols).fill(NaN));
  const scope = planScope(CONFIG, LENGTH, rows);
  // As in a session the scope moves on with each call, so that nothing of the one before will do.
  const next: Scope = {
    globalEnd: scope.globalEnd,
    localStart: scope.localStart + 1,
    length: scope.length + 1,
  };
  const selection: Selection = backend.select(store, 0, query, scope, CONFIG);
  const [selected] = await selection.tokens();
  const tokens = Uint32Array.from([
    ...range(0, scope.globalEnd),
    ...selected!,
    ...range(scope.localStart, scope.length),
  ]);
  const attend = (scope: Scope) =>
    backend.attend(out, query, store, 0, scope, selection, rope, "scope");
  let isNext = false;
  return {
    tokens,
    contestant: {
      name,
      run() {
        isNext = !isNext;
        attend(isNext ? next : scope);
      },
      async check() {
        attend(scope);
        checkAttend(problem, await backend.read(out), tokens, true);
      },
      dispose() {
        for (const handle of [store, query, out]) handle[Symbol.dispose]();
      },
    },
  };
}

function range(start: number, end: number): number[] {
  return Array.from({ length: end - start }, (_, i) => start + i);
}

async function peersOf(
  problem: AttendProblem,
  tokens: Uint32Array,
  threads: number,
): Promise<Contestant[]> {
  const peers: Contestant[] = [];
  for (const ort of [await openOrtWeb(), openOrtNode(threads)]) {
    if (ort !== null) peers.push(await ortAttend(ort, problem, tokens));
  }
  return peers;
}
