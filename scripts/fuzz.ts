/**
 * Reads millions of damaged model files, and looks for what must not come of it: a crash, a hang, an
 * error that is the engine's and not ours, a table that is not true, a larger allocation than the
 * file justifies.
 *
 *     deno run -A scripts/fuzz.ts --inputs 10M --seed 1 --jobs 2
 *     bun scripts/fuzz.ts --inputs 1M
 *     deno run -A scripts/fuzz.ts --seed 1 --replay 1234567      # one input, with its error
 *     deno run -A scripts/fuzz.ts --bombs 64M                    # large files that ask for more memory
 *
 * An input is its seed's and its number's, whatever the runtime and the number of jobs, as long as the
 * line "seeds" is the same. Each block of inputs is read in a process of its own, so that one that
 * crashes or hangs is found and the next block goes on. `--state FILE` keeps what is done, and goes
 * on from there; `--seconds N` ends after the block that is being read then.
 */
import { spawn } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { fromBytes } from "../src/files/byte_source.ts";
import { peakMemoryBytes, runtimeName } from "../src/system/system.ts";
import { watchAllocations } from "../tests/support/fuzz/allocations.ts";
import { BOMBS } from "../tests/support/fuzz/bombs.ts";
import { examine, examineSource } from "../tests/support/fuzz/examine.ts";
import { inputsOf } from "../tests/support/fuzz/inputs.ts";
import { allSeeds, seedsFingerprint } from "../tests/support/fuzz/seeds.ts";

/** Inputs that a process reads. */
const BLOCK = 50_000;
/** Inputs after which it says how far it is. */
const REPORT = 5_000;
/** Without a report for so long, it hangs. */
const HANGS_AFTER_SECONDS = 120;
/** Faults that are kept; more of them say nothing more. */
const MAX_FAULTS = 100;

/** What was found, of a block or of all. */
interface Totals {
  inputs: number;
  accepted: number;
  /** Seconds of reading, of all processes together. */
  seconds: number;
  /** Of one input, in bytes, and that over the size of its files. */
  largestAllocation: number;
  largestShare: number;
  slowestMilliseconds: number;
  /** Of a process. */
  peakMemoryBytes: number;
  faults: { index: number; seed: string; fault: string }[];
}

const NOTHING: Readonly<Totals> = {
  inputs: 0,
  accepted: 0,
  seconds: 0,
  largestAllocation: 0,
  largestShare: 0,
  slowestMilliseconds: 0,
  peakMemoryBytes: 0,
  faults: [],
};

function add(a: Totals, b: Totals): Totals {
  return {
    inputs: a.inputs + b.inputs,
    accepted: a.accepted + b.accepted,
    seconds: a.seconds + b.seconds,
    largestAllocation: Math.max(a.largestAllocation, b.largestAllocation),
    largestShare: Math.max(a.largestShare, b.largestShare),
    slowestMilliseconds: Math.max(a.slowestMilliseconds, b.slowestMilliseconds),
    peakMemoryBytes: Math.max(a.peakMemoryBytes, b.peakMemoryBytes),
    faults: [...a.faults, ...b.faults].slice(0, MAX_FAULTS),
  };
}

/** Reads inputs [start, end); tells how far it is every `report` of them. */
async function readInputs(seed: number, start: number, end: number, report: number): Promise<void> {
  // Millions of errors are made, and nobody looks where.
  Error.stackTraceLimit = 0;
  const inputs = inputsOf(allSeeds(), seed);
  using allocations = watchAllocations();
  let totals: Totals = { ...NOTHING };
  const began = performance.now();
  for (let index = start; index < end; index++) {
    const input = inputs.at(index);
    const verdict = await examine(input, allocations);
    const { accepted, fault, fileBytes, largest, milliseconds } = verdict;
    if (fault !== null) {
      const found = { index, seed: input.seed.name, fault: fault.slice(0, 2000) };
      totals = add(totals, { ...NOTHING, faults: [found] });
    }
    totals.inputs++;
    if (accepted) totals.accepted++;
    if (largest > totals.largestAllocation) totals.largestAllocation = largest;
    const share = largest / Math.max(1024, fileBytes);
    if (share > totals.largestShare) totals.largestShare = share;
    if (milliseconds > totals.slowestMilliseconds) totals.slowestMilliseconds = milliseconds;
    if ((index + 1 - start) % report === 0) console.log(JSON.stringify({ next: index + 1 }));
  }
  totals.seconds = (performance.now() - began) / 1000;
  totals.peakMemoryBytes = peakMemoryBytes();
  console.log(JSON.stringify({ totals }));
}

