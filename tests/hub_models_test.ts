// Models named on the hub, loaded and asked: in this process, by the command, in a browser.

import { deepEqual, equal, match, ok } from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { loadModel } from "../mod.ts";
import type { HubAccess } from "../src/hub/access.ts";
import { findBrowser, visit } from "./support/browser.ts";
import { buildBundles } from "./support/bundles.ts";
import { launch, notBuilt } from "./support/command.ts";
import { withCache } from "./support/hub_cache.ts";
import { hubHash, nobody, withHub } from "./support/hub_server.ts";
import { missing, sharedUrl } from "./support/shared.ts";

const STORIES = "models/stories260K/stories260K-q8_0.gguf";
const TINY_STORIES = "models/TinyStories-656K/";

/** The files that a hub has of a model in ../shared. */
function sharedFiles(folder: string, names: readonly string[]): Record<string, Uint8Array> {
  return Object.fromEntries(
    names.map((name) => [name, new Uint8Array(readFileSync(sharedUrl(folder + name)))]),
  );
}

/** What a model writes. */
async function story(source: string, access: HubAccess = {}): Promise<string> {
  using model = await loadModel(source, { ...access, backend: "wasm", threads: 1 });
  using session = model.session();
  await session.prefill(model.tokenizer.encode("Once upon a time"));
  let written = "";
  for await (const piece of session.continue({ maxTokens: 12 })) written += piece;
  return written;
}

test(
  "a model from the hub answers as the same model from the disk",
  { skip: missing(STORIES, TINY_STORIES) },
  async () => {
    const files = {
      ...sharedFiles("models/stories260K/", ["stories260K-q8_0.gguf", "stories260K-q4_0.gguf"]),
      ...Object.fromEntries(
        Object.entries(sharedFiles(TINY_STORIES, [
          "config.json",
          "model.safetensors",
          "tokenizer.json",
          "tokenizer_config.json",
        ])).map(([name, bytes]) => [`tiny/${name}`, bytes]),
      ),
    };
    await withCache(files, async (hub, access) => {
      hub.drops = 3;
      hub.dropAfter = 50_000;
      const local = await story(fileURLToPath(sharedUrl(STORIES)));
      ok(local.length > 10);
      equal(await story("hf:user/model:Q8_0", access), local);
      const { phase, loadedBytes, totalBytes } = access.progress.at(-1)!;
      equal(phase, "read");
      ok(loadedBytes > 0.95 * totalBytes && loadedBytes <= totalBytes);
      equal(
        await story("hf:user/model/tiny", access),
        await story(fileURLToPath(sharedUrl(TINY_STORIES))),
      );
      const onlyRanges = await import("../src/llama/model_files.ts").then(({ openModelFiles }) =>
        openModelFiles("hf:user/model:q4_0", { ...access, download: false })
      );
      equal(onlyRanges.tensors.format, "gguf");
      await onlyRanges.close();
      ok(hub.requestsFor("stories260K-q4_0.gguf").every(({ range }) => range !== undefined));
    });
  },
);

/** Runs the command with a hub and a cache of its own. */
function command(
  args: readonly string[],
  environment: Record<string, string>,
): { interrupt(): void; done: Promise<{ status: number | null; out: string; error: string }> } {
  const child = spawn(process.execPath, [...launch, ...args], {
    env: { ...process.env, NO_COLOR: "1", HF_TOKEN: "", HF_HUB_OFFLINE: "", ...environment },
  });
  let out = "";
  let error = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => out += text);
  child.stderr.setEncoding("utf8").on("data", (text: string) => error += text);
  child.stdin.end("Once upon a time");
  return {
    interrupt: () => child.kill("SIGINT"),
    done: new Promise((resolve) => {
      child.on("close", (status) => resolve({ status, out, error }));
    }),
  };
}

