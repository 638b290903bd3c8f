/**
 * A sequence being read and written: prefill, ask, generate, fork.
 *
 * @module
 */

import type { Backend, KvFormat, Tensor } from "../backend/backend.ts";
import { checkScores } from "../backend/checks.ts";
import { DeviceLostError } from "../errors.ts";
import type { KvCache } from "../reattention/kv_cache.ts";
import { fitScope, resolveScope, scopeBound, type ScopeConfig } from "../reattention/scope.ts";
import { TokenDecoder } from "../text/token_decoder.ts";
import { type EncodedTokens, TokenEncoder } from "../text/token_encoder.ts";
import { TokenLog } from "../text/token_log.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { type Chat, QUESTION_SEPARATOR } from "./chat.ts";
import type { Identified } from "./identity.ts";
import type { Llama } from "./llama.ts";
import { completeQuestion, type Profile } from "./profile.ts";
import { createSampler } from "./sampler.ts";
import { resolveSelectLayers } from "./select_layers.ts";
import { type StepPhase, toSpans } from "./selection_record.ts";
import type { Turn } from "./session_header.ts";
import { openSession, type RestoreSource, saveSession, type SaveTarget } from "./session_file.ts";
import {
  assertRemembered,
  keptEnds,
  openCache,
  type OpenSpillFile,
  type SharedSpill,
  spareTokens,
} from "./session_memory.ts";
import {
  type AskOptions,
  defaultStepSize,
  type ForkOptions,
  type GenerateOptions,
  restoredOptions,
  type RestoreOptions,
  type SessionOptions,
  type SessionStats,
} from "./session_options.ts";
import { StepHistory } from "./step_history.ts";
import { type StopRules, StopStrings } from "./stop_strings.ts";

/** What a session needs of its model. */
export interface SessionModel extends Identified {
  readonly llama: Llama;
  readonly backend: Backend;
  readonly tokenizer: Tokenizer;
  /** Null where the model came with none. */
  readonly profile: Profile | null;
  /** Null where the model does not answer by a chat template. */
  readonly chat: Chat | null;
  /** Tokens that end a text or an answer. */
  readonly endTokens: readonly number[];
  /** How to spill into a folder; null where there are no files. */
  readonly openSpillFile?: OpenSpillFile | null;
  /** The same model on a machine that cannot be lost; null where this one cannot be, either. */
  readonly fallback?: (() => Promise<SessionModel>) | null;
}

/** Longest part of a write that is encoded at once, in UTF-16 units: bounds memory for writes of any size. */
const ENCODE_UNITS = 1 << 16;

/** UTF-16 units that are collected before they are encoded: how far reading lags behind writing. */
const ENCODE_BATCH = 2048;

/** Milliseconds of work after which timers and signals get a turn. */
const BREATH_MILLISECONDS = 30;

/**
 * One sequence of one model. Reading stops at nothing but memory; the cache grows by
 * `stats.bytesPerToken`.
 *
 * The newest token is not read until it must be: it is a step of its own, with a selection of its
 * own, so that the first token of an answer is chosen as all others are. Nor is a step read before
 * it is full, so the result does not depend on how the text was cut into writes.
 *
 * Use one call at a time; fork for more.
 */
export class Session implements Disposable {
  /** The rules in force. */
  readonly scope: ScopeConfig;
  /** Tokens read at once. */
  readonly stepSize: number;
  /** When attention selects. */
  readonly select: "always" | "ask" | "never";
  /** The layers that do so then; ascending, the first layer is 0. */
  readonly selectLayers: readonly number[];
  /** How keys and values are kept. */
  readonly kvFormat: KvFormat;

  #model: SessionModel; // another one once its device was lost
  readonly #options: SessionOptions;
  readonly #log: TokenLog; // every token of the sequence
  #cache: KvCache; // the tokens that were read; the log's others are pending
  #history = new StepHistory(); // how they were
  #hidden: Tensor; // [1, hiddenSize]
  #spill: SharedSpill | null = null;
  #toldForgotten = 0; // tokens, as of the last telling
  #hiddenIsNewest = false;
  #turns: readonly Turn[] = []; // of a model with a chat template, ascending
  #encoder: TokenEncoder | null = null; // of the open writable
  #saving = false;
  #lastBreath = performance.now();
  #steps = 0;
  #readTokens = 0;
  #generatedTokens = 0;
  #largestScope = 0;
  readonly #seconds: Record<StepPhase, number> = { read: 0, question: 0, generate: 0 };

