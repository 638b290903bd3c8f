/**
 * Results as lines of JSON, as a table to watch, and as Markdown to keep.
 *
 * @module
 */

import { type Contestant, median, type Samples } from "./contest.ts";
import type { Limits } from "./limits.ts";
import type { Machine } from "./machine.ts";
import type { Contest, Figure } from "./suite.ts";

/** One result beside one peer; a contest with three peers is three lines. */
export interface Line {
  readonly name: string;
  readonly runtime: string;
  readonly threads: number;
  readonly value: number;
  readonly unit: string;
  /** Of the multiply-add peak or the read bandwidth, whichever it is held against. */
  readonly percentOfLimit: number | null;
  readonly peer: string | null;
  /** How many times the peer's rate. */
  readonly ratio: number | null;
}

/** What came out of a contest. Rates and shares are medians; see contest.ts. */
export interface Result {
  readonly name: string;
  /** Where it ran, if not in the runtime of the benchmark. */
  readonly runtime?: string;
  readonly threads: number;
  readonly value: number;
  readonly unit: string;
  readonly share?: Figure["share"];
  readonly limit: { readonly name: string; readonly percent: number } | null;
  readonly peers: readonly {
    readonly name: string;
    readonly value: number;
    readonly ratio: number;
  }[];
}

/** Evaluates a contest in which the limit took part. */
export function evaluate(
  contest: Contest,
  samples: Samples,
  limit: { readonly contestant: Contestant; readonly limits: Limits } | null,
): Result {
  const ours = samples.get(contest.ours)!;
  /** Medians of `of(our seconds, the other's seconds)` over the rounds. */
  const paired = (other: Contestant, of: (ours: number, other: number) => number) =>
    median(samples.get(other)!.map((seconds, round) => of(ours[round]!, seconds)));
  const limitName = contest.limit?.name;
  return {
    name: contest.name,
    ...contest.runtime === undefined ? {} : { runtime: contest.runtime },
    threads: contest.threads,
    value: median(ours.map((seconds) => contest.work / seconds)),
    unit: contest.unit,
    limit: limit && contest.limit && {
      name: limitName === "fma" ? "of peak" : "of read",
      percent: 100 * contest.limit.work /
        limit.limits.work(contest.limit.name) *
        paired(limit.contestant, (mine, other) => other / mine),
    },
    peers: contest.peers.map((peer) => ({
      name: peer.name,
      value: median(samples.get(peer)!.map((seconds) => contest.work / seconds)),
      ratio: paired(peer, (mine, other) => other / mine),
    })),
  };
}

/** A figure as a result without limit and peers. */
export function resultOf(figure: Figure): Result {
  return { ...figure, limit: null, peers: [] };
}

/** A result's lines. */
export function linesOf(result: Result, runtime: string): Line[] {
  const { name, threads, unit } = result;
  const value = rounded(result.value);
  const percentOfLimit = result.limit && rounded(result.limit.percent);
  const line = { name, runtime: result.runtime ?? runtime, threads, value, unit, percentOfLimit };
  if (result.peers.length === 0) return [{ ...line, peer: null, ratio: null }];
  return result.peers.map((peer) => ({ ...line, peer: peer.name, ratio: rounded(peer.ratio) }));
}

/** Four significant digits: more is noise. */
function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

/** A value for people. */
function show(value: number): string {
  return Math.abs(value) >= 1000
    ? Math.round(value).toLocaleString("en-US")
    : value.toFixed(Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2);
}

/** What stands above the results. */
export function header(machine: Machine, command: string): string[] {
  return [
    `${machine.hardware}`,
    `${machine.runtime} (${machine.versions}), commit ${machine.commit}`,
    command,
  ];
}

/** A result as a line of a table, its peers below it. */
export function tableRow(result: Result): string {
  const { name, threads, value, unit, limit, peers, share } = result;
  const column = share ? `    ${share.part}` : name;
  const row = [
    column.padEnd(60),
    share ? "  " : `${threads}t`,
    `${show(value).padStart(9)} ${unit.padEnd(8)}`,
    limit ? `${show(limit.percent)} % ${limit.name}` : "",
  ].join(" ");
  return [
    row.trimEnd(),
    ...peers.map((peer) =>
      `${" ".repeat(63)}${show(peer.value).padStart(9)} ${unit.padEnd(8)} ` +
      `x ${peer.ratio.toFixed(2).padEnd(6)} ${peer.name}`
    ),
  ].join("\n");
}

/** A whole run in Markdown. */
export function markdown(
  header: readonly string[],
  results: readonly Result[],
  notices: readonly string[],
): string[] {
  const [where, version, command] = header;
  const shares = results.filter((result) => result.share);
  return [
    `## ${version}`,
    "",
    `${where}; \`${command}\``,
    "",
    ...rateTable(results.filter((result) => !result.share)),
    ...shares.length === 0 ? [] : ["", "Where a step's time goes, in percent:", ""],
    ...shareTable(shares),
    ...notices.length === 0 ? [] : ["", "Left out:", ""],
    ...notices.map((text) => `- ${text}`),
    "",
  ];
}

function rateTable(results: readonly Result[]): string[] {
  return table(
    ["what", "threads", "result", "of the limit", "times what others reach"],
    results.map(({ name, threads, value, unit, limit, peers, runtime }) => [
      runtime === undefined ? name : `${name} (${runtime})`,
      String(threads),
      `${show(value)} ${unit}`,
      limit ? `${show(limit.percent)} % ${limit.name}` : "",
      peers.map((peer) => `**${peer.ratio.toFixed(2)} x** ${peer.name} (${show(peer.value)})`)
        .join("<br>"),
    ]),
  );
}

/** A row for each whole, a column for each part that is above 1 % of one of them. */
function shareTable(results: readonly Result[]): string[] {
  if (results.length === 0) return [];
  const parts = new Set(results.filter(({ value }) => value > 1).map(({ share }) => share!.part));
  const wholes = new Map<string, Result[]>();
  for (const result of results) {
    const key = `${result.share!.of}, ${result.threads}`;
    wholes.set(key, [...wholes.get(key) ?? [], result]);
  }
  return table(
    ["step", "threads", ...parts],
    [...wholes.values()].map((shares) => [
      shares[0]!.share!.of,
      String(shares[0]!.threads),
      ...Array.from(parts, (part) => {
        return shares.find(({ share }) => share!.part === part)?.value.toFixed(1) ?? "";
      }),
    ]),
  );
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`);
}
