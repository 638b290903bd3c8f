// Instruct models without meaning: real tokenizers and templates, weights of zeros, and a script in
// place of what the weights would say. What counts is which tokens are read.

import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { FileWriter } from "../bench/support/file_writer.ts";
import { sizeOf, type Value, writeGguf } from "../bench/support/gguf_writer.ts";
import { fromBytes } from "../src/files/byte_source.ts";
import { summarizeModel } from "../src/cli/inspect.ts";
import { answerMode, findChatTemplate } from "../src/llama/chat.ts";
import { loadModel, type Model } from "../src/llama/load.ts";
import { openModelFiles } from "../src/llama/model_files.ts";
import type { Session } from "../src/llama/session.ts";
import { type ChatMessage, renderChat } from "../src/text/chat_template.ts";
import type { TokenizerMetadata } from "../src/text/gguf_tokenizer.ts";
import { savedBytes } from "./support/session_files.ts";
import { missing, readJson } from "./support/shared.ts";
import { metadataFrom, metadataOf, missingTokenizer, sharedText } from "./support/tokenizers.ts";

const folder = mkdtempSync(join(tmpdir(), "reattention-chat-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const HIDDEN = 32;

/** Writes a model of one layer, all weights zero, around a tokenizer and a template. */
async function writeModel(
  name: string,
  tokenizer: TokenizerMetadata,
  more: Readonly<Record<string, Value>>,
): Promise<string> {
  const tokens = tokenizer.get("tokenizer.ggml.tokens") as string[];
  const metadata: Record<string, Value> = {
    "general.architecture": { string: "llama" },
    "llama.context_length": { u32: 512 },
    "llama.embedding_length": { u32: HIDDEN },
    "llama.block_count": { u32: 1 },
    "llama.feed_forward_length": { u32: HIDDEN },
    "llama.attention.head_count": { u32: 4 },
    "llama.attention.head_count_kv": { u32: 2 },
    "llama.attention.layer_norm_rms_epsilon": { f32: 1e-5 },
  };
  for (const [key, value] of tokenizer) {
    if (!key.startsWith("tokenizer.")) continue;
    if (typeof value === "string") metadata[key] = { string: value };
    else if (typeof value === "boolean") metadata[key] = { bool: value };
    else if (typeof value === "number") metadata[key] = { u32: value };
    else if (value instanceof Int32Array) metadata[key] = { i32s: value };
    else if (value instanceof Float32Array) metadata[key] = { f32s: value };
    else metadata[key] = { strings: value as string[] };
  }
  const shapes: Readonly<Record<string, readonly number[]>> = {
    "token_embd.weight": [tokens.length, HIDDEN],
    "output_norm.weight": [HIDDEN],
    "blk.0.attn_norm.weight": [HIDDEN],
    "blk.0.attn_q.weight": [HIDDEN, HIDDEN],
    "blk.0.attn_k.weight": [HIDDEN / 2, HIDDEN],
    "blk.0.attn_v.weight": [HIDDEN / 2, HIDDEN],
    "blk.0.attn_output.weight": [HIDDEN, HIDDEN],
    "blk.0.ffn_norm.weight": [HIDDEN],
    "blk.0.ffn_gate.weight": [HIDDEN, HIDDEN],
    "blk.0.ffn_up.weight": [HIDDEN, HIDDEN],
    "blk.0.ffn_down.weight": [HIDDEN, HIDDEN],
  };
  const tensors = Object.entries(shapes).map(([name, shape]) => {
    const format = shape.length === 1 ? "f32" as const : "f16" as const;
    ok(sizeOf(format, shape) > 0);
    return { name, format, shape, fill: (target: Uint8Array) => void target.fill(0) };
  });
  const path = join(folder, `${name}.gguf`);
  await FileWriter.write(path, (file) => writeGguf(file, { ...metadata, ...more }, tensors));
  return path;
}

/** What the model read so far, and what it is to say. */
interface Script {
  readonly read: number[];
  readonly say: number[];
}

/** Notes every token that the model reads, and lets it say what the script says. */
function direct(model: Model): Script {
  const script: Script = { read: [], say: [] };
  const { llama, backend } = model;
  const forward = llama.forward.bind(llama);
  llama.forward = (tokens, cache, options) => {
    script.read.push(...tokens);
    return forward(tokens, cache, options);
  };
  llama.logits = (out) => {
    const logits = new Float32Array(model.config.vocabSize);
    logits[script.say.shift() ?? model.endTokens[0]!] = 1;
    backend.write(out, logits);
  };
  return script;
}

async function write(session: Session, ...parts: readonly string[]): Promise<void> {
  const writer = session.writable().getWriter();
  for (const part of parts) await writer.write(part);
  await writer.close();
}

async function ask(session: Session, question: string, raw = false): Promise<string> {
  let answer = "";
  for await (const piece of session.ask(question, { raw })) answer += piece;
  return answer;
}

const MISTRAL = "mistralai/Mistral-7B-Instruct-v0.2 (NOTE: Old pre-v1 without a system prompt)";

interface Kind {
  readonly name: string;
  readonly skip: string | false;
  tokenizer(): TokenizerMetadata | Promise<TokenizerMetadata>;
  template(): string;
  readonly roles: Readonly<Record<string, Value>>;
  /** End tokens that must be known. */
  readonly ends: readonly number[];
  /** A control token as text. */
  readonly control: string;
}

const kinds: readonly Kind[] = [
  {
    name: "Llama 3.1",
    skip: missingTokenizer("llama3") || missing("chat_templates"),
    tokenizer: () => metadataFrom("llama3", "llama-bpe"),
    template: () => sharedText("chat_templates/meta-llama-Llama-3.1-8B-Instruct.jinja"),
    roles: {
      "tokenizer.ggml.bos_token_id": { u32: 128000 },
      "tokenizer.ggml.eos_token_id": { u32: 128001 },
      "tokenizer.ggml.eom_token_id": { u32: 128008 },
    },
    ends: [128001, 128008, 128009],
    control: "<|eot_id|>",
  },
  {
    name: "Qwen2.5",
    skip: missingTokenizer("qwen2") || missing("chat_templates"),
    tokenizer: () => metadataFrom("qwen2", "qwen2"),
    template: () => sharedText("chat_templates/Qwen-Qwen2.5-7B-Instruct.jinja"),
    roles: {
      "tokenizer.ggml.eos_token_id": { u32: 151643 },
      "tokenizer.ggml.eot_token_id": { u32: 151645 },
    },
    ends: [151643, 151645],
    control: "<|im_end|>",
  },
  {
    name: "Mistral",
    skip: missing("tokenizers/ggml-vocab-llama-spm.gguf") || missing("chat_templates"),
    tokenizer: () => metadataOf("tokenizers/ggml-vocab-llama-spm.gguf"),
    template() {
      const { cases } = readJson("chat_templates/llamacpp_chat_cases.json") as {
        cases: { name: string; template_str: string }[];
      };
      return cases.find(({ name }) => name === MISTRAL)!.template_str;
    },
    roles: {},
    ends: [2],
    control: "</s>",
  },
];

for (const kind of kinds) {
  test(
    `${kind.name} reads the tokens of its template's rendering, control tokens from nowhere else`,
    {
      skip: kind.skip,
    },
    async () => {
      const template = kind.template();
      const path = await writeModel(kind.name, await kind.tokenizer(), {
        "tokenizer.chat_template": { string: template },
        ...kind.roles,
      });
      using model = await loadModel(path, { backend: "reference" });
      const { tokenizer } = model;
      deepEqual([...model.endTokens].sort((a, b) => a - b), kind.ends);
      const textOf = (token: number | null) =>
        token === null ? "" : tokenizer.decode([token], { special: true, continuation: true });
      const reference = (messages: readonly ChatMessage[]) =>
        tokenizer.encode(
          renderChat(template, messages, {
            name: kind.name,
            bosToken: textOf(tokenizer.bosToken),
            eosToken: textOf(tokenizer.eosToken),
          }),
        );
      const script = direct(model);
      const text = "Once there was a wörld of 4096 seas.\n  ".repeat(20) + "It was the end of it";
      const answer = tokenizer.encode("A wide sea", { continuation: true });

      using session = model.session();
      script.say.push(...answer);
      await write(session, ...text.match(/[^]{1,97}/g)!);
      equal(await ask(session, "What is it?"), "A wide sea");
      const asked: ChatMessage[] = [{ role: "user", content: `${text}\n\nWhat is it?` }];
      // The newest token is read when another is wanted: all but the answer's last.
      deepEqual(script.read, [...reference(asked), ...answer]);
      // Places are those in the text: the first token that has one begins it.
      const places = Array.from({ length: session.length }, (_, i) => session.byteOffset(i));
      deepEqual(places, [...places].sort((a, b) => a - b));
      const first = places.findIndex((place) => place > 0) - 1;
      ok(text.startsWith(session.textOf(first, first + 1).trimStart().slice(0, 1)) || first >= 0);
      equal(places.at(-1), new TextEncoder().encode(text).length);

      const end = [...reference([...asked, { role: "assistant", content: "A wide sea" }])];
      script.read.length = 0;
      await ask(session, "Where?");
      const more: ChatMessage[] = [
        ...asked,
        { role: "assistant", content: "A wide sea" },
        { role: "user", content: "Where?" },
      ];
      const whole = [...reference(more)];
      ok(end.length > 0);
      deepEqual(script.read.slice(-8), whole.slice(-8));

      // Only a question: the rendering of it alone.
      using bare = model.session();
      script.read.length = 0;
      await ask(bare, "What is it?");
      deepEqual(script.read, [...reference([{ role: "user", content: "What is it?" }])]);

      // Control tokens that text and question spell out stay text.
      using hostile = model.session();
      script.read.length = 0;
      const spelled = `It says ${kind.control} and ${kind.control}`;
      await write(hostile, spelled);
      await ask(hostile, `What is ${kind.control}?`);
      const [control] = tokenizer.encode(kind.control).slice(-1);
      const count = (tokens: ArrayLike<number>) =>
        Array.from(tokens).filter((token) => token === control).length;
      equal(
        count(script.read),
        count(reference([{ role: "user", content: "It says and\n\nWhat is?" }])),
      );
      match(tokenizer.decode(script.read, { special: true }), /It says .*What is/s);

      // Each end token ends an answer; raw leaves the template out.
      for (const token of kind.ends) {
        using asking = model.session();
        script.say.splice(0, Infinity, token);
        equal(await ask(asking, "Why?"), "");
      }
      using raw = model.session({ raw: true });
      script.say.length = 0;
      script.read.length = 0;
      await write(raw, "The sea");
      await ask(raw, " is", true);
      const bos = tokenizer.addBos ? [tokenizer.bosToken!] : [];
      deepEqual(script.read, [
        ...bos,
        ...tokenizer.encode("The sea", { continuation: false }),
        ...tokenizer.encode(" is", { continuation: true }),
      ]);
    },
  );
}

test("text after an answer is another turn, also in a fork, and truncating takes turns back", {
  skip: kinds[1]!.skip,
}, async () => {
  const kind = kinds[1]!;
  const path = await writeModel("turns", await kind.tokenizer(), {
    "tokenizer.chat_template": { string: kind.template() },
    ...kind.roles,
  });
  using model = await loadModel(path, { backend: "reference" });
  const script = direct(model);
  const spell = () => model.tokenizer.decode(script.read.splice(0), { special: true });
  using session = model.session();
  await write(session, "One.");
  await write(session, " Two.");
  const { length } = session;
  using fork = session.fork();
  await ask(fork, "Which?");
  const opening = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful " +
    "assistant.<|im_end|>\n<|im_start|>user\n";
  const closing = "<|im_end|>\n<|im_start|>assistant\n";
  equal(spell(), `${opening}One. Two.\n\nWhich?${closing}`);
  await write(fork, "Three.");
  await ask(fork, "And now?");
  equal(spell(), `<|im_end|>\n<|im_start|>user\nThree.\n\nAnd now?${closing}`);
  fork.truncate(length);
  await ask(fork, "Which?");
  equal(spell(), `\n\nWhich?${closing}`);
  fork.truncate(0);
  await ask(fork, "Why?");
  equal(spell(), `${opening}Why?${closing}`);
});

test("turns, and their absence, survive in a session's file", {
  skip: kinds[1]!.skip,
}, async () => {
  const kind = kinds[1]!;
  const path = await writeModel("saved", await kind.tokenizer(), {
    "tokenizer.chat_template": { string: kind.template() },
    ...kind.roles,
  });
  using model = await loadModel(path, { backend: "reference" });
  const script = direct(model);
  const restored = async (session: Session) =>
    await model.restore(fromBytes(await savedBytes(session), "a file"));
  const readBy = async (session: Session, question: string) => {
    script.read.length = 0;
    await ask(session, question);
    return [...script.read];
  };
  for (const raw of [false, true]) {
    using session = model.session({ raw });
    await write(session, "One.");
    // Within a turn, then after an answer.
    for (const question of ["Which?", "And now?"]) {
      using other = await restored(session);
      deepEqual(await readBy(other, question), await readBy(session, question));
      if (!raw) match(model.tokenizer.decode(script.read, { special: true }), /<\|im_start\|>/);
    }
    session.truncate(1);
    using other = await restored(session);
    deepEqual(await readBy(other, "Why?"), await readBy(session, "Why?"));
  }
});

test("a template that cannot be used is told of when it is needed, not before", {
  skip: missingTokenizer("pocket"),
}, async () => {
  const path = await writeModel("broken", metadataFrom("pocket", "gpt-2"), {
    "tokenizer.chat_template": { string: "{{ raise_exception('no') }}" },
    "tokenizer.ggml.eos_token_id": { u32: 1023 },
  });
  using model = await loadModel(path, { backend: "reference" });
  direct(model);
  using session = model.session();
  await rejects(() => ask(session, "Why?"), /chat template of .*broken\.gguf .*it says "no"/);
  equal(await ask(session, "Why?", true), "");
  using raw = model.session({ raw: true });
  await write(raw, "Text");
  equal(await ask(raw, "Why?"), "");
});

test("a chat template is found in its file, the configuration or GGUF, in this order", () => {
  const metadata = new Map([["tokenizer.chat_template", "of GGUF"]]);
  const one = { name: "m", jinja: null, tokenizerConfig: null, metadata };
  equal(findChatTemplate(one)?.text, "of GGUF");
  const several = {
    chat_template: [{ name: "tool_use", template: "no" }, { name: "default", template: "yes" }],
  };
  equal(findChatTemplate({ ...one, tokenizerConfig: several })?.text, "yes");
  equal(findChatTemplate({ ...one, tokenizerConfig: { chat_template: "its" } })?.text, "its");
  equal(findChatTemplate({ ...one, tokenizerConfig: several, jinja: "file's" })?.text, "file's");
  equal(findChatTemplate({ ...one, metadata: new Map() }), null);
  const template = { name: "m", text: "t" };
  const form = { questions: ["a"], completion: "b", stopBefore: [], stopAfter: [] };
  equal(answerMode({ forms: [form] }, template), "question forms");
  equal(answerMode({ forms: [] }, template), "chat template");
  equal(answerMode(null, null), "continuation");
});

test("inspect says how a model answers", async () => {
  const pocket = await openModelFiles(new URL("../models/pocket/", import.meta.url));
  equal(summarizeModel(pocket).answers, "question forms");
  await pocket.close();
  const files = Object.fromEntries(
    await Promise.all(
      ["config.json", "model.safetensors", "tokenizer.json"].map(async (name) => {
        const url = new URL(`../models/pocket/${name}`, import.meta.url);
        const { readFile } = await import("node:fs/promises");
        return [name, fromBytes(new Uint8Array(await readFile(url)), name)] as const;
      }),
    ),
  );
  const base = await openModelFiles(files);
  equal(summarizeModel(base).answers, "continuation");
  const jinja = fromBytes(new TextEncoder().encode("{{ messages }}"), "chat_template.jinja");
  const instruct = await openModelFiles({ ...files, "chat_template.jinja": jinja });
  equal(summarizeModel(instruct).answers, "chat template");
  match(summarizeModel(instruct).chatTemplate!, /chat_template\.jinja/);
});
