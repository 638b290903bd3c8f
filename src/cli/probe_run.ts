/**
 * Probes of many sets of layers, each written to a journal when it is finished, so that a run that
 * was killed goes on where it was.
 *
 *     {"type":"header",...}
 *     {"type":"ask","index":0,"layers":[1],"right":9,"seconds":1.2}
 *     {"type":"always","index":0,"layers":[1],"right":9,"seconds":4.1}
 *     {"type":"prose","index":0,"layers":[1],"loss":6655.25,"seconds":2.5}
 *
 * @module
 */

import { asObject } from "../files/json.ts";
import type { CalibratedSet } from "../llama/calibration.ts";
import type { Model } from "../llama/load.ts";
import type { Journal } from "../system/journal.ts";
import { formatCount, formatSeconds, plural } from "./format.ts";
import { nameLayers } from "./inspect.ts";
import type { LayerSet } from "./layer_search.ts";
import { askAfterReading, askReadingSelected, type NeedleProbe, proseLoss } from "./probes.ts";

/** A text with facts; made when it is needed, because there may be many. */
export interface Haystack {
  /** About how long it is. */
  readonly tokens: number;
  readonly questions: number;
  open(): Promise<Pick<NeedleProbe, "text" | "needles" | "raw">>;
}

/** What to probe with. */
export interface ProbePlan {
  readonly haystacks: readonly Haystack[];
  /** Tokens of each stretch of prose; the second half counts. */
  readonly windows: readonly Uint32Array[];
}

/** How a run is watched and ended. */
export interface ProbeRunOptions {
  /** Ends the run after the current step of the model. */
  readonly signal?: AbortSignal;
  /** A line about what is being done; asked for only now and then. */
  readonly onProgress?: (line: () => string) => Promise<void>;
  /** A stage that is finished: a line. */
  readonly onStage?: (line: string) => Promise<void>;
}

/** Measures sets of layers; what the journal holds already is not measured again. */
export interface ProbeRun {
  /** Right answers over the same reading, and the loss of the prose. */
  measure(sets: readonly LayerSet[], stage: string): Promise<CalibratedSet[]>;
  /** Right answers after a reading that selects in every step. */
  confirm(sets: readonly LayerSet[], stage: string): Promise<CalibratedSet[]>;
}

type ProbeType = "ask" | "always" | "prose";

/** One finished probe. */
interface Finished {
  readonly type: ProbeType;
  readonly index: number;
  readonly layers: LayerSet;
  /** Right answers, or the loss. */
  readonly value: number;
  readonly seconds: number;
}

/** Numbers of a loss that are told apart: so that rounding on another machine decides nothing. */
const NLL_DIGITS = 1e6;

/**
 * Starts a run, or goes on with one.
 *
 * @param header What the probes depend on: another header is another run.
 * @throws {Error} If the journal is of other probes, or is none.
 */