test(
  "the command takes a model by its name on the hub, also after Ctrl-C, and then offline",
  { skip: missing(STORIES) || notBuilt },
  async () => {
    const files = sharedFiles("models/stories260K/", [
      "stories260K-q8_0.gguf",
      "stories260K-q4_0.gguf",
    ]);
    await withCache(files, async (hub, _, folder) => {
      const environment = {
        HF_ENDPOINT: `${hub.endpoint}/`,
        HF_HUB_CACHE: join(folder, ".."),
        HF_HOME: folder,
      };
      const args = ["generate", "--max-tokens", "12", "--threads", "1", "--model"];
      const local = command([...args, fileURLToPath(sharedUrl(STORIES))], environment);

      hub.pause = 50;
      const incomplete = join(
        folder,
        "blobs",
        `${hubHash(files["stories260K-q8_0.gguf"]!)}.incomplete`,
      );
      const first = command([...args, "hf:user/model:q8_0"], environment);
      let hasEnded = false;
      void first.done.then(() => hasEnded = true);
      while (!hasEnded && !(existsSync(incomplete) && statSync(incomplete).size >= 100_000)) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      first.interrupt();
      const { status, error } = await first.done;
      ok(status !== 0, error);
      match(error, /^downloading stories260K-q8_0\.gguf {2}[\d.]+ kB of 379 kB/m);
      const { size } = statSync(incomplete);
      ok(size < 379_328);

      hub.pause = 0;
      const second = await command([...args, "hf:user/model:q8_0"], environment).done;
      const expected = await local.done;
      equal(second.error.match(/^downloaded .* kB in [\d.]+ s$/gm)?.length, 1, second.error);
      equal(second.out, expected.out);
      ok(second.out.length > 10);
      equal(second.status, 0);
      const ranges = hub.requestsFor("stories260K-q8_0.gguf").map(({ range }) => range);
      equal(ranges.at(-1), `bytes=${size}-379327`);

      const offline = { ...environment, HF_HUB_OFFLINE: "1", HF_ENDPOINT: await nobody() };
      const third = await command([...args, "hf:user/model"], offline).done;
      equal(third.out, expected.out, third.error);
      const fourth = await command([...args, "hf:user/model:q4_0"], offline).done;
      equal(fourth.status, 1);
      match(
        fourth.error,
        /^reattention: Cannot open "hf:user\/model:q4_0": a GGUF must carry q4_0/m,
      );
    });
  },
);

test(
  "inspect reads only the headers of a model on the hub",
  { skip: missing(STORIES) || notBuilt },
  async () => {
    const files = sharedFiles("models/stories260K/", ["stories260K-q8_0.gguf"]);
    await withCache(files, async (hub, _, folder) => {
      const environment = { HF_ENDPOINT: hub.endpoint, HF_HOME: folder };
      const { status, out, error } = await command(["inspect", "hf:user/model"], environment).done;
      equal(status, 0, error);
      match(out, /^model +hf:user\/model \(gguf\)$/m);
      ok(!existsSync(join(folder, "hub")));
    });
  },
);

test(
  "two processes at once download once, and both answer",
  { skip: missing(STORIES) || notBuilt },
  async () => {
    const files = sharedFiles("models/stories260K/", ["stories260K-q8_0.gguf"]);
    await withCache(files, async (hub, _, folder) => {
      hub.pause = 40;
      const environment = { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: join(folder, "..") };
      const args = ["generate", "--max-tokens", "8", "--threads", "1", "--model", "hf:user/model"];
      const [one, other] = await Promise.all(
        [1, 2].map(() => command(args, environment).done),
      );
      equal(one!.status, 0, one!.error);
      equal(other!.out, one!.out);
      const sent = hub.requestsFor("stories260K-q8_0.gguf").filter(({ host }) => host === "files");
      equal(sent.length, 1);
      deepEqual(readdirSync(join(folder, "blobs")), [hubHash(files["stories260K-q8_0.gguf"]!)]);
    });
  },
);

const browser = findBrowser();
const noBrowser = browser === null && "there is no Chromium";
if (noBrowser) console.error(`!! ${noBrowser}: the test of the hub in a browser was skipped`);

test(
  "in a browser a model on the hub is read by ranges, and answers the same",
  { skip: missing(STORIES) || noBrowser },
  async () => {
    buildBundles();
    const files = sharedFiles("models/stories260K/", [
      "stories260K-q8_0.gguf",
      "stories260K-q5_0.gguf",
    ]);
    await withHub(files, async (hub) => {
      hub.token = "secret";
      const plan = {
        library: "/dist/browser/mod.js",
        source: "hf:user/model:Q8_0",
        hub: { endpoint: hub.endpoint, token: "secret" },
        text: "Once upon a time",
        maxTokens: 12,
      };
      const { name, notices, written } = await visit<
        { readonly name: string; readonly notices: string[]; readonly written: string }
      >(browser!, { plan, isolated: false, page: "hub.html" });
      deepEqual({ name, notices }, { name: plan.source, notices: [] });
      equal(written, await story(fileURLToPath(sharedUrl(STORIES))));
      ok(hub.requests.every(({ host, authorization }) => host === "hub" || !authorization));
    });
  },
);