  /** Made by {@linkcode Model.session}, {@linkcode Model.restore} and {@linkcode Session.fork}. */
  constructor(model: SessionModel, options: SessionOptions = {}, parent: Session | null = null) {
    const { llama, backend, profile } = model;
    const { config } = llama;
    this.#model = model;
    this.#options = options;
    const base = profile?.scope ?? fitScope(config.trainedLength);
    this.scope = resolveScope(options.scope ?? {}, base);
    this.select = options.select ?? "ask";
    if (!["always", "ask", "never"].includes(this.select)) {
      throw new TypeError(
        `Cannot open a session: select must be one of always, ask, never, got "${this.select}"`,
      );
    }
    this.selectLayers = resolveSelectLayers(
      options.selectLayers ?? profile?.selectLayers ?? "all",
      config.numLayers,
    );
    this.stepSize = options.stepSize ?? (options.scope ? undefined : profile?.stepSize) ??
      defaultStepSize(this.scope, config.trainedLength);
    if (!Number.isSafeInteger(this.stepSize) || this.stepSize < 1) {
      throw new RangeError(
        `Cannot open a session: stepSize must be at least 1 token, got ${this.stepSize}`,
      );
    }
    this.#checkScope();
    checkScores("open a session", this.scope.scores, options.spill !== undefined);
    if (parent) assertRemembered("fork", parent.#cache.store, this.scope, parent.#cache.length);
    this.#hidden = backend.tensor(1, config.hiddenSize);
    try {
      if (parent) {
        this.#cache = parent.#cache.fork(keptEnds(this.scope));
        this.#log = parent.#log.fork();
        this.#turns = parent.#turns;
        this.#history = parent.#history.fork();
        // What the writable holds back, so that a question sees the newest line of a slow source.
        if (parent.#encoder) this.#accept(parent.#encoder.fork().flush());
        this.#spill = parent.#spill?.share() ?? null;
      } else {
        const { cache, spill } = openCache(model, options, this.scope);
        this.#cache = cache;
        this.#log = new TokenLog(model.tokenizer.rules.tokenLength);
        this.#spill = spill;
      }
    } catch (error) {
      this.#hidden[Symbol.dispose]();
      throw error;
    }
    this.kvFormat = this.#cache.store.format;
    this.#toldForgotten = this.#cache.store.forgottenTokens;
  }

  /** See {@linkcode Model.restore}. */
  static async restore(
    model: SessionModel,
    source: RestoreSource,
    options: RestoreOptions = {},
  ): Promise<Session> {
    const file = await openSession(source, model);
    try {
      const session = new Session(model, restoredOptions(file.rules, options));
      try {
        await file.fill({ log: session.#log, cache: session.#cache });
        const { store, length } = session.#cache;
        assertRemembered("restore the session", store, session.scope, length);
        session.#turns = file.turns;
        session.#history.assume(length, session.stepSize);
        session.#tellForgotten(file.forgottenTokens);
        return session;
      } catch (error) {
        session[Symbol.dispose]();
        throw error;
      }
    } finally {
      await file.close();
    }
  }

  /** Tokens in the sequence. */
  get length(): number {
    return this.#log.length;
  }

  /** What was done so far, and what it costs. */
  get stats(): SessionStats {
    return {
      length: this.length,
      readTokens: this.#readTokens,
      generatedTokens: this.#generatedTokens,
      readSeconds: this.#seconds.read,
      questionSeconds: this.#seconds.question,
      generateSeconds: this.#seconds.generate,
      cacheBytes: this.#cache.store.byteLength,
      spilledTokens: this.#cache.store.spilledTokens,
      forgottenTokens: this.#cache.store.forgottenTokens,
      forgotten: this.#cache.store.forgotten,
      bytesPerToken: this.#cache.store.bytesPerToken,
      largestScope: this.#largestScope,
    };
  }

  /**
   * Reads token ids.
   *
   * @param tokens Below the vocabulary's size; no beginning-of-text token is added.
   * @param options `phase: "question"` makes them a step of their own, the last of them another.
   * @throws {RangeError} If an id is not in the vocabulary, or a question does not fit the scope;
   * nothing has been read then.
   * @throws {OutOfMemoryError} If the cache cannot grow; what was read before stays, and there is room
   * left to ask about it.
   */
  async prefill(
    tokens: ArrayLike<number>,
    options: { readonly signal?: AbortSignal; readonly phase?: "read" | "question" } = {},
  ): Promise<void> {
    this.#assertNotWriting("prefill");
    const { vocabSize } = this.#model.llama.config;
    for (let i = 0; i < tokens.length; i++) {
      const token = tokens[i]!;
      if (!(Number.isInteger(token) && token >= 0 && token < vocabSize)) {
        throw new RangeError(
          `Cannot prefill: token ids must be integers from 0 to ${
            vocabSize - 1
          }, got ${token} at index ${i}`,
        );
      }
    }
    if (options.phase === "question") await this.#readQuestion(tokens, options.signal);
    else {
      options.signal?.throwIfAborted();
      const { length } = this;
      this.#log.append(tokens, null);
      await this.#readFullSteps(length, options.signal);
    }
  }

  /**
   * Where text streams in: each write resolves when its full steps have been read, so a slow
   * machine slows the source. Tokens are those of the whole text, however it is cut. Aborting
   * keeps what was read so far.
   *
   * A model with a chat template reads the text as a turn of the user, unless the session is `raw`:
   * what the template puts before it is read first. Control tokens come from the template alone.
   *
   * @param options `special: true` reads control tokens that the text spells out as such; by
   * default `<|end_of_text|>` in a log is text like any other.
   * @throws {TypeError} If the session's last writable is still open.
   */
  writable(
    options: { readonly signal?: AbortSignal; readonly special?: boolean } = {},
  ): WritableStream<string> {
    this.#assertNotWriting("open a second writable");
    const encoder = new TokenEncoder(this.#model.tokenizer, {
      special: options.special ?? false,
      continuation: this.length > 0,
      batchLength: ENCODE_BATCH,
    });
    this.#encoder = encoder;
    let begun = false;
    const read = async (text: string | null, signal?: AbortSignal) => {
      try {
        if (text && !begun) {
          begun = true;
          encoder.pushMarkup(this.#openTurn());
        }
        const accepted = this.#accept(text === null ? encoder.flush() : encoder.push(text));
        await this.#readFullSteps(accepted, signal);
      } catch (error) {
        this.#encoder = null;
        this.#turns = this.#turnsNow();
        throw error;
      }
    };
    return new WritableStream<string>({
      write: async (text, controller) => {
        const signals = [options.signal, controller.signal].filter((s) => s !== undefined);
        const signal = AbortSignal.any(signals);
        for (let start = 0; start < text.length; start += ENCODE_UNITS) {
          await read(text.slice(start, start + ENCODE_UNITS), signal);
        }
      },
      close: async () => {
        await read(null, options.signal);
        this.#encoder = null;
      },
      abort: () => {
        this.#encoder = null;
        this.#turns = this.#turnsNow();
      },
    });
  }

  /**
   * What the model expects next, f32[vocabSize], a copy.
   *
   * @throws {RangeError} If nothing has been read.
   */
  async logits(options: { readonly signal?: AbortSignal } = {}): Promise<Float32Array> {
    this.#assertNotWriting("compute logits");
    return await this.#surviving(async () => {
      await this.#readNewest(options.signal);
      const { backend, llama } = this.#model;
      const began = performance.now();
      using out = backend.tensor(1, llama.config.vocabSize);
      llama.logits(out, this.#hidden);
      const logits = await backend.read(out);
      this.#seconds.generate += (performance.now() - began) / 1000;
      return logits;
    });
  }

  /**
   * Writes on, one token per pull; each joins the sequence. Ends at the model's end tokens.
   *
   * @throws {RangeError} If nothing has been read, or an option is out of range.
   */
  async *generate(options: GenerateOptions = {}): AsyncGenerator<number> {
    const { maxTokens = 256, signal, stopTokens = [] } = options;
    if (!(maxTokens >= 0)) {
      throw new RangeError(`Cannot generate: maxTokens must be 0 or more, got ${maxTokens}`);
    }
    const sample = createSampler(options);
    const ends = new Set([...this.#model.endTokens, ...stopTokens]);
    for (let i = 0; i < maxTokens; i++) {
      signal?.throwIfAborted();
      const token = sample(await this.logits({ signal }));
      if (ends.has(token)) return;
      this.#log.append([token], null);
      this.#generatedTokens++;
      yield token;
    }
  }

  /**
   * Asks about what was read. Question and answer join the sequence: fork first to keep them out.
   *
   * A model whose profile has question forms is asked in the form it was trained on; one with a chat
   * template in a turn of the user's, with the text that was read before. Both but for `raw`.
   *
   * @returns The answer in pieces, without the white space before it.
   * @throws {RangeError} If the question does not fit the scope; nothing has been read then.
   * @throws {TypeError} If the chat template cannot be used; says why.
   */
  async *ask(question: string, options: AskOptions = {}): AsyncGenerator<string> {
    this.#assertNotWriting("ask");
    const { tokenizer, profile } = this.#model;
    const chat = options.raw ? null : this.#chat;
    const form = options.raw || !profile ? null : completeQuestion(profile, question);
    const text = form?.text ?? (options.raw ? question : `\n${question}\n`);
    const tokens = chat
      ? this.#encodeTurn(chat, question)
      : tokenizer.encode(text, { special: false, continuation: this.length > 0 });
    this.#checkQuestion(tokens.length);
    if (!chat) this.#begin();
    await this.#readQuestion(tokens, options.signal);
    if (chat) this.#turns = [...this.#turnsNow(), { at: this.length - 1, of: "answered" }];
    let shown = false;
    for await (const piece of this.#write(options, form ?? {})) {
      const visible = shown ? piece : piece.trimStart();
      if (visible === "") continue;
      shown = true;
      yield visible;
    }
  }

  /** Goes on with the text that was read, as it stands. */
  async *continue(options: AskOptions = {}): AsyncGenerator<string> {
    this.#assertNotWriting("continue");
    this.#begin();
    yield* this.#write(options, {});
  }

  /** {@linkcode Session.continue} as a stream: one token per pull, cancelling ends it. */
  readable(options: AskOptions = {}): ReadableStream<string> {
    const text = this.continue(options);
    return new ReadableStream<string>({
      async pull(controller) {
        const { value, done } = await text.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await text.return(undefined);
      },
    }, { highWaterMark: 0 });
  }

  /** Tokens [start, end), a copy. */
  tokens(start: number, end: number): Uint32Array {
    return this.#log.slice(start, end);
  }

  /** The text of tokens [start, end). */
  textOf(start: number, end: number): string {
    return this.#model.tokenizer.decode(this.#log.slice(start, end));
  }

  /** Where a token starts, in UTF-8 bytes of the text that was written to the session. */
  byteOffset(token: number): number {
    return this.#log.byteOffset(token);
  }

  /**
   * A second session with the same past, for a question of its own: the cache's chunks are shared.
   * May follow other rules from here on.
   *
   * The session's writable may be open: its fork has all that was written, up to the last character,
   * and can be asked while the session reads on.
   *
   * @throws {RangeError} If its scope would always read tokens that were forgotten.
   */
  fork(options: ForkOptions = {}): Session {
    const scope = options.scope ?? this.#options.scope;
    const fork = { ...this.#options, onSelect: undefined, ...options, scope };
    return new Session(
      this.#model,
      options.scope ? fork : { ...fork, stepSize: this.stepSize },
      this,
    );
  }

  /**
   * Keeps the sequence in a file, from which {@linkcode Model.restore} goes on with it, to the last bit: what was
   * read, its keys and values, the rules it was read by. A file at a path is replaced at once, when the new one is
   * safe on the disk. Until it is done the session only reads; fork it to write on meanwhile.
   *
   * @param target A path, a `file:` URL, or a stream of bytes.
   * @throws {TypeError} If the session's writable is open; a fork can be saved then.
   * @throws {Error} If it cannot be written; an old file is as it was.
   */
  async save(target: SaveTarget): Promise<void> {
    this.#assertNotWriting("save the session");
    const { scope, stepSize, select, selectLayers, kvFormat } = this;
    const { beyondTrainedLength = false, raw = false } = this.#options;
    const rules = { scope, stepSize, select, selectLayers, kvFormat, beyondTrainedLength, raw };
    this.#saving = true;
    try {
      const parts = { log: this.#log, cache: this.#cache };
      await saveSession(target, this.#model, { rules, turns: this.#turnsNow() }, parts);
    } finally {
      this.#saving = false;
    }
  }

  /**
   * Forgets all tokens from `length` on.
   *
   * @throws {RangeError} If `length` is not within the sequence, or the local tokens before it were
   * forgotten; nothing has changed then.
   */
  truncate(length: number): void {
    this.#assertNotWriting("truncate");
    if (!Number.isSafeInteger(length) || length < 0 || length > this.length) {
      throw new RangeError(
        `Cannot truncate: the length must be an integer from 0 to ${this.length} tokens, got ${length}`,
      );
    }
    if (this.#cache.length >= length) {
      assertRemembered(`truncate to ${length} tokens`, this.#cache.store, this.scope, length);
      this.#cache.truncate(length);
      this.#history.truncate(length);
      this.#toldForgotten = this.#cache.store.forgottenTokens;
      this.#hiddenIsNewest = false;
    }
    this.#log.truncate(length);
    this.#turns = this.#turnsNow();
  }

  /** Frees the cache's chunks that no fork uses. */
  [Symbol.dispose](): void {
    this.#free();
  }

  #free(): void {
    this.#hidden[Symbol.dispose]();
    this.#cache[Symbol.dispose]();
    this.#spill?.[Symbol.dispose]();
    this.#spill = null;
  }

  /** Text from tokens, until a stop rule or token. */
  async *#write(options: AskOptions, rules: StopRules): AsyncGenerator<string> {
    const stops = options.stop ?? [];
    const stop = new StopStrings({
      before: [...rules.before ?? [], ...stops.filter((s) => typeof s === "string")],
      after: rules.after,
    });
    const stopTokens = stops.filter((s) => typeof s === "number");
    const decoder = new TokenDecoder(this.#model.tokenizer, { continuation: true });
    for await (const token of this.generate({ ...options, stopTokens })) {
      const { text, stopped } = stop.push(decoder.push(token));
      if (text !== "") yield text;
      if (stopped) return;
    }
    const { text, stopped } = stop.push(decoder.flush());
    const rest = stopped ? text : text + stop.flush();
    if (rest !== "") yield rest;
  }

  /** Adds text to the sequence, unread; gives the length before it. */
  #accept({ tokens, byteLength, anchors }: EncodedTokens): number {
    // A template's markup is tokens, but no bytes of any text.
    const some = byteLength > 0 || tokens.length > 0;
    if (some) this.#begin();
    const { length } = this;
    if (some) this.#log.append(tokens, byteLength, anchors);
    return length;
  }

  /** The model's manners, where this session minds them. */
  get #chat(): Chat | null {
    return this.#options.raw ? null : this.#model.chat;
  }

  /** The turns whose tokens are not forgotten. */
  #turnsNow(): readonly Turn[] {
    return this.#turns.filter(({ at }) => at < this.length);
  }

  /** What the template puts before the user's text here; null within a turn of the user's. */
  #markupBefore(chat: Chat): string | null {
    const parts = chat.parts();
    const turn = this.#turnsNow().at(-1);
    if (turn?.of === "user") return null;
    if (turn === undefined) return parts.opening;
    if (parts.next !== null) return parts.next;
    throw new TypeError(
      "Cannot go on after an answer: the model's chat template has one turn only; fork the session " +
        "before asking, or set raw",
    );
  }

  /** Begins a turn of the user's if none has begun; gives what is to be read before its text. */
  #openTurn(): string {
    const markup = this.#chat ? this.#markupBefore(this.#chat) : null;
    if (markup === null) return "";
    this.#turns = [...this.#turnsNow(), { at: this.length, of: "user" }];
    return markup;
  }

  /**
   * A question and all that the template puts around it. Encoded apart from the text before it:
   * questions are steps of their own.
   */
  #encodeTurn(chat: Chat, question: string): Uint32Array {
    const before = this.#markupBefore(chat) ?? QUESTION_SEPARATOR;
    const encoder = new TokenEncoder(this.#model.tokenizer, {
      special: false,
      continuation: this.length > 0,
    });
    encoder.pushMarkup(before);
    const start = encoder.push(question).tokens;
    encoder.pushMarkup(chat.parts().closing);
    return Uint32Array.from([...start, ...encoder.flush().tokens]);
  }

  /** Puts the beginning-of-text token in front of the first text. */
  #begin(): void {
    const { addBos, bosToken } = this.#model.tokenizer;
    // A template brings its own.
    if (this.#turns.length > 0 || this.length > 0 || !addBos || bosToken === null) return;
    this.#log.append([bosToken], null);
  }

  /** Reads the steps that are full, keeping the last token back; `accepted` tokens were there before. */
  async #readFullSteps(accepted: number, signal?: AbortSignal): Promise<void> {
    try {
      while (this.#log.length - this.#cache.length > this.stepSize) {
        const end = this.#cache.length + this.stepSize;
        await this.#step(end, "read", signal, spareTokens(this.stepSize));
      }
    } catch (error) {
      // The caller hears that these were not taken; what was read stays.
      this.#log.truncate(Math.max(accepted, this.#cache.length));
      throw error;
    }
  }

