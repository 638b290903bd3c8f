/**
 * Options that commands have in common, and what their values must be.
 *
 * @module
 */

import { type Command, InvalidArgumentError, Option } from "commander";
import type { BackendName, KvFormat } from "../backend/backend.ts";
import type { SessionOptions } from "../llama/session_options.ts";
import type { ScopeConfig } from "../reattention/scope.ts";
import { withMemoryLimit } from "./memory.ts";

/** Which model, on which machine. */
export interface ModelSettings {
  /** A folder, a file, a URL, or a name on the hub; undefined is the embedded model. */
  readonly model?: string;
  readonly backend: BackendName | "auto";
  /** Undefined: as many as there are cores. */
  readonly threads?: number;
  /** Whether "webgpu" may be a program that acts as a GPU. */
  readonly allowSoftware?: boolean;
  /** Bytes. Undefined: three quarters of what is available. */
  readonly memoryLimit?: number;
}

/** How attention reads. */
export interface AttentionSettings {
  /** Only the fields that were given. */
  readonly scope: Partial<ScopeConfig>;
  readonly stepSize?: number;
  /** Undefined: `ask`, or as the loaded session did. */
  readonly select?: "always" | "ask" | "never";
  /** Undefined: as the model's profile says. */
  readonly selectLayers?: readonly number[] | "all";
  /** Undefined: `i16`, or as in the loaded session. */
  readonly cacheFormat?: KvFormat;
}

/** Wrong usage: exit status 2. */
export class UsageError extends Error {
  /** Always `"UsageError"`. */
  override readonly name = "UsageError";
}

/** A line of help. */
export const COUNTS_HELP = `Counts may end in K (1024) or M (1024 * 1024): --global 1K.`;

/** Adds the options of {@linkcode ModelSettings} to a command. */
export function withModel(command: Command, { embeddedOnly = false } = {}): Command {
  if (!embeddedOnly) {
    command.option(
      "--model <source>",
      "folder with config.json, model.safetensors (or its index) and tokenizer.json; a .gguf or " +
        ".safetensors file; a URL of either; or hf:user/model, hf:user/model:Q4_K_M, " +
        "hf:user/model/file.gguf, with or without #revision; default: the embedded model",
    );
  }
  return withMemoryLimit(command)
    .addOption(
      new Option(
        "--backend <name>",
        "what computes; auto: webgpu where there is a GPU, unless --threads is given, else wasm",
      ).choices(["auto", "wasm", "webgpu", "reference"]).default("auto"),
    )
    .option("--allow-software", "let webgpu be a program that acts as a GPU: slow, for tests")
    .addOption(
      new Option("--threads <count>", "threads to compute with; default: one per core")
        .argParser(count(1)),
    );
}

/** Adds the options of {@linkcode AttentionSettings} to a command. */
export function withAttention(command: Command): Command {
  return command
    .optionsGroup("Attention (counts are tokens; default: what suits the model):")
    .addOption(
      new Option("--global <count>", "first tokens, always read; all = full attention")
        .argParser(count(0, true)),
    )
    .addOption(
      new Option("--local <count>", "last tokens, always read").argParser(count(0, true)),
    )
    .addOption(
      new Option("--top-k <count>", "picks per query and head; 0 = a plain window")
        .argParser(count(0)),
    )
    .addOption(
      new Option("--spans <count>", "most-voted picks that are read").argParser(count(0, true)),
    )
    .addOption(
      new Option("--span <count>", "tokens read around a pick; even").argParser(evenCount),
    )
    .addOption(new Option("--step <count>", "tokens read at once").argParser(count(1)))
    .addOption(
      new Option(
        "--select <when>",
        "select in every step; only for the question and its answer; never (default: ask)",
      ).choices(["always", "ask", "never"]),
    )
    .addOption(
      new Option(
        "--select-layers <list>",
        "the layers that select, such as 1,2 or 8-11,15; the first is 0; or all",
      ).argParser(parseLayers),
    )
    .addOption(
      new Option("--sharing <unit>", "one selection for a layer, or one for each of its KV heads")
        .choices(["layer", "kvHead"]),
    )
    .addOption(
      new Option("--cache-format <format>", "numbers of the cache (default: i16)")
        .choices(["i16", "f32"]).conflicts("load"),
    );
}

