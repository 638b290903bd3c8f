/**
 * What people hear while a model comes: from the hub, then into memory.
 *
 * @module
 */

import type { HubAccess, LoadProgress } from "../hub/access.ts";
import type { TextOutput } from "../system/system.ts";
import { formatBytes, formatSeconds } from "./format.ts";
import { createProgress, type Progress } from "./progress.ts";

/** Seconds between two looks of the line on a terminal. */
const OFTEN = 0.1;
/** Seconds between two lines elsewhere. */
const SPARSE = 30;
/** Seconds over which a rate is counted. */
const WINDOW = 10;

/** What to hand to whoever loads. */
export interface LoadingReport extends Required<Pick<HubAccess, "onProgress" | "onNotice">> {
  /** Takes the line away, says what was downloaded, and waits until all of that is written. */
  end(): Promise<void>;
}

/**
 * Reports on a terminal in a line that is rewritten, elsewhere in a line now and then; of what is
 * read from the disk only on a terminal.
 *
 * @param name What is loaded.
 * @param wanted False says nothing.
 * @param now Milliseconds; for tests.
 */
export function reportLoading(
  name: string,
  output: TextOutput,
  wanted = true,
  now: () => number = () => performance.now(),
): LoadingReport {
  const progress: Progress = createProgress(output, wanted, now);
  let written: Promise<void> = Promise.resolve();
  const then = (act: () => Promise<void>) => {
    written = written.then(act);
  };
  const say = (line: string) => {
    if (!wanted) return;
    then(() => progress.clear());
    then(() => output.write(`${line}\n`));
  };
  let phase: LoadProgress["phase"] | null = null;
  let rate = createRate();
  let began = 0;
  let toldAt = -Infinity;
  let downloaded = 0;
  then(() => progress.show(() => `loading ${name}`));
  return {
    onProgress(event) {
      const time = now() / 1000;
      if (event.phase !== phase) {
        if (event.phase === "download" && downloaded === 0) began = time;
        if (event.phase === "download" || event.phase === "read") rate = createRate();
        if (phase !== "check") toldAt = -Infinity;
        phase = event.phase;
      }
      if (phase === "download") downloaded = event.newBytes;
      rate.add(time, event.newBytes);
      if (time - toldAt < (output.isTerminal ? OFTEN : SPARSE)) return;
      toldAt = time;
      const line = describeProgress(event, rate.perSecond());
      if (output.isTerminal) then(() => progress.show(() => line));
      else if (phase === "download" || phase === "wait") say(line);
    },
    onNotice(notice) {
      say(`note: ${notice}`);
    },
    async end() {
      then(() => progress.clear());
      if (downloaded > 0) {
        const seconds = now() / 1000 - began;
        say(`downloaded ${formatBytes(downloaded)} in ${formatSeconds(seconds)}`);
      }
      await written;
    },
  };
}

const VERBS: Readonly<Record<LoadProgress["phase"], string>> = {
  wait: "waiting for another process that downloads",
  check: "checking what is there of",
  download: "downloading",
  read: "loading",
};

/** `downloading model.gguf  1.21 GB of 4.92 GB  35.2 MB/s  1 min 45 s left` */
export function describeProgress(
  { phase, file, loadedBytes, totalBytes }: LoadProgress,
  bytesPerSecond: number,
): string {
  const parts = [`${VERBS[phase]} ${file}`];
  if (phase !== "wait") parts.push(`${formatBytes(loadedBytes)} of ${formatBytes(totalBytes)}`);
  if (bytesPerSecond > 0) {
    parts.push(`${formatBytes(Math.round(bytesPerSecond))}/s`);
    const seconds = Math.max(0, totalBytes - loadedBytes) / bytesPerSecond;
    parts.push(`${formatSeconds(Math.round(seconds)).replace(/\.\d+/, "")} left`);
  }
  return parts.join("  ");
}

/** Bytes a second over the last {@linkcode WINDOW} seconds. */
function createRate(): { add(time: number, bytes: number): void; perSecond(): number } {
  const samples: { readonly time: number; bytes: number }[] = [];
  let latest = { time: 0, bytes: 0 };
  return {
    add(time, bytes) {
      latest = { time, bytes };
      // Four a second are enough.
      if (time - (samples.at(-1)?.time ?? -1) < 0.25) return;
      samples.push(latest);
      while (samples.length > 2 && time - samples[0]!.time > WINDOW) samples.shift();
    },
    perSecond() {
      const first = samples[0];
      if (first === undefined || latest.time - first.time < 0.5) return 0;
      return (latest.bytes - first.bytes) / (latest.time - first.time);
    },
  };
}
