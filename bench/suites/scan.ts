/**
 * The search of the whole cache for each query's best keys: what selection costs.
 *
 * @module
 */

import type { Backend, KvFormat, Selection } from "../../src/backend/backend.ts";
import { fitScope, type ScopeConfig } from "../../src/reattention/scope.ts";
import { openOrtNode, openOrtWeb } from "../peers/ort.ts";
import { ortScan } from "../peers/ort_scan.ts";
import type { Contestant } from "../support/contest.ts";
import { storeOf } from "../support/keys.ts";
import {
  bestKeys,
  sampledQueries,
  type ScanProblem,
  scanProblem,
} from "../support/scan_problem.ts";
import { type Contest, ONE_THREAD, openMachines, type Settings } from "../support/suite.ts";

interface Case {
  readonly keys: number;
  readonly headDim: number;
  /** Of one KV head. */
  readonly queries: readonly number[];
  readonly topK: number;
  readonly format: KvFormat;
  /** Whether it is too large for peers. */
  readonly alone?: boolean;
}

const CASES: readonly Case[] = [
  { keys: 65_536, headDim: 128, queries: [8, 64], topK: 8, format: "f32" },
  { keys: 65_536, headDim: 128, queries: [8, 64, 512], topK: 8, format: "i16" },
  { keys: 65_536, headDim: 64, queries: [64], topK: 4, format: "i16" },
  { keys: 262_144, headDim: 64, queries: [64], topK: 4, format: "i16" },
  { keys: 1_048_576, headDim: 64, queries: [8], topK: 4, format: "i16" },
  { keys: 1_048_576, headDim: 128, queries: [1], topK: 8, format: "i16", alone: true },
];

/** The group `scan`. */
export async function* scanSuite(settings: Settings): AsyncGenerator<Contest> {
  for (const threads of settings.threads) {
    using machines = await openMachines(threads);
    for (const { keys, headDim, queries: counts, topK, format, alone } of CASES) {
      for (const queries of counts) {
        const name = `scan/${format}/${keys >> 10}K keys of ${headDim}/` +
          `${queries} ${queries === 1 ? "query" : "queries"}, top ${topK}`;
        if (!settings.wants(name)) continue;
        const problem = scanProblem(keys, headDim, queries, topK);
        const operations = 2 * queries * keys * headDim;
        // One query does little with each key that it reads: a byte a number, and a scale.
        const bytes = keys * (headDim + 4);
        yield {
          name,
          threads,
          unit: queries === 1 ? "GB/s" : "GFLOPS",
          work: (queries === 1 ? bytes : operations) / 1e9,
          limit: queries === 1 ? { name: "read", work: bytes } : { name: "fma", work: operations },
          ours: oursOf(machines.ours, problem, format, "reattention"),
          peers: [
            ...machines.single ? [oursOf(machines.single, problem, format, ONE_THREAD)] : [],
            ...settings.peers && !alone ? await peersOf(problem, threads) : [],
          ],
        };
      }
    }
  }
}

/** The verb `select`, votes and spans included, with the paper's sizes. */
function oursOf(
  backend: Backend,
  problem: ScanProblem,
  format: KvFormat,
  name: string,
): Contestant {
  const { keys, queries, topK } = problem;
  const store = storeOf(backend, keys, format);
  const rows = queries / keys.shape.numHeads;
  const query = backend.tensor(rows, keys.shape.numHeads * keys.shape.headDim);
  backend.write(query, problem.query);
  const scope = { globalEnd: 0, localStart: keys.tokens, length: keys.tokens };
  const config: ScopeConfig = { ...fitScope(8192), topK };
  const select = (config: ScopeConfig): Selection => backend.select(store, 0, query, scope, config);
  let selection: Selection | null = null;
  return {
    name,
    run() {
      selection = select(config);
    },
    async check() {
      const [tokens] = await selection!.tokens();
      const most = config.maxSpans * config.spanSize;
      if (!(tokens!.length > 0 && tokens!.length <= most)) {
        throw new Error(`1 to ${most} tokens must be selected, got ${tokens!.length}`);
      }
      // Every pick kept, and nothing but picks and the token before each.
      const [picks] = await select({ ...config, maxSpans: Infinity, spanSize: 2 }).tokens();
      const found = new Set(picks);
      for (const q of sampledQueries(problem)) {
        for (const { token, score } of bestKeys(problem, q)) {
          if (found.has(token)) continue;
          throw new Error(`query ${q} must pick key ${token}, whose score is ${score}`);
        }
      }
      if (found.size > 2 * queries * topK) {
        throw new Error(
          `at most ${queries * topK} keys must be picked, got about ${found.size / 2}`,
        );
      }
    },
    dispose() {
      store[Symbol.dispose]();
      query[Symbol.dispose]();
    },
  };
}

async function peersOf(problem: ScanProblem, threads: number): Promise<Contestant[]> {
  const peers: Contestant[] = [];
  for (const ort of [await openOrtWeb(), openOrtNode(threads)]) {
    if (ort !== null) peers.push(await ortScan(ort, problem));
  }
  return peers;
}
