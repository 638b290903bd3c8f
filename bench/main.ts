/**
 * Benchmarks: kernels at the shapes of real models, whole steps, streams, whole models; each against
 * the machine's limits and against what one would use instead, in the same run.
 *
 *     deno task bench                              # everything but whole models
 *     deno task bench --only matmul,scan --threads 1,2 --match q8_0
 *     deno task bench --only model --model Llama-3.2-1B:q8_0,Llama-3.2-1B:q4_0
 *     bun bench/main.ts --json                     # a line of JSON for each result and peer
 *     node bench/main.ts --markdown                # Node 24 or newer
 *
 * `--match a,b` runs what has all of these in its name, `--skip a,b` leaves out what has one of them,
 * `--no-peers` leaves the others out, `--rounds` and `--sample-ms` say how long it takes, `--models` where synthetic models are kept.
 *
 * Peers are no dependencies of the package: `deno run -A bench/install_peers.ts` brings them.
 */
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { compete, type Contestant, median } from "./support/contest.ts";
import type { LimitName } from "./support/limit_kernels.ts";
import { type Limits, openLimits } from "./support/limits.ts";
import { describeMachine } from "./support/machine.ts";
import { notice, notices, reasonOf } from "./support/notice.ts";
import {
  evaluate,
  header,
  linesOf,
  markdown,
  type Result,
  resultOf,
  tableRow,
} from "./support/report.ts";
import type { Contest, Settings, Suite } from "./support/suite.ts";
import { closeNumpy } from "./peers/numpy.ts";
import { attendSuite } from "./suites/attend.ts";
import { forwardSuite } from "./suites/forward.ts";
import { matmulSuite } from "./suites/matmul.ts";
import { modelSuite } from "./suites/model.ts";
import { scanSuite } from "./suites/scan.ts";
import { streamSuite } from "./suites/stream.ts";

const SUITES: Readonly<Record<string, Suite>> = {
  matmul: matmulSuite,
  scan: scanSuite,
  attend: attendSuite,
  forward: forwardSuite,
  stream: streamSuite,
  model: modelSuite,
};

/** What runs without --only: whole models take minutes and gigabytes. */
const DEFAULT_GROUPS = Object.keys(SUITES).filter((name) => name !== "model");