export async function startProbeRun(
  model: Model,
  plan: ProbePlan,
  journal: Journal,
  header: Readonly<Record<string, unknown>>,
  options: ProbeRunOptions = {},
): Promise<ProbeRun & { readonly resumed: number }> {
  const { signal, onProgress, onStage } = options;
  const finished = new Map<string, Finished>();
  const keyOf = (type: ProbeType, index: number, layers: LayerSet) => `${type} ${index} ${layers}`;
  const keep = (probe: Finished) =>
    finished.set(keyOf(probe.type, probe.index, probe.layers), probe);
  const [first, ...rest] = journal.lines;
  if (first === undefined) await journal.append(JSON.stringify({ type: "header", ...header }));
  else checkHeader(first, { type: "header", ...header });
  rest.forEach((line, i) => keep(parseLine(line, i + 2)));
  const resumed = finished.size;

  /** Does what is missing, and says how it goes on. */
  const work = (missing: Record<ProbeType, number>, stage: string) => {
    const began = performance.now();
    const total = missing.ask + missing.always + missing.prose;
    let done = 0;
    const timeLeft = (): string => {
      let seconds = 0;
      for (const type of ["ask", "always", "prose"] as const) {
        if (missing[type] === 0) continue;
        const paces = [...finished.values()].filter((probe) => probe.type === type);
        if (paces.length === 0) return "";
        const sum = paces.reduce((sum, { seconds }) => sum + seconds, 0);
        seconds += missing[type] * sum / paces.length;
      }
      return `, about ${formatSeconds(seconds)} left`;
    };
    return {
      async show(what: string): Promise<void> {
        await onProgress?.(() => `probe ${done + 1} of ${total}${timeLeft()}; ${what} (${stage})`);
      },
      async finish(probe: Finished): Promise<void> {
        const { type, index, layers, value, seconds } = probe;
        const result = type === "prose" ? { loss: value } : { right: value };
        await journal.append(JSON.stringify({ type, index, layers, ...result, seconds }));
        keep(probe);
        missing[type]--;
        done++;
      },
      async end(): Promise<void> {
        if (total === 0) return;
        const seconds = (performance.now() - began) / 1000;
        await onStage?.(`${stage}: ${plural(total, "probe")} in ${formatSeconds(seconds)}`);
      },
    };
  };
  const isMissing = (type: ProbeType, index: number) => (layers: LayerSet) =>
    !finished.has(keyOf(type, index, layers));
  const countMissing = (type: ProbeType, count: number, sets: readonly LayerSet[]) =>
    Array.from({ length: count }, (_, i) => sets.filter(isMissing(type, i)).length)
      .reduce((sum, missing) => sum + missing, 0);
  const sum = (type: ProbeType, count: number, layers: LayerSet) =>
    Array.from({ length: count }, (_, i) => finished.get(keyOf(type, i, layers))!.value)
      .reduce((sum, value) => sum + value, 0);

  const { haystacks, windows } = plan;
  const scored = windows.reduce((sum, { length }) => sum + Math.ceil(length / 2), 0);
  const openProbe = async (
    haystack: Haystack,
    show: (read: string) => Promise<void>,
  ): Promise<NeedleProbe> => ({
    ...await haystack.open(),
    signal,
    onRead: (tokens) =>
      show(`${formatCount(tokens)} of about ${formatCount(haystack.tokens)} tokens read`),
  });
  const describe = (layers: LayerSet) =>
    layers.length === 0 ? "no layer" : `layer${layers.length > 1 ? "s" : ""} ${nameLayers(layers)}`;

  return {
    resumed,
    async measure(sets: readonly LayerSet[], stage: string): Promise<CalibratedSet[]> {
      const watch = work({
        ask: countMissing("ask", haystacks.length, sets),
        always: 0,
        prose: countMissing("prose", windows.length, sets),
      }, stage);
      const prose = async (index: number, sets: readonly LayerSet[]) => {
        for (const layers of sets) {
          await watch.show(`prose ${index + 1} of ${windows.length}, ${describe(layers)}`);
          const began = performance.now();
          const value = await proseLoss(model, windows[index]!, layers, signal);
          const seconds = (performance.now() - began) / 1000;
          await watch.finish({ type: "prose", index, layers, value, seconds });
        }
      };
      // One of each kind first: then it is known how long all will take.
      if (windows.length > 0) await prose(0, sets.filter(isMissing("prose", 0)).slice(0, 1));
      for (const [index, haystack] of haystacks.entries()) {
        const waiting = sets.filter(isMissing("ask", index));
        if (waiting.length === 0) continue;
        const what = `text ${index + 1} of ${haystacks.length}`;
        const probe = await openProbe(haystack, (read) => watch.show(`${what}, ${read}`));
        let began = performance.now();
        let i = 0;
        for await (const value of askAfterReading(model, probe, waiting)) {
          const layers = waiting[i++]!;
          const now = performance.now();
          const seconds = (now - began) / 1000;
          began = now;
          await watch.finish({ type: "ask", index, layers, value, seconds });
          await watch.show(`${what}, ${describe(layers)}: ${value} right`);
        }
      }
      for (const index of windows.keys()) {
        await prose(index, sets.filter(isMissing("prose", index)));
      }
      await watch.end();
      return sets.map((layers) => ({
        layers,
        ...(haystacks.length > 0 ? { right: sum("ask", haystacks.length, layers) } : {}),
        ...(windows.length > 0
          ? {
            nll: Math.round(sum("prose", windows.length, layers) / scored * NLL_DIGITS) /
              NLL_DIGITS,
          }
          : {}),
      }));
    },
    async confirm(sets: readonly LayerSet[], stage: string): Promise<CalibratedSet[]> {
      const watch = work({
        ask: 0,
        always: countMissing("always", haystacks.length, sets),
        prose: 0,
      }, stage);
      for (const [index, haystack] of haystacks.entries()) {
        for (const layers of sets.filter(isMissing("always", index))) {
          const what = `text ${index + 1} of ${haystacks.length}, ${describe(layers)}`;
          const probe = await openProbe(haystack, (read) => watch.show(`${what}, ${read}`));
          const began = performance.now();
          const value = await askReadingSelected(model, probe, layers);
          const seconds = (performance.now() - began) / 1000;
          await watch.finish({ type: "always", index, layers, value, seconds });
        }
      }
      await watch.end();
      return sets.map((layers) => ({
        layers,
        rightAlways: sum("always", haystacks.length, layers),
      }));
    },
  };
}

/** A journal of other probes would mix their figures with these. */
function checkHeader(line: string, expected: Readonly<Record<string, unknown>>): void {
  const found = parseObject(line);
  if (found?.["type"] !== "header") {
    throw new Error("Cannot go on with the journal: its first line must be a header of ours");
  }
  const different = [...new Set([...Object.keys(found), ...Object.keys(expected)])]
    .filter((key) => JSON.stringify(found[key]) !== JSON.stringify(expected[key]));
  if (different.length > 0) {
    throw new Error(
      `Cannot go on with the journal: it must be of the same probes, but differs in ` +
        `${different.join(", ")}; --fresh begins anew`,
    );
  }
}

function parseLine(line: string, number: number): Finished {
  const { type, index, layers, right, loss, seconds } = parseObject(line) ?? {};
  const value = type === "prose" ? loss : right;
  const isNumber = (value: unknown) => typeof value === "number" && Number.isFinite(value);
  if (
    (type !== "ask" && type !== "always" && type !== "prose") || !isNumber(index) ||
    !isNumber(value) || !isNumber(seconds) || !Array.isArray(layers) || !layers.every(isNumber)
  ) {
    throw new Error(
      `Cannot go on with the journal: line ${number} must be a finished probe; --fresh begins anew`,
    );
  }
  return {
    type,
    index: Number(index),
    layers: layers as number[],
    value: Number(value),
    seconds: Number(seconds),
  };
}

function parseObject(line: string): Record<string, unknown> | null {
  try {
    return asObject(JSON.parse(line)) as Record<string, unknown> | null;
  } catch {
    return null;
  }
}
