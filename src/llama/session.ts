/**
 * A sequence being read and written: prefill, ask, generate, fork.
 *
 * @module
 */

import type { KvFormat } from "../backend/backend.ts";
import { checkScores } from "../backend/checks.ts";
import type { ScopeConfig } from "../reattention/scope.ts";
import { TokenDecoder } from "../text/token_decoder.ts";
import { TokenEncoder } from "../text/token_encoder.ts";
import type { EncodedTokens } from "../text/token_places.ts";
import type { Chat } from "./chat.ts";
import { completeQuestion } from "./profile.ts";
import { nextToken } from "./next_token.ts";
import { createSampler } from "./sampler.ts";
import { Sequence } from "./sequence.ts";
import { openSession, type RestoreSource, saveSession, type SaveTarget } from "./session_file.ts";
import type { Turn } from "./session_header.ts";
import type { SessionModel } from "./session_model.ts";
import {
  type AskOptions,
  type ForkOptions,
  type GenerateOptions,
  restoredOptions,
  type RestoreOptions,
  type SessionOptions,
  type SessionStats,
} from "./session_options.ts";
import { resolveRules } from "./session_rules.ts";
import { type StopRules, StopStrings } from "./stop_strings.ts";
import { encodeTurn, markupBefore, turnsWithin } from "./turns.ts";

/** Longest part of a write that is encoded at once, in UTF-16 units: bounds memory for writes of any size. */
const ENCODE_UNITS = 1 << 16;

/** UTF-16 units that are collected before they are encoded: how far reading lags behind writing. */
const ENCODE_BATCH = 2048;

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

  readonly #options: SessionOptions;
  readonly #sequence: Sequence;
  #turns: readonly Turn[] = []; // of a model with a chat template, ascending
  #encoder: TokenEncoder | null = null; // of the open writable
  #saving = false;
  #generatedTokens = 0;

  /** Made by {@linkcode Model.session}, {@linkcode Model.restore} and {@linkcode Session.fork}. */
  constructor(model: SessionModel, options: SessionOptions = {}, parent: Session | null = null) {
    const rules = resolveRules(model, options);
    this.scope = rules.scope;
    this.stepSize = rules.stepSize;
    this.select = rules.select;
    this.selectLayers = rules.selectLayers;
    checkScores("open a session", this.scope.scores, options.spill !== undefined);
    this.#options = options;
    this.#sequence = new Sequence(model, options, rules, parent && parent.#sequence);
    if (parent) {
      this.#turns = parent.#turns;
      // What the writable holds back, so that a question sees the newest line of a slow source.
      if (parent.#encoder) this.#accept(parent.#encoder.fork().flush());
    }
    this.kvFormat = this.#sequence.kvFormat;
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
        await session.#sequence.restore(file);
        session.#turns = file.turns;
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
    return this.#sequence.log.length;
  }

  /** What was done so far, and what it costs. */
  get stats(): SessionStats {
    const { length, readTokens, ...others } = this.#sequence.stats;
    return { length, readTokens, generatedTokens: this.#generatedTokens, ...others };
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
    if (options.phase === "question") await this.#sequence.readQuestion(tokens, options.signal);
    else {
      options.signal?.throwIfAborted();
      const { length } = this;
      this.#sequence.log.append(tokens, null);
      await this.#sequence.readFullSteps(length, options.signal);
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
        await this.#sequence.readFullSteps(accepted, signal);
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
    return await this.#sequence.expect((backend, logits) => backend.read(logits), options.signal);
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
    const sampler = createSampler(options);
    const ends = new Set([...this.#model.endTokens, ...stopTokens]);
    for (let i = 0; i < maxTokens; i++) {
      signal?.throwIfAborted();
      this.#assertNotWriting("compute logits");
      const token = await this.#sequence.expect(
        (backend, logits) => nextToken(backend, logits, sampler),
        signal,
      );
      if (ends.has(token)) return;
      this.#sequence.log.append([token], null);
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
    const continuation = this.length > 0;
    const tokens = chat
      ? encodeTurn(tokenizer, chat, question, { turns: this.#turnsNow(), continuation })
      : tokenizer.encode(text, { special: false, continuation });
    this.#sequence.checkQuestion(tokens.length);
    if (!chat) this.#begin();
    await this.#sequence.readQuestion(tokens, options.signal);
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
    return this.#sequence.log.slice(start, end);
  }

  /** The text of tokens [start, end). */
  textOf(start: number, end: number): string {
    return this.#model.tokenizer.decode(this.tokens(start, end));
  }

  /** Where a token starts, in UTF-8 bytes of the text that was written to the session. */
  byteOffset(token: number): number {
    return this.#sequence.log.byteOffset(token);
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
      const state = { rules, turns: this.#turnsNow() };
      await saveSession(target, this.#model, state, this.#sequence.parts);
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
    this.#sequence.truncate(length);
    this.#turns = this.#turnsNow();
  }

  /** Frees the cache's chunks that no fork uses. */
  [Symbol.dispose](): void {
    this.#sequence[Symbol.dispose]();
  }

  /** Whoever reads: another than at first, once its device was lost. */
  get #model(): SessionModel {
    return this.#sequence.model;
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
    if (some) this.#sequence.log.append(tokens, byteLength, anchors);
    return length;
  }

  /** The model's manners, where this session minds them. */
  get #chat(): Chat | null {
    return this.#options.raw ? null : this.#model.chat;
  }

  /** The turns whose tokens are not forgotten. */
  #turnsNow(): readonly Turn[] {
    return turnsWithin(this.#turns, this.length);
  }

  /** Begins a turn of the user's if none has begun; gives what is to be read before its text. */
  #openTurn(): string {
    const markup = this.#chat ? markupBefore(this.#chat, this.#turnsNow()) : null;
    if (markup === null) return "";
    this.#turns = [...this.#turnsNow(), { at: this.length, of: "user" }];
    return markup;
  }

  /** Puts the beginning-of-text token in front of the first text. */
  #begin(): void {
    const { addBos, bosToken } = this.#model.tokenizer;
    // A template brings its own.
    if (this.#turns.length > 0 || this.length > 0 || !addBos || bosToken === null) return;
    this.#sequence.log.append([bosToken], null);
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
