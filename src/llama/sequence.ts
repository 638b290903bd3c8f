/**
 * A sequence's tokens, and the passes of the model in which they are read.
 *
 * @module
 */

import type { Backend, KvFormat, Tensor } from "../backend/backend.ts";
import { DeviceLostError } from "../errors.ts";
import type { KvCache } from "../reattention/kv_cache.ts";
import { scopeBound } from "../reattention/scope.ts";
import { TokenLog } from "../text/token_log.ts";
import { breathe } from "./breath.ts";
import { type StepPhase, toSpans } from "./selection_record.ts";
import type { SavedSession, SessionParts } from "./session_file.ts";
import {
  assertRemembered,
  keptEnds,
  openCache,
  type SharedSpill,
  spareTokens,
} from "./session_memory.ts";
import type { SessionModel } from "./session_model.ts";
import type { SessionOptions, SessionStats } from "./session_options.ts";
import { checkBound, checkQueries, type SessionRules } from "./session_rules.ts";
import { StepHistory } from "./step_history.ts";

/**
 * The tokens of a session, of which the first were read: their keys and values are in the cache. The
 * others are pending; the newest is read alone, when its output is wanted.
 */
export class Sequence implements Disposable {
  /** Every token. */
  readonly log: TokenLog;

  #model: SessionModel; // another one once its device was lost
  readonly #options: SessionOptions;
  readonly #rules: SessionRules;
  #cache: KvCache; // the tokens that were read
  #history = new StepHistory(); // how they were
  #hidden: Tensor; // [1, hiddenSize]
  #hiddenIsNewest = false;
  #spill: SharedSpill | null = null;
  #toldForgotten = 0; // tokens, as of the last telling
  #steps = 0;
  #readTokens = 0;
  #largestScope = 0;
  readonly #seconds: Record<StepPhase, number> = { read: 0, question: 0, generate: 0 };