const { values: flags } = parseArgs({
  options: {
    only: { type: "string", default: DEFAULT_GROUPS.join() },
    match: { type: "string", default: "" },
    skip: { type: "string", default: "" },
    threads: { type: "string", default: "1" },
    rounds: { type: "string", default: "5" },
    "sample-ms": { type: "string", default: "20" },
    model: { type: "string", default: "Llama-3.2-1B:q8_0" },
    models: {
      type: "string",
      default: fileURLToPath(new URL("../.tools/models/", import.meta.url)),
    },
    "no-peers": { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    markdown: { type: "boolean", default: false },
  },
});
const list = (text: string) => text.split(",").map((part) => part.trim()).filter(Boolean);
const groups = list(flags.only);
const unknown = groups.find((group) => !(group in SUITES));
if (unknown !== undefined) {
  throw new RangeError(
    `Cannot run: --only must name some of ${Object.keys(SUITES).join(", ")}, got "${unknown}"`,
  );
}
const settings: Settings = {
  threads: list(flags.threads).map((text) => count("--threads", text)),
  peers: !flags["no-peers"],
  models: list(flags.model),
  modelFolder: flags.models,
  wants: (name) =>
    list(flags.match).every((part) => name.includes(part)) &&
    !list(flags.skip).some((part) => name.includes(part)),
};
const effort = {
  rounds: count("--rounds", flags.rounds),
  sampleSeconds: count("--sample-ms", flags["sample-ms"]) / 1000,
};

function count(flag: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new RangeError(`Cannot run: ${flag} must be a count of at least 1, got "${text}"`);
}

const machine = describeMachine();
const command = `${machine.runtime.split(" ")[0]} bench/main.ts ${process.argv.slice(2).join(" ")}`;
const quiet = flags.json || flags.markdown;
if (!quiet) console.log([...header(machine, command), ""].join("\n"));

const limits = new Map<number, Limits>();
const results: Result[] = [];

/** What the last line was a share of. */
let whole: string | undefined;

function tell(result: Result): void {
  results.push(result);
  if (flags.json) {
    for (const line of linesOf(result, machine.runtime)) {
      console.log(JSON.stringify(line));
    }
    return;
  }
  if (flags.markdown) return;
  if (result.share && result.share.of !== whole) console.log(`${result.share.of}: its parts`);
  whole = result.share?.of;
  console.log(tableRow(result));
}

async function hold(contest: Contest): Promise<Result> {
  try {
    const limit = contest.limit && await limitOf(contest.limit.name, contest.threads);
    const peers = await admit(contest.peers);
    const contestants = [contest.ours, ...peers, ...limit ? [limit.contestant] : []];
    const { rounds = Infinity } = contest;
    const samples = await compete(contestants, {
      rounds: Math.min(effort.rounds, rounds),
      // Where others take seconds, so short a look at the limit would say little about them.
      sampleSeconds: rounds === Infinity ? effort.sampleSeconds : 20 * effort.sampleSeconds,
      // A worker that had nothing to do for a second has gone, and needs some 50 ms to come back.
      settleSeconds: contest.threads > 1 ? 0.06 : 0,
    });
    return evaluate({ ...contest, peers }, samples, limit);
  } finally {
    for (const contestant of [contest.ours, ...contest.peers]) await contestant.dispose?.();
  }
}

async function limitOf(name: LimitName, threads: number) {
  let opened = limits.get(threads);
  if (opened === undefined) {
    opened = await openLimits(threads);
    limits.set(threads, opened);
  }
  return { limits: opened, contestant: opened.contestant(name) };
}

/** The peers that do the work, and do it right. */
async function admit(peers: readonly Contestant[]): Promise<Contestant[]> {
  const admitted: Contestant[] = [];
  for (const peer of peers) {
    try {
      await peer.run();
      await peer.check?.();
      admitted.push(peer);
    } catch (error) {
      notice(`${peer.name} is left out: ${reasonOf(error)}`);
    }
  }
  return admitted;
}

const LIMITS = [
  { name: "limits/128-bit multiply-adds", limit: "fma", unit: "GFLOPS" },
  { name: "limits/reads of memory", limit: "read", unit: "GB/s" },
] as const;

/** The limits alone, so that the table says what the shares are of; they are timed again with each. */
async function tellLimits(): Promise<void> {
  for (const threads of settings.threads) {
    for (const { name, limit, unit } of LIMITS) {
      const { limits, contestant } = await limitOf(limit, threads);
      const samples = await compete([contestant], { ...effort, settleSeconds: 0 });
      const seconds = median(samples.get(contestant)!);
      tell(resultOf({ name, threads, value: limits.work(limit) / 1e9 / seconds, unit }));
    }
  }
}

const began = performance.now();
let failed = false;
await tellLimits();
for (const group of groups) {
  try {
    for await (const item of SUITES[group]!(settings)) {
      try {
        tell("ours" in item ? await hold(item) : resultOf(item));
      } catch (error) {
        failed = true;
        notice(`${item.name} has no result: ${reasonOf(error)}`);
      }
    }
  } catch (error) {
    failed = true;
    notice(`${group} ended early: ${reasonOf(error)}`);
  }
}
for (const opened of limits.values()) await opened.close();
await closeNumpy();

if (flags.markdown) {
  console.log(markdown(header(machine, command), results, notices()).join("\n"));
} else if (!flags.json) {
  console.log(`\n${results.length} results in ${Math.round((performance.now() - began) / 1000)} s`);
}
if (failed) process.exitCode = 1;
