/**
 * Which probes a model is given, from the settings and from what suits the model.
 *
 * @module
 */

import { type ByteSource, readBytes } from "../files/byte_source.ts";
import type { Model } from "../llama/load.ts";
import type { ModelFiles } from "../llama/model_files.ts";
import { scopeBound } from "../reattention/scope.ts";
import { type CalibrateSettings, UsageError } from "./args.ts";
import { formatBytes, formatCount, plural } from "./format.ts";
import type { NeedleKind } from "../eval/haystack.ts";
import type { Haystack, ProbePlan } from "./probe_run.ts";
import {
  bytesPerToken,
  fileSample,
  generatedSample,
  generateText,
  readStretch,
  textWithNeedles,
} from "./probe_texts.ts";
import { needleKinds, type NeedleTemplates, probeNeedles } from "./probes.ts";

/** Probes are so many times as long as what attention may read at once. */
const TIMES_THE_SCOPE = 8;

/** What {@linkcode planProbes} decides. */
export interface PlannedProbes {
  readonly plan: ProbePlan;
  /** Everything that the probes' figures depend on, besides the weights. */
  readonly header: Readonly<Record<string, unknown>>;
  /** What to say to people: a line each. */
  readonly notes: readonly string[];
}

/** The settings that {@linkcode planProbes} reads. */
export type ProbeSettings = Pick<CalibrateSettings, "lengths" | "seeds" | "windows" | "window">;

/**
 * Decides on the probes.
 *
 * @param text Prose; null where none was given.
 * @throws {UsageError} If there is nothing to probe with, or a length is not beyond the scope.
 */
export async function planProbes(
  model: Model,
  settings: ProbeSettings,
  templates: NeedleTemplates | null,
  text: ByteSource | null,
): Promise<PlannedProbes> {
  using session = model.session();
  const { scope, stepSize } = session;
  const bound = scopeBound(scope, stepSize);
  if (scope.topK === 0 || bound === Infinity) {
    throw new UsageError(
      "The model's profile has a scope that selects nothing or reads everything",
    );
  }
  const notes: string[] = [];
  const kinds = needleKinds(model.profile, templates);
  if (kinds.length === 0) {
    if (text === null) {
      throw new UsageError(
        "There is nothing to probe with: the model has no question forms, so name prose with " +
          "--text, or say how it is asked, such as --needle " +
          '"The special magic number for {key} is: {value}." --question "The special magic ' +
          'number for {key} is:"',
      );
    }
    notes.push(
      "the model has no question forms and there is no --needle, so only the prose is measured",
    );
  }
  if (text === null) notes.push("there is no --text, so only answers are measured, not perplexity");

  const lengths = settings.lengths.length > 0 ? settings.lengths : [TIMES_THE_SCOPE * bound];
  const window = settings.window ?? TIMES_THE_SCOPE * bound;
  const short = [...lengths, window].find((length) => length < 2 * bound);
  if (short !== undefined) {
    throw new UsageError(
      `Probes must have at least ${
        2 * bound
      } tokens, twice what attention reads at once, got ${short}`,
    );
  }
  const perToken = bytesPerToken(
    model,
    text === null ? generatedSample(1) : await fileSample(text),
  );
  const haystacks = kinds.length === 0 ? [] : lengths.flatMap((tokens, i) => {
    const fits = text !== null && text.byteLength >= tokens * perToken;
    if (text !== null && !fits) {
      notes.push(
        `${text.name} is shorter than ${plural(tokens, "token")}, so facts are hidden in a ` +
          "generated text of that length",
      );
    }
    return Array.from(
      { length: settings.seeds },
      (_, j) => openHaystack(kinds, tokens, 1 + i * settings.seeds + j, fits ? text : null),
    );
  });
  const windows = text === null
    ? []
    : await readWindows(model, text, perToken, settings.windows, window, notes);

  function openHaystack(
    kinds: readonly NeedleKind[],
    tokens: number,
    seed: number,
    text: ByteSource | null,
  ): Haystack & { readonly seed: number; readonly isGenerated: boolean } {
    return {
      tokens,
      seed,
      isGenerated: text === null,
      questions: kinds.length,
      async open() {
        const needles = probeNeedles(kinds, seed, templates);
        const length = Math.ceil(tokens * perToken);
        return {
          text: text === null
            ? generateText(seed, length, needles)
            : await textWithNeedles(text, seed, length, needles),
          needles,
          raw: templates !== null,
        };
      },
    };
  }

  return {
    plan: { haystacks, windows },
    header: {
      scope,
      stepSize,
      forms: model.profile?.forms ?? [],
      templates,
      texts: haystacks.map(({ tokens, seed, isGenerated }) => ({ tokens, seed, isGenerated })),
      prose: text && {
        byteLength: text.byteLength,
        windows: windows.map(({ length }) => length),
        hash: await hash(windows.map(({ buffer }) => new Uint8Array(buffer))),
      },
    },
    notes,
  };
}

/** Stretches from all parts of a text, as tokens. */
async function readWindows(
  model: Model,
  text: ByteSource,
  perToken: number,
  wanted: number,
  length: number,
  notes: string[],
): Promise<Uint32Array<ArrayBuffer>[]> {
  // An estimate; so that the last stretch does not end early, some more are asked for.
  const byteLength = Math.ceil(length * perToken * 1.1) + 64;
  const count = Math.min(wanted, Math.floor(text.byteLength / byteLength));
  if (count === 0) {
    throw new UsageError(
      `${text.name} is too short: ${plural(length, "token")} of prose are about ` +
        `${formatBytes(byteLength)}, it has ${formatBytes(text.byteLength)}; --window takes fewer`,
    );
  }
  if (count < wanted) {
    notes.push(
      `${text.name} has room for ${count} of ${wanted} stretches of ${formatCount(length)} tokens`,
    );
  }
  const windows: Uint32Array<ArrayBuffer>[] = [];
  for (let i = 0; i < count; i++) {
    const stretch = await readStretch(text, i * text.byteLength / count, byteLength);
    windows.push(Uint32Array.from(model.tokenizer.encode(stretch).subarray(0, length)));
  }
  return windows;
}

/** Tensors whose bytes are looked at, and how many of each. */
const SAMPLED_TENSORS = 16;
const SAMPLED_BYTES = 4096;

/**
 * What tells a model from others, at little cost: its shape, its tensors' names and places, and
 * some of their bytes.
 */
export async function identify(
  { config, tensors }: ModelFiles,
): Promise<Readonly<Record<string, unknown>>> {
  const all = [...tensors.tensors.values()];
  const table = all.map(({ name, dtype, shape, byteOffset }) => [name, dtype, shape, byteOffset]);
  const every = Math.ceil(all.length / SAMPLED_TENSORS);
  const samples: Uint8Array<ArrayBuffer>[] = [new TextEncoder().encode(JSON.stringify(table))];
  for (const { source, byteOffset, byteLength } of all.filter((_, i) => i % every === 0)) {
    const end = byteOffset + Math.min(SAMPLED_BYTES, byteLength);
    samples.push(await readBytes(source, byteOffset, end));
  }
  return { config, weights: await hash(samples) };
}

/** SHA-256 of some bytes, in hexadecimal. */
async function hash(parts: readonly Uint8Array<ArrayBuffer>[]): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", await new Blob([...parts]).arrayBuffer());
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
