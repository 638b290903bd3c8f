// Against a server of our own on this machine, which answers as llama.cpp's does.

import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import type { EvalCase, EvalResult } from "../src/eval/case.ts";
import { EvalAbort, runCases } from "../src/eval/run.ts";
import { serverAnswerer } from "../src/eval/server.ts";

interface Request {
  readonly path: string;
  readonly key?: string;
  readonly body: Readonly<Record<string, unknown>>;
}

const MOST = 200; // characters of its context
const requests: Request[] = [];
const server = createServer((request, response) => {
  void bodyOf(request).then((text) => {
    const body = JSON.parse(text) as { readonly prompt?: string; readonly messages?: unknown[] };
    requests.push({ path: request.url!, key: request.headers.authorization, body });
    const reply = (status: number, value: unknown) => {
      response.statusCode = status;
      response.end(JSON.stringify(value));
    };
    if (request.url === "/locked/v1/completions") return reply(401, { error: "no key" });
    if (request.url === "/odd/v1/completions") return reply(200, { choices: [] });
    if (request.url === "/slow/v1/completions") return;
    const prompt = body.prompt ?? (body.messages![0] as { readonly content: string }).content;
    if (prompt.length > MOST) {
      return reply(400, { error: { message: "the request exceeds the available context size" } });
    }
    const answer = /key is (\d+)/.exec(prompt)?.[1] ?? "unknown";
    reply(200, {
      choices: [body.prompt === undefined ? { message: { content: answer } } : { text: answer }],
      usage: { prompt_tokens: prompt.length },
    });
  });
});
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
after(() => {
  server.close();
  server.closeAllConnections();
});
const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) text += chunk as string;
  return text;
}

function createCase(id: string, filler = ""): EvalCase {
  return {
    id,
    task: "pass key",
    at: { length: 100 },
    context: () => ["Long ago. The pass ", "key is 71432. ", filler],
    question: "\nWhat is it?",
    answerPrefix: " It is",
    maxTokens: 9,
    expected: ["71432"],
    score: (prediction) => Number(prediction.includes("71432")),
    stop: ["\n"],
  };
}

test("a prompt is sent whole, to be answered greedily, with the key and the model's name", async () => {
  requests.length = 0;
  using answerer = serverAnswerer({ url: `${base}/v1/completions`, model: "tiny", apiKey: "s3" });
  const { prediction, tokens } = await answerer.answer(createCase("a"));
  const prompt = "Long ago. The pass key is 71432. \nWhat is it? It is";
  deepEqual([answerer.name, prediction, tokens], ["tiny", "71432", prompt.length]);
  deepEqual(requests, [{
    path: "/v1/completions",
    key: "Bearer s3",
    body: { model: "tiny", prompt, max_tokens: 9, temperature: 0, stream: false, stop: ["\n"] },
  }]);
});

test("an address without an endpoint is asked in a chat", async () => {
  for (const url of [base, `${base}/`, `${base}/v1`, `${base}/v1/chat/completions/`]) {
    requests.length = 0;
    using answerer = serverAnswerer({ url });
    equal((await answerer.answer(createCase("a"))).prediction, "71432");
    deepEqual([requests[0]!.path, requests[0]!.key], ["/v1/chat/completions", undefined]);
    equal((requests[0]!.body["messages"] as unknown[]).length, 1);
    ok(!("model" in requests[0]!.body));
  }
  throws(() => serverAnswerer({ url: "localhost" }), /must be an http\(s\) URL, got "localhost"/);
});

test("a text that the server refuses is a row with its error, and the run goes on", async () => {
  using answerer = serverAnswerer({ url: base });
  const cases = [createCase("short"), createCase("long", "x".repeat(MOST)), createCase("last")];
  const rows: EvalResult[] = [];
  for await (const row of runCases({ cases, answerers: [answerer] })) rows.push(row);
  deepEqual(rows.map(({ id, score }) => [id, score]), [["short", 1], ["long", 0], ["last", 1]]);
  match(rows[1]!.error!, /status 400: .*exceeds the available context size/);
});

test("no server, no key, no such path end the run; a strange answer does not", async () => {
  const ask = (url: string, timeoutSeconds?: number) =>
    serverAnswerer({ url, timeoutSeconds }).answer(createCase("a"));
  await rejects(ask("http://127.0.0.1:9/v1"), EvalAbort);
  await rejects(ask(`${base}/locked/v1/completions`), /Cannot ask .*status 401: .*no key/);
  const strange: unknown = await ask(`${base}/odd/v1/completions`).catch((error) => error);
  ok(strange instanceof Error && !(strange instanceof EvalAbort));
  match(strange.message, /must have a choice with a text/);
  await rejects(ask(`${base}/slow/v1/completions`, 0.2), /no answer within 0.2 s/);
});