/** This script in a process of its own; says why it did not end well, or null. */
function inProcess(
  args: readonly string[],
  onLine: (line: string) => void,
): Promise<{ ended: string | null }> {
  const script = fileURLToPath(import.meta.url);
  const isDeno = "deno" in process.versions;
  const child = spawn(process.execPath, [...isDeno ? ["run", "-A"] : [], script, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let hangs = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      hangs = true;
      child.kill("SIGKILL");
    }, HANGS_AFTER_SECONDS * 1000);
  };
  wait();
  createInterface({ input: child.stdout }).on("line", (line) => {
    wait();
    onLine(line);
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      const ended = hangs
        ? `it hung for ${HANGS_AFTER_SECONDS} s`
        : code === 0
        ? null
        : `the process ended with ${signal ?? code}`;
      resolve({ ended });
    });
  });
}

/** Reads inputs in a process; says how far it came, and what it found if it came to its end. */
async function readInProcess(
  seed: number,
  start: number,
  end: number,
  report: number,
): Promise<{ next: number; totals: Totals | null; ended: string | null }> {
  let next = start;
  let totals: Totals | null = null;
  const { ended } = await inProcess(["--block", [seed, start, end, report].join()], (line) => {
    const said = JSON.parse(line) as { next?: number; totals?: Totals };
    next = said.next ?? next;
    totals = said.totals ?? totals;
  });
  return { next, totals, ended };
}

/** A block; where a process does not come to its end, the input at which it ended is a fault. */
async function readBlock(seed: number, start: number, end: number): Promise<Totals> {
  let totals: Totals = NOTHING;
  for (let from = start; from < end;) {
    const block = await readInProcess(seed, from, end, REPORT);
    if (block.totals !== null) return add(totals, block.totals);
    // Again, from the last report on, one by one.
    const slow = await readInProcess(seed, block.next, Math.min(end, block.next + REPORT), 1);
    const index = slow.next;
    const fault = slow.totals === null ? `${slow.ended}` : `${block.ended}, but not again`;
    const name = inputsOf(allSeeds(), seed).at(index).seed.name;
    totals = add(totals, {
      ...NOTHING,
      inputs: index + 1 - from,
      faults: [{ index, seed: name, fault }],
    });
    from = index + 1;
  }
  return totals;
}

/** Reads a large file of many small things; says what it took. */
async function readBomb(index: number, size: number): Promise<void> {
  const { name, reader, bytes } = BOMBS[index]!;
  const source = fromBytes(bytes(size), name);
  const before = peakMemoryBytes();
  const began = performance.now();
  const outcome = await examineSource(reader, source);
  const seconds = (performance.now() - began) / 1000;
  const taken = (peakMemoryBytes() - before) / 2 ** 20;
  console.log(
    `${name.padEnd(40)} ${Math.round(source.byteLength / 2 ** 20)} MiB, takes ` +
      `${Math.round(taken)} MiB more and ${seconds.toFixed(1)} s: ${outcome}`,
  );
}

/** What is kept between runs. */
interface State {
  readonly seed: number;
  readonly seeds: string;
  readonly runtime: string;
  /** Blocks that were read, by number. */
  readonly blocks: number[];
  readonly totals: Totals;
}

function count(text: string): number {
  const [, digits, unit] = /^(\d+)([KM]?)$/i.exec(text) ?? [];
  if (digits === undefined) {
    throw new TypeError(`Cannot fuzz: a count must be like 500, 20K or 10M, got "${text}"`);
  }
  return Number(digits) * { "": 1, K: 1e3, M: 1e6 }[unit!.toUpperCase() as "" | "K" | "M"];
}