  /**
   * An empty sequence, or one with a parent's past.
   *
   * @throws {TypeError} If the cache cannot be as `options` have it.
   * @throws {RangeError} If it would always read what its parent has forgotten.
   */
  constructor(
    model: SessionModel,
    options: SessionOptions,
    rules: SessionRules,
    parent: Sequence | null = null,
  ) {
    this.#model = model;
    this.#options = options;
    this.#rules = rules;
    if (parent) assertRemembered("fork", parent.#cache.store, rules.scope, parent.#cache.length);
    this.#hidden = model.backend.tensor(1, model.llama.config.hiddenSize);
    try {
      if (parent) {
        this.#cache = parent.#cache.fork(keptEnds(rules.scope));
        this.log = parent.log.fork();
        this.#history = parent.#history.fork();
        this.#spill = parent.#spill?.share() ?? null;
      } else {
        const { cache, spill } = openCache(model, options, rules.scope);
        this.#cache = cache;
        this.log = new TokenLog(model.tokenizer.rules.tokenLength);
        this.#spill = spill;
      }
    } catch (error) {
      this.#hidden[Symbol.dispose]();
      throw error;
    }
    this.#toldForgotten = this.#cache.store.forgottenTokens;
  }

  /** What reads it: another than at first, once the device was lost. */
  get model(): SessionModel {
    return this.#model;
  }

  /** How keys and values are kept. */
  get kvFormat(): KvFormat {
    return this.#cache.store.format;
  }

  /** What a file of it holds. */
  get parts(): SessionParts {
    return { log: this.log, cache: this.#cache };
  }

  /** What was done so far, and what it costs. */
  get stats(): Omit<SessionStats, "generatedTokens"> {
    const { store } = this.#cache;
    return {
      length: this.log.length,
      readTokens: this.#readTokens,
      readSeconds: this.#seconds.read,
      questionSeconds: this.#seconds.question,
      generateSeconds: this.#seconds.generate,
      cacheBytes: store.byteLength,
      spilledTokens: store.spilledTokens,
      forgottenTokens: store.forgottenTokens,
      forgotten: store.forgotten,
      bytesPerToken: store.bytesPerToken,
      largestScope: this.#largestScope,
    };
  }

  /**
   * Takes over what a file holds, in place of nothing.
   *
   * @throws {SessionFileError} If the file is damaged; the sequence is of no use then.
   * @throws {OutOfMemoryError} If there is no room for the cache.
   * @throws {RangeError} If what was forgotten would always be read.
   */
  async restore(file: SavedSession): Promise<void> {
    await file.fill(this.parts);
    const { store, length } = this.#cache;
    assertRemembered("restore the session", store, this.#rules.scope, length);
    this.#history.assume(length, this.#rules.stepSize);
    this.#tellForgotten(file.forgottenTokens);
  }

  /**
   * Reads the steps that are full, keeping the last token back; `accepted` tokens were there before.
   *
   * @throws {OutOfMemoryError} If the cache cannot grow; tokens that are not read are gone then.
   */
  async readFullSteps(accepted: number, signal?: AbortSignal): Promise<void> {
    const { stepSize } = this.#rules;
    try {
      while (this.log.length - this.#cache.length > stepSize) {
        await this.#step(this.#cache.length + stepSize, "read", signal, spareTokens(stepSize));
      }
    } catch (error) {
      // The caller hears that these were not taken; what was read stays.
      this.log.truncate(Math.max(accepted, this.#cache.length));
      throw error;
    }
  }

  /**
   * Reads a question's tokens in one step, without the last: that is read when its output is wanted.
   *
   * @throws {RangeError} If they do not fit the scope; nothing has been read then.
   */
  async readQuestion(tokens: ArrayLike<number>, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.checkQuestion(tokens.length);
    await this.#drain(this.log.length, signal);
    if (tokens.length === 0) return;
    const start = this.log.length;
    this.log.append(tokens, null);
    try {
      if (tokens.length > 1) await this.#step(this.log.length - 1, "question", signal);
    } catch (error) {
      // A question is asked wholly or not at all.
      this.truncate(start);
      throw error;
    }
  }

  /** @throws {RangeError} If a question of so many tokens does not fit the scope. */
  checkQuestion(tokens: number): void {
    checkQueries(this.#rules, tokens, `Cannot ask a question of ${tokens} tokens`);
  }

  /**
   * Reads what is pending, and uses the logits f32[1, vocabSize] of what the model expects next.
   *
   * @throws {RangeError} If there is no token.
   */
  async expect<T>(
    use: (backend: Backend, logits: Tensor) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    return await this.#surviving(async () => {
      await this.#readNewest(signal);
      const { backend, llama } = this.#model;
      const began = performance.now();
      using logits = backend.tensor(1, llama.config.vocabSize);
      llama.logits(logits, this.#hidden);
      const used = await use(backend, logits);
      this.#seconds.generate += (performance.now() - began) / 1000;
      return used;
    });
  }

  /**
   * Forgets all tokens from `length` on.
   *
   * @throws {RangeError} If `length` is not within the sequence, or the local tokens before it were
   * forgotten; nothing has changed then.
   */
  truncate(length: number): void {
    if (!Number.isSafeInteger(length) || length < 0 || length > this.log.length) {
      throw new RangeError(
        `Cannot truncate: the length must be an integer from 0 to ${this.log.length} tokens, got ${length}`,
      );
    }
    if (this.#cache.length >= length) {
      const { store } = this.#cache;
      assertRemembered(`truncate to ${length} tokens`, store, this.#rules.scope, length);
      this.#cache.truncate(length);
      this.#history.truncate(length);
      this.#toldForgotten = store.forgottenTokens;
      this.#hiddenIsNewest = false;
    }
    this.log.truncate(length);
  }

  /** Frees the cache's chunks that no fork uses. */
  [Symbol.dispose](): void {
    this.#hidden[Symbol.dispose]();
    this.#cache[Symbol.dispose]();
    this.#spill?.[Symbol.dispose]();
    this.#spill = null;
  }

  /** Reads what is pending before token `end`, in steps. */
  async #drain(end: number, signal?: AbortSignal): Promise<void> {
    while (this.#cache.length < end) {
      const next = Math.min(end, this.#cache.length + this.#rules.stepSize);
      await this.#step(next, "read", signal);
    }
  }

  /** Reads what is pending, the last token alone, and keeps that one's output. */
  async #readNewest(signal?: AbortSignal): Promise<void> {
    const { length } = this.log;
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
    this[Symbol.dispose]();
    this.#model = model;
    const { cache, spill } = openCache(model, this.#options, this.#rules.scope);
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
    const { scope, select, selectLayers } = this.#rules;
    const start = this.#cache.length;
    const selects = select === "always" || (select === "ask" && phase !== "read");
    const bound = Math.min(scopeBound(scope, end - start, selects), end);
    checkBound(this.#rules, bound, `Cannot read tokens ${start} to ${end}`);

    const selections: { readonly layer: number; readonly tokens: Promise<Uint32Array[]> }[] = [];
    const onSelect = isAgain ? undefined : this.#options.onSelect;
    const wantsHidden = phase === "generate";
    const began = await llama.inTurn(async () => {
      const began = performance.now();
      await this.#reserve(end - start, spare);
      const hidden = await llama.forward(this.log.slice(start, end), this.#cache, {
        scope,
        selects,
        selectLayers,
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
      const spans = (await tokens).map((set) => toSpans(set, (t) => this.log.byteOffset(t)));
      onSelect!({ step, phase, layer, length: end, spans });
    }
    await breathe(signal);
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
}
