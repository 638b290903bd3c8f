/**
 * A trace as a recall map: what each layer read for the question and for each token of the answer.
 *
 * A trace may come from anywhere, so nothing in it is believed before it was looked at.
 *
 * @module
 */

import { formatCount, plural } from "./format.ts";
import type { ParsedLine } from "./json_lines.ts";
import { mostSelected, type SelectedStretch } from "./selections.ts";

/** Consecutive tokens. */
export interface TokenRange {
  readonly start: number;
  /** The token after the last. */
  readonly end: number;
}

/** What selects on its own: a layer, or one of its KV heads. */
export interface RecallLane {
  readonly layer: number;
  /** Null where the layer's heads share a selection. */
  readonly kvHead: number | null;
  /** What it selected in all steps, the most frequent first. */
  readonly stretches: readonly SelectedStretch[];
}

/** One pass through the model. */
export interface RecallStep {
  /** The question's reading, or what chose a token of the answer. */
  readonly phase: "question" | "generate";
  /** Tokens in the sequence then; the index of the token that was chosen. */
  readonly length: number;
  /** For each lane what it selected, ascending. */
  readonly spans: readonly (readonly TokenRange[])[];
}

/** A byte of an input. */
export interface InputByte {
  readonly input: number;
  readonly byte: number;
}

/** What is drawn. */
export interface RecallMap {
  /** Null where the text was just gone on with, or is not in the trace. */
  readonly question: string | null;
  readonly model: string;
  readonly inputs: readonly string[];
  /** Those of them, by index, that held nothing. */
  readonly emptyInputs: readonly number[];
  /** Tokens in the end: text, question, answer. */
  readonly length: number;
  /** Where the question began; null where the trace does not say. */
  readonly writingStart: number | null;
  /** Always read: so many of the first tokens, and of the last; null where it is all. */
  readonly globalSize: number | null;
  readonly localSize: number | null;
  /** By layer, then by head. */
  readonly lanes: readonly RecallLane[];
  readonly steps: readonly RecallStep[];
  /** Steps behind the last that is kept. */
  readonly omittedSteps: number;
  /** The texts of tokens, as far as they are known. */
  readonly pieces: ReadonlyMap<number, string>;
  /** Where selected tokens start and end in the inputs. */
  readonly starts: ReadonlyMap<number, InputByte>;
  readonly ends: ReadonlyMap<number, InputByte>;
  /** Why the run failed; null if it did not. */
  readonly error: string | null;
}

/** Bounds of what a page can show, and a browser hold. */
const MOST_STEPS = 2000;
const MOST_SPANS = 500_000;
const MOST_SELECTED = 32_000_000; // tokens, in all steps
const MOST_PIECES = 4_000_000;
const MOST_LANES = 1024;

/**
 * Reads a trace; selections while reading the text are not of it.
 *
 * @param name For messages.
 * @throws {Error} If it is no trace, or holds no selection for a question or an answer.
 */
export async function readRecallTrace(
  name: string,
  lines: AsyncIterable<ParsedLine>,
): Promise<RecallMap> {
  const trace = new TraceReader();
  for await (const { value, number } of lines) {
    try {
      trace.add(value);
    } catch (cause) {
      throw new Error(`Cannot draw ${name}, line ${number}: ${(cause as Error).message}`, {
        cause,
      });
    }
  }
  try {
    return trace.finish();
  } catch (cause) {
    throw new Error(`Cannot draw ${name}: ${(cause as Error).message}`, { cause });
  }
}

interface OpenStep {
  readonly phase: "question" | "generate";
  readonly length: number;
  readonly spans: Map<string, TokenRange[]>; // by lane
}

/** Takes a trace line by line. */
class TraceReader {
  #header: Fields | null = null;
  #end: Fields | null = null;
  readonly #lanes = new Map<string, { readonly layer: number; readonly kvHead: number | null }>();
  readonly #steps = new Map<number, OpenStep>();
  readonly #omitted = new Set<number>();
  readonly #pieces = new Map<number, string>();
  readonly #starts = new Map<number, InputByte>();
  readonly #ends = new Map<number, InputByte>();
  #spans = 0;
  #selected = 0;
  #length = 0;
  #reading = 0;

  add(value: unknown): void {
    const line = fieldsOf(value, "a line of a trace");
    if (this.#header === null) {
      if (line.type !== "header") throw new SyntaxError("a trace begins with its header");
      if (line.version !== 1) {
        throw new SyntaxError(`the trace's version must be 1, got ${JSON.stringify(line.version)}`);
      }
      this.#header = line;
    } else if (line.type === "selection") this.#addSelection(line);
    else if (line.type === "end") this.#end = line;
  }