  /** Reads what is pending before token `end`, in steps. */
  async #drain(end: number, signal?: AbortSignal): Promise<void> {
    while (this.#cache.length < end) {
      await this.#step(Math.min(end, this.#cache.length + this.stepSize), "read", signal);
    }
  }

  /** A question's tokens in one step, without the last: that is read when its output is wanted. */
  async #readQuestion(tokens: ArrayLike<number>, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.#checkQuestion(tokens.length);
    await this.#drain(this.#log.length, signal);
    if (tokens.length === 0) return;
    const start = this.#log.length;
    this.#log.append(tokens, null);
    try {
      if (tokens.length > 1) await this.#step(this.#log.length - 1, "question", signal);
    } catch (error) {
      // A question is asked wholly or not at all.
      this.truncate(start);
      throw error;
    }
  }

  /** Reads what is pending, the last token alone, and keeps that one's output. */
  async #readNewest(signal?: AbortSignal): Promise<void> {
    const { length } = this.#log;
    if (length === 0) {
      throw new RangeError("Cannot compute logits: at least 1 token must have been read, got 0");
    }
    if (this.#cache.length === length) {
      if (this.#hiddenIsNewest) return;
      this.#cache.truncate(length - 1);
      this.#history.truncate(length - 1);
    }
    await this.#drain(length - 1, signal);
    await this.#step(length, "generate", signal);
  }

  /** Reads the tokens up to `end` in one pass of the model; `spare` more must find room, too. */
  async #step(end: number, phase: StepPhase, signal?: AbortSignal, spare = 0): Promise<void> {
    await this.#surviving(() => this.#readStep(end, phase, signal, spare));
  }

  /** Does some work; once more on another machine, if this one's device is lost meanwhile. */
  async #surviving<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const { backend, fallback } = this.#model;
      if (!fallback) throw error;
      // A lost device fails in many ways before it is known to be lost.
      const why = error instanceof DeviceLostError ? error : await backend.sync().then(
        () => null,
        (reason) => reason instanceof DeviceLostError ? reason : null,
      );
      if (why === null) throw error;
      await this.#moveTo(await fallback(), why);
      return await work();
    }
  }

  /** Reads everything again with the same model on another machine, in the same steps. */
  async #moveTo(model: SessionModel, why: DeviceLostError): Promise<void> {
    const steps = this.#history.steps();
    this.#free();
    this.#model = model;
    const { cache, spill } = openCache(model, this.#options, this.scope);
    this.#cache = cache;
    this.#spill = spill;
    this.#hidden = model.backend.tensor(1, model.llama.config.hiddenSize);
    this.#hiddenIsNewest = false;
    this.#toldForgotten = 0;
    this.#history = new StepHistory();
    const again = steps.at(-1)?.end ?? 0;
    this.#options.onDeviceLost?.(
      `${why.message}; ${model.backend.description} goes on, and reads ${again} tokens again`,
    );
    for (const { end, phase } of steps) await this.#readStep(end, phase, undefined, 0, true);
  }

  /** @param isAgain Whether all that is to be told of the step was told. */
  async #readStep(
    end: number,
    phase: StepPhase,
    signal?: AbortSignal,
    spare = 0,
    isAgain = false,
  ): Promise<void> {
    signal?.throwIfAborted();
    const { llama, backend } = this.#model;
    const start = this.#cache.length;
    const selects = this.select === "always" || (this.select === "ask" && phase !== "read");
    const bound = Math.min(scopeBound(this.scope, end - start, selects), end);
    this.#assertTrained(bound, `Cannot read tokens ${start} to ${end}`);

    const selections: { readonly layer: number; readonly tokens: Promise<Uint32Array[]> }[] = [];
    const onSelect = isAgain ? undefined : this.#options.onSelect;
    const wantsHidden = phase === "generate";
    const began = await llama.inTurn(async () => {
      const began = performance.now();
      await this.#reserve(end - start, spare);
      const hidden = await llama.forward(this.#log.slice(start, end), this.#cache, {
        scope: this.scope,
        selects,
        selectLayers: this.selectLayers,
        wantsHidden,
        onAttention: onSelect && ((layer, { selection }) => {
          if (selection) selections.push({ layer, tokens: selection.tokens() });
        }),
      });
      const last = end - start - 1;
      if (wantsHidden) backend.copy(this.#hidden, backend.rows(hidden, last, last + 1));
      return began;
    });
    this.#hiddenIsNewest = wantsHidden;
    this.#readTokens += end - start;
    // Whoever wanted the output reads it, which waits: on a GPU waiting twice takes twice as long.
    if (!wantsHidden || isAgain) await backend.sync();

    this.#history.push({ end, phase });
    const step = this.#steps++;
    this.#largestScope = Math.max(this.#largestScope, bound);
    this.#seconds[phase] += (performance.now() - began) / 1000;
    for (const { layer, tokens } of selections) {
      const spans = (await tokens).map((set) => toSpans(set, (token) => this.byteOffset(token)));
      onSelect!({ step, phase, layer, length: end, spans });
    }
    await this.#breathe(signal);
  }

  /** Makes room for a step, and tells what was forgotten for it. */
  async #reserve(count: number, spare: number): Promise<void> {
    try {
      // What a step that failed half-way left behind does not count as read.
      this.#cache.truncate(this.#cache.length);
      await this.#cache.reserve(count, spare);
    } finally {
      this.#tellForgotten(this.#toldForgotten);
    }
  }

  /** Tells what was forgotten, if it is more than was known. */
  #tellForgotten(known: number): void {
    const { store } = this.#cache;
    if (store.forgottenTokens > known) this.#options.onForget?.(store.forgotten);
    this.#toldForgotten = store.forgottenTokens;
  }

  /** Gives timers and signals a turn now and then: steps follow one another without waiting. */
  async #breathe(signal?: AbortSignal): Promise<void> {
    if (performance.now() - this.#lastBreath < BREATH_MILLISECONDS) return;
    await new Promise((resolve) => setTimeout(resolve, 0));
    this.#lastBreath = performance.now();
    signal?.throwIfAborted();
  }

  /** Refuses at once a scope that will not fit, where its size is known. */
  #checkScope(): void {
    const selects = this.select !== "never";
    const bound = scopeBound(this.scope, this.stepSize, selects);
    if (bound !== Infinity) this.#assertTrained(bound, "Cannot open a session");
  }

  #checkQuestion(tokens: number): void {
    const bound = scopeBound(this.scope, tokens, this.select !== "never");
    if (bound !== Infinity) this.#assertTrained(bound, `Cannot ask a question of ${tokens} tokens`);
  }

  #assertTrained(bound: number, attempt: string): void {
    const { trainedLength } = this.#model.llama.config;
    if (bound <= trainedLength || this.#options.beyondTrainedLength) return;
    const { globalSize, localSize, topK, maxSpans, spanSize } = this.scope;
    const spans = topK > 0 && this.select !== "never" ? maxSpans * spanSize : 0;
    const room = trainedLength - globalSize - spans;
    const advice = room > 0
      ? `beside ${globalSize} global and ${spans} selected tokens, the local region (${localSize}), a ` +
        `step (${this.stepSize}) and a question may have at most ${room}`
      : `${globalSize} global and ${spans} selected tokens leave no room for local ones`;
    throw new RangeError(
      `${attempt}: attention must read at most the trained length of ${trainedLength} tokens at ` +
        `once, got ${bound}; ${advice}`,
    );
  }

  #assertNotWriting(attempt: string): void {
    if (this.#encoder === null && !this.#saving) return;
    throw new TypeError(
      this.#saving
        ? `Cannot ${attempt}: the session must be saved first, which it is just now; or fork the session`
        : `Cannot ${attempt}: the session's writable must be closed first, it is open; or fork the session`,
    );
  }
}