/** The options that were given. */
export function toModelSettings(options: Record<string, unknown>): ModelSettings {
  return {
    model: options.model as string | undefined,
    backend: options.backend as BackendName | "auto",
    threads: options.threads as number | undefined,
    ...(options.allowSoftware === true ? { allowSoftware: true } : {}),
    memoryLimit: options.memoryLimit as number | undefined,
  };
}

/** The options that were given. */
export function toAttentionSettings(options: Record<string, unknown>): AttentionSettings {
  const scope = {
    globalSize: options.global,
    localSize: options.local,
    topK: options.topK,
    maxSpans: options.spans,
    spanSize: options.span,
    sharing: options.sharing,
  };
  const given = Object.entries(scope).filter(([, value]) => value !== undefined);
  return {
    scope: Object.fromEntries(given) as Partial<ScopeConfig>,
    stepSize: options.step as number | undefined,
    select: options.select as AttentionSettings["select"],
    selectLayers: options.selectLayers as AttentionSettings["selectLayers"],
    cacheFormat: options.cacheFormat as KvFormat | undefined,
  };
}

/** The same for a session. */
export function attentionOptions(
  { scope, stepSize, select, selectLayers, cacheFormat }: AttentionSettings,
): SessionOptions {
  return {
    ...(Object.keys(scope).length > 0 ? { scope } : {}),
    ...(stepSize === undefined ? {} : { stepSize }),
    ...(select === undefined ? {} : { select }),
    ...(selectLayers === undefined ? {} : { selectLayers }),
    ...(cacheFormat === undefined ? {} : { kvFormat: cacheFormat }),
  };
}

/**
 * `240`, `200_000`, `16K`, `1.5M`; with `infinite` also `all`.
 *
 * @throws {InvalidArgumentError} If it is not a count of at least `least`.
 */
export function parseCount(text: string, least = 0, infinite = false): number {
  if (infinite && /^(all|inf(inity)?)$/i.test(text)) return Infinity;
  const match = /^(\d[\d_]*(?:\.\d+)?)([kKmM]?)$/.exec(text);
  const unit = { "": 1, K: 1024, M: 1024 ** 2 }[match?.[2]?.toUpperCase() ?? ""]!;
  const value = match ? Number(match[1]!.replaceAll("_", "")) * unit : NaN;
  if (!Number.isSafeInteger(value) || value < least) {
    throw new InvalidArgumentError(
      `It must be a whole number of at least ${least}, such as ${Math.max(least, 16)} or 16K` +
        `${infinite ? ', or "all"' : ""}.`,
    );
  }
  return value;
}

/**
 * `1,2`, `8-11,15`, `all`.
 *
 * @throws {InvalidArgumentError} If it is no list of layers.
 */
export function parseLayers(text: string): readonly number[] | "all" {
  if (/^all$/i.test(text.trim())) return "all";
  return text.split(",").flatMap((part) => {
    const [, first, last = first] = /^\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?$/.exec(part) ?? [];
    if (first === undefined || Number(last) < Number(first)) {
      throw new InvalidArgumentError(
        'It must be layers, the first is 0, such as 1,2 or 8-11,15; or "all".',
      );
    }
    return Array.from({ length: Number(last) - Number(first) + 1 }, (_, i) => Number(first) + i);
  });
}

/** Parses a count of at least `least`. */
export function count(least: number, infinite = false): (text: string) => number {
  return (text) => parseCount(text, least, infinite);
}

/** Parses an even count. */
export function evenCount(text: string): number {
  const value = parseCount(text, 2);
  if (value % 2 !== 0) {
    throw new InvalidArgumentError("It must be even: as many tokens before a pick as from it on.");
  }
  return value;
}

/** Parses a whole number. */
export function integer(text: string): number {
  if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(Number(text))) {
    throw new InvalidArgumentError("It must be a whole number.");
  }
  return Number(text);
}

/** Parses a number that keeps a rule. */
export function numberFrom(
  rule: string,
  holds: (value: number) => boolean,
): (text: string) => number {
  return (text) => {
    const value = text.trim() === "" ? NaN : Number(text);
    if (!(Number.isFinite(value) && holds(value))) {
      throw new InvalidArgumentError(`It must be a number, ${rule}.`);
    }
    return value;
  };
}

/** Gathers the values of an option that may be repeated. */
export function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}
