/**
 * Cases answered by a server with an OpenAI-compatible endpoint, `/v1/chat/completions` or
 * `/v1/completions`: llama.cpp's, Ollama's and others.
 *
 * @module
 */

import type { Answered, Answerer, AnswerOptions } from "./answerer.ts";
import { type EvalCase, lengthOf } from "./case.ts";
import { EvalAbort } from "./run.ts";

/** Which server, and how it is asked. */
export interface ServerOptions {
  /** Where it takes requests; without a path to an endpoint, `/v1/chat/completions` is added. */
  readonly url: string;
  /** Its name for the model. Default: none is sent, so that the server chooses. */
  readonly model?: string;
  /** Sent as a bearer token. */
  readonly apiKey?: string;
  /** The longest wait for an answer. Default 600. */
  readonly timeoutSeconds?: number;
}

/** Characters of a server's complaint that are kept. */
const COMPLAINT = 300;
/** Statuses with which every case would fail. */
const FATAL = [401, 403, 404, 405];

/**
 * A server as a method. Context, question and the answer's beginning are one prompt, or one message
 * of the user; answers are greedy. What the server refuses, such as a prompt longer than its
 * context, is an error of the row; that it is not there ends the run.
 *
 * @throws {TypeError} If the URL is none.
 */
export function serverAnswerer(options: ServerOptions): Answerer {
  const { model, apiKey, timeoutSeconds = 600 } = options;
  const url = endpointOf(options.url);
  const isChat = url.pathname.endsWith("/chat/completions");
  return {
    name: model ?? url.host,
    cost: lengthOf,
    async answer(task: EvalCase, { signal }: AnswerOptions = {}): Promise<Answered> {
      let prompt = "";
      for await (const text of task.context()) prompt += text;
      prompt += task.question + task.answerPrefix;
      const timeout = AbortSignal.timeout(timeoutSeconds * 1000);
      const body = {
        ...(model === undefined ? {} : { model }),
        ...(isChat ? { messages: [{ role: "user", content: prompt }] } : { prompt }),
        max_tokens: task.maxTokens,
        temperature: 0,
        stream: false,
        ...(task.stop === undefined ? {} : { stop: task.stop }),
      };
      const { status, text } = await post(url, body, {
        apiKey,
        signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
      }).catch((cause) => {
        signal?.throwIfAborted();
        if (timeout.aborted) throw new Error(`no answer within ${timeoutSeconds} s`, { cause });
        throw new EvalAbort(`Cannot ask ${url}: ${reasonOf(cause)}`, { cause });
      });
      const complaint = `the server answered with status ${status}: ${clip(text)}`;
      if (FATAL.includes(status)) throw new EvalAbort(`Cannot ask ${url}: ${complaint}`);
      if (status !== 200) throw new Error(complaint);
      const { prediction, tokens } = readAnswer(text);
      return { prediction, tokens };
    },
    [Symbol.dispose]() {},
  };
}

function endpointOf(text: string): URL {
  if (!URL.canParse(text) || !/^https?:/.test(text)) {
    throw new TypeError(`Cannot ask a server: its address must be an http(s) URL, got "${text}"`);
  }
  const url = new URL(text);
  if (/\/completions\/?$/.test(url.pathname)) {
    url.pathname = url.pathname.replace(/\/$/, "");
  } else {
    const path = url.pathname.replace(/\/$/, "");
    url.pathname = `${path}${path.endsWith("/v1") ? "" : "/v1"}/chat/completions`;
  }
  return url;
}

async function post(
  url: URL,
  body: object,
  { apiKey, signal }: { readonly apiKey?: string; readonly signal: AbortSignal },
): Promise<{ readonly status: number; readonly text: string }> {
  const response = await fetch(url, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }),
    },
    body: JSON.stringify(body),
    signal,
  });
  return { status: response.status, text: await response.text() };
}

/** The text of an answer's first choice, and what the server counted as the prompt. */
function readAnswer(text: string): Answered {
  interface Reply {
    readonly choices?: readonly {
      readonly text?: unknown;
      readonly message?: { readonly content?: unknown } | null;
    }[];
    readonly usage?: { readonly prompt_tokens?: unknown } | null;
  }
  let reply: Reply | null;
  try {
    reply = JSON.parse(text) as Reply | null;
  } catch {
    throw new Error(`the server's answer must be JSON, got ${clip(text)}`);
  }
  const [choice] = reply?.choices ?? [];
  const prediction = choice?.message?.content ?? choice?.text;
  if (typeof prediction !== "string") {
    throw new Error(`the server's answer must have a choice with a text, got ${clip(text)}`);
  }
  const tokens = reply?.usage?.prompt_tokens;
  return { prediction, tokens: typeof tokens === "number" ? tokens : 0 };
}

function clip(text: string): string {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length <= COMPLAINT ? line : `${line.slice(0, COMPLAINT)}…`;
}

/** Runtimes say what went wrong in the cause, or its cause. */
function reasonOf(error: unknown): string {
  const { message, cause } = error as { readonly message?: string; readonly cause?: unknown };
  const deeper = cause instanceof Error && cause.message !== "" ? `: ${cause.message}` : "";
  return `${message ?? String(error)}${deeper}`;
}