async function fuzz(options: {
  readonly inputs: number;
  readonly seed: number;
  readonly jobs: number;
  readonly seconds: number;
  readonly state: string | undefined;
  readonly json: boolean;
}): Promise<void> {
  const { inputs, seed, jobs, state: path } = options;
  const seeds = allSeeds();
  const fresh: State = {
    seed,
    seeds: seedsFingerprint(seeds),
    runtime: runtimeName(),
    blocks: [],
    totals: NOTHING,
  };
  let state = fresh;
  if (path !== undefined && existsSync(path)) {
    state = JSON.parse(readFileSync(path, "utf8")) as State;
    for (const key of ["seed", "seeds", "runtime"] as const) {
      if (state[key] === fresh[key]) continue;
      throw new TypeError(
        `Cannot go on with "${path}": its ${key} must be ${fresh[key]}, got ${state[key]}`,
      );
    }
  }
  const say = (text: string) => options.json ? {} : console.error(text);
  say(`${fresh.runtime}, seed ${seed}, seeds ${fresh.seeds} (${seeds.length} files), ${jobs} jobs`);
  const done = new Set(state.blocks);
  const began = performance.now();
  let before = state.totals.inputs;
  let next = 0;
  const work = async () => {
    while ((performance.now() - began) / 1000 < options.seconds) {
      while (done.has(next)) next++;
      const block = next++;
      if (block * BLOCK >= inputs) return;
      const totals = await readBlock(seed, block * BLOCK, Math.min(inputs, (block + 1) * BLOCK));
      done.add(block);
      state = { ...state, blocks: [...done], totals: add(state.totals, totals) };
      if (path !== undefined) writeFileSync(path, JSON.stringify(state));
      const rate = (state.totals.inputs - before) / ((performance.now() - began) / 1000);
      say(
        `${state.totals.inputs.toLocaleString("en-US")} inputs, ` +
          `${Math.round(rate).toLocaleString("en-US")}/s, ${state.totals.faults.length} faults`,
      );
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
  const { totals } = state;
  before = totals.inputs - before;
  const perSecond = Math.round(before / ((performance.now() - began) / 1000));
  if (options.json) {
    console.log(JSON.stringify({ ...state, perSecond, isComplete: totals.inputs >= inputs }));
  } else {
    for (const { index, seed: name, fault } of totals.faults) {
      console.log(`\n--seed ${seed} --replay ${index} (${name}): ${fault}`);
    }
    const percent = (100 * totals.accepted / Math.max(1, totals.inputs)).toFixed(1);
    console.log(
      `${totals.inputs.toLocaleString("en-US")} inputs, ${percent} % of them accepted, ` +
        `${totals.faults.length} faults; the largest allocation ${totals.largestAllocation} bytes, ` +
        `${totals.largestShare.toFixed(2)} times its file; the slowest ` +
        `${totals.slowestMilliseconds.toFixed(1)} ms; a process took at most ` +
        `${Math.round(totals.peakMemoryBytes / 2 ** 20)} MiB; ${perSecond} inputs/s`,
    );
  }
  if (totals.faults.length > 0) process.exitCode = 1;
}

/** Reads one input, and shows it. */
async function replay(seed: number, index: number): Promise<void> {
  const { seed: { name, file }, damaged } = inputsOf(allSeeds(), seed).at(index);
  console.log(`${name}: ${file}, ${damaged.bytes.length} of ${damaged.byteLength} bytes`);
  for (let at = 0; at < damaged.bytes.length; at += 16) {
    const row = damaged.bytes.subarray(at, at + 16);
    const hex = Array.from(row, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = Array.from(
      row,
      (byte) => byte < 32 || byte > 126 ? "." : String.fromCharCode(byte),
    );
    console.log(`${String(at).padStart(6)}  ${hex.padEnd(48)} ${text.join("")}`);
  }
  using allocations = watchAllocations();
  const verdict = await examine(inputsOf(allSeeds(), seed).at(index), allocations);
  console.log(verdict);
  if (verdict.fault !== null) process.exitCode = 1;
}

/** A process for each, because none gives back what it took at most. */
async function readBombs(size: number): Promise<void> {
  for (const index of BOMBS.keys()) {
    const { ended } = await inProcess(["--bomb", `${index},${size}`], (line) => console.log(line));
    if (ended !== null) {
      console.log(`${BOMBS[index]!.name}: ${ended}`);
      process.exitCode = 1;
    }
  }
}

const { values } = parseArgs({
  options: {
    inputs: { type: "string", default: "1M" },
    seed: { type: "string", default: "1" },
    jobs: { type: "string", default: "2" },
    seconds: { type: "string", default: "Infinity" },
    state: { type: "string" },
    replay: { type: "string" },
    json: { type: "boolean", default: false },
    bombs: { type: "string" },
    block: { type: "string" },
    bomb: { type: "string" },
  },
});
if (values.block !== undefined) {
  await readInputs(...values.block.split(",").map(Number) as [number, number, number, number]);
} else if (values.bomb !== undefined) {
  await readBomb(...values.bomb.split(",").map(Number) as [number, number]);
} else if (values.bombs !== undefined) await readBombs(count(values.bombs));
else if (values.replay !== undefined) await replay(Number(values.seed), Number(values.replay));
else {
  await fuzz({
    inputs: count(values.inputs),
    seed: Number(values.seed),
    jobs: Number(values.jobs),
    seconds: Number(values.seconds),
    state: values.state,
    json: values.json,
  });
}
