/**
 * What a command may hold in memory, what becomes of the rest, and how people hear of it.
 *
 * @module
 */

import { type Command, InvalidArgumentError, Option } from "commander";
import type { TokenRange } from "../backend/backend.ts";
import type { LoadOptions } from "../llama/load.ts";
import type { SessionOptions, SessionStats } from "../llama/session_options.ts";
import { formatBytes, formatCount, plural } from "./format.ts";

/** What the cache may hold. */
export interface MemorySettings {
  /** Of the cache, in bytes; undefined: as much as there is. */
  readonly cacheBytes?: number;
  /** A folder for what no longer fits. */
  readonly spill?: string;
  readonly forget?: "oldest";
}

/** Adds the options of {@linkcode MemorySettings} to a command. */
export function withMemory(command: Command): Command {
  return command
    .optionsGroup("Memory (sizes are bytes; K, M and G are powers of 1024):")
    .addOption(
      new Option("--cache-bytes <size>", "memory of the cache, at most; default: all there is")
        .argParser(parseBytes),
    )
    .option("--spill <dir>", "a folder for a file that takes old tokens' values, half of the cache")
    .addOption(
      new Option("--forget <which>", "tokens to forget when nothing fits any more; default: fail")
        .choices(["oldest"]),
    );
}

/** Adds what all memory together may be. */
export function withMemoryLimit(command: Command): Command {
  return command.addOption(
    new Option(
      "--memory-limit <size>",
      "memory for weights and cache, such as 6G; default: 3/4 of what is available, or 4G",
    ).argParser(parseBytes),
  );
}

/** The options that were given. */
export function toMemorySettings(options: Record<string, unknown>): MemorySettings {
  return {
    cacheBytes: options.cacheBytes as number | undefined,
    spill: options.spill as string | undefined,
    forget: options.forget as MemorySettings["forget"],
  };
}

/** The same for a session. */
export function memoryOptions(
  { cacheBytes, spill, forget }: MemorySettings,
): Pick<SessionOptions, "cacheBytes" | "spill" | "forget"> {
  return {
    ...(cacheBytes === undefined ? {} : { cacheBytes }),
    ...(spill === undefined ? {} : { spill }),
    ...(forget === undefined ? {} : { forget }),
  };
}

/** How a command loads its model. */
export function loadOptions(
  { backend, threads, memoryLimit, allowSoftware }: Pick<
    LoadOptions,
    "backend" | "threads" | "memoryLimit" | "allowSoftware"
  >,
): LoadOptions {
  return {
    ...(backend === undefined ? {} : { backend }),
    ...(threads === undefined ? {} : { threads }),
    ...(memoryLimit === undefined ? {} : { memoryLimit }),
    ...(allowSoftware === true ? { allowSoftware } : {}),
  };
}

/**
 * `500000`, `512M`, `2.5G`; units are powers of 1024.
 *
 * @throws {InvalidArgumentError} If it is not a size.
 */
export function parseBytes(text: string): number {
  const match = /^(\d[\d_]*(?:\.\d+)?)([kKmMgG]?)$/.exec(text);
  const power = "KMG".indexOf(match?.[2]?.toUpperCase() || "-") + 1;
  const value = match ? Math.floor(Number(match[1]!.replaceAll("_", "")) * 1024 ** power) : NaN;
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new InvalidArgumentError("It must be a number of bytes, such as 500M or 2G.");
  }
  return value;
}

/** What is said the first time that tokens are forgotten. */
export function forgetNotice(forgotten: readonly TokenRange[]): string {
  return `note: forgot tokens ${
    nameRanges(forgotten)
  }, since the cache may not grow; those that follow ` +
    "them go as room is needed";
}

/** What is said when memory is more than the engine's garbage collector copes with. */
export function collectingNotice(calmBytes: number): string {
  return `note: V8 collects garbage all the while now that there are more than ${
    formatBytes(calmBytes)
  } of memory; deno run --v8-flags=--max-old-space-size=65536 … reads faster`;
}

/** Lines of a summary about tokens that are not in memory; none if all are. */
export function describeAbsent(
  { spilledTokens, forgottenTokens, forgotten }: SessionStats,
): string[] {
  return [
    ...spilledTokens === 0 ? [] : [`spilled ${plural(spilledTokens, "token")}, their keys stayed`],
    ...forgottenTokens === 0
      ? []
      : [`forgot  ${plural(forgottenTokens, "token")}: ${nameRanges(forgotten)}`],
  ];
}

/** `[256, 5,120)` */
function nameRanges(ranges: readonly TokenRange[]): string {
  return ranges.map(({ start, end }) => `[${formatCount(start)}, ${formatCount(end)})`).join(", ");
}