  finish(): RecallMap {
    const header = this.#header;
    if (header === null) throw new SyntaxError("there must be a trace in it, and it is empty");
    if (this.#spans === 0) {
      throw new RangeError(
        "there must be selections for a question or an answer, and there are " +
          (this.#reading > 0
            ? `only ${formatCount(this.#reading)} made while reading`
            : "none: the text may fit into one scope, or --select was never"),
      );
    }
    const end = this.#end;
    const writing = end?.writing === undefined ? null : fieldsOf(end.writing, "writing");
    if (writing !== null) this.#addPieces(writing);
    const names = [...this.#lanes].sort(([, a], [, b]) =>
      a.layer - b.layer || (a.kvHead ?? 0) - (b.kvHead ?? 0)
    );
    const steps = [...this.#steps].sort(([a], [b]) => a - b).map((
      [, { phase, length, spans }],
    ) => ({
      phase,
      length,
      spans: names.map(([key]) => spans.get(key) ?? []),
    }));
    const scope = header.scope === undefined ? {} : fieldsOf(header.scope, "scope");
    const sizeOf = (value: unknown) => typeof value === "number" ? value : null;
    return {
      question: typeof writing?.question === "string" ? writing.question : null,
      model: typeof header.model === "string" ? header.model : "unnamed",
      inputs: Array.isArray(header.inputs) ? header.inputs.map(String) : [],
      emptyInputs: emptyInputs(end),
      length: this.#length,
      writingStart: writing === null ? null : countOf(writing, "start"),
      globalSize: sizeOf(scope.globalSize),
      localSize: sizeOf(scope.localSize),
      lanes: names.map(([, lane], i) => ({
        ...lane,
        stretches: mostSelected(
          steps.map(({ spans }) => ({ layer: lane.layer, spans: [spans[i]!] })),
          lane.layer,
        ),
      })),
      steps,
      omittedSteps: this.#omitted.size,
      pieces: this.#pieces,
      starts: this.#starts,
      ends: this.#ends,
      error: typeof end?.error === "string" ? end.error : null,
    };
  }

  #addSelection(line: Fields): void {
    const { phase } = line;
    if (phase !== "question" && phase !== "generate") {
      this.#reading++;
      return;
    }
    const number = countOf(line, "step");
    const length = countOf(line, "length");
    const layer = countOf(line, "layer");
    const kvHead = line.kvHead === undefined ? null : countOf(line, "kvHead");
    const isKnown = this.#steps.has(number);
    if (!isKnown && (this.#steps.size === MOST_STEPS || this.#spans >= MOST_SPANS)) {
      this.#omitted.add(number);
      return;
    }
    const key = `${layer} ${kvHead}`;
    if (!this.#lanes.has(key)) this.#lanes.set(key, { layer, kvHead });
    if (this.#lanes.size > MOST_LANES) {
      throw new RangeError(`there may be at most ${MOST_LANES} layers and heads that select`);
    }
    const step = this.#steps.get(number) ?? { phase, length, spans: new Map() };
    this.#steps.set(number, step);
    this.#length = Math.max(this.#length, length);
    step.spans.set(key, arrayOf(line, "spans").map((span) => this.#addSpan(span, length)));
    if (line.texts !== undefined) arrayOf(line, "texts").forEach((text) => this.#addPieces(text));
  }

  #addSpan(value: unknown, length: number): TokenRange {
    const span = fieldsOf(value, "a span");
    const start = countOf(span, "start");
    const end = countOf(span, "end");
    if (!(start < end && end <= length)) {
      throw new RangeError(`a span must end after it starts, within ${plural(length, "token")}`);
    }
    this.#spans++;
    this.#selected += end - start;
    if (this.#selected > MOST_SELECTED) {
      throw new RangeError(
        `all steps together may select at most ${plural(MOST_SELECTED, "token")}`,
      );
    }
    if (typeof span.input === "number") {
      const input = countOf(span, "input");
      this.#starts.set(start, { input, byte: countOf(span, "startByte") });
      const endInput = span.endInput === undefined ? input : countOf(span, "endInput");
      this.#ends.set(end, { input: endInput, byte: countOf(span, "endByte") });
    }
    return { start, end };
  }

  #addPieces(value: unknown): void {
    const text = fieldsOf(value, "a text");
    const start = countOf(text, "start");
    const pieces = arrayOf(text, "pieces");
    if (this.#pieces.size + pieces.length > MOST_PIECES) {
      throw new RangeError(`there may be the texts of at most ${plural(MOST_PIECES, "token")}`);
    }
    pieces.forEach((piece, i) => this.#pieces.set(start + i, String(piece)));
    this.#length = Math.max(this.#length, start + pieces.length);
  }
}

type Fields = Readonly<Record<string, unknown>>;

function fieldsOf(value: unknown, what: string): Fields {
  if (typeof value === "object" && value !== null) return value as Fields;
  throw new SyntaxError(`${what} must be an object, got ${JSON.stringify(value)}`);
}

function countOf(fields: Fields, name: string): number {
  const value = fields[name];
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
  throw new SyntaxError(`${name} must be a whole number from 0, got ${JSON.stringify(value)}`);
}

function arrayOf(fields: Fields, name: string): readonly unknown[] {
  const value = fields[name];
  if (Array.isArray(value)) return value;
  throw new SyntaxError(`${name} must be an array, got ${JSON.stringify(value)}`);
}

function emptyInputs(end: Fields | null): number[] {
  const reports = Array.isArray(end?.inputs) ? end.inputs : [];
  return reports.flatMap((report, i) =>
    fieldsOf(report, "an input's report").byteLength === 0 ? [i] : []
  );
}

/** `layer 3`, `layer 3, head 1`. */
export function laneName({ layer, kvHead }: RecallLane): string {
  return kvHead === null ? `layer ${layer}` : `layer ${layer}, head ${kvHead}`;
}

/** The text of some tokens; null where one of them is not known. */
export function textOf({ pieces }: RecallMap, { start, end }: TokenRange): string | null {
  let text = "";
  for (let token = start; token < end; token++) {
    const piece = pieces.get(token);
    if (piece === undefined) return null;
    text += piece;
  }
  return text;
}

/** `book.txt, bytes 790 to 841`; null where it is in no input. */
export function placeOf(
  { starts, ends, inputs }: RecallMap,
  { start, end }: TokenRange,
): string | null {
  const [first, last] = [starts.get(start), ends.get(end)];
  if (!first || !last) return null;
  const name = (input: number) => inputs[input] ?? `input ${input}`;
  return first.input === last.input
    ? `${name(first.input)}, bytes ${formatCount(first.byte)} to ${formatCount(last.byte)}`
    : `${name(first.input)}, byte ${formatCount(first.byte)}, to ${name(last.input)}, byte ` +
      formatCount(last.byte);
}
