// Models named on the hub: a server on this machine stands in for it.

import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { spawn } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { loadModel } from "../mod.ts";
import { ConnectionError, HttpError } from "../src/files/http_range.ts";
import { readBytes } from "../src/files/byte_source.ts";
import type { HubAccess, LoadProgress } from "../src/hub/access.ts";
import { chooseFiles } from "../src/hub/choose.ts";
import { parseHubName } from "../src/hub/name.ts";
import { findOnHub } from "../src/hub/place.ts";
import { findBrowser, visit } from "./support/browser.ts";
import { buildBundles } from "./support/bundles.ts";
import { hubHash, nobody, type TestHub, withHub } from "./support/hub_server.ts";
import { missing, sharedUrl } from "./support/shared.ts";

/** Bytes without a pattern, always the same. */
function noise(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

const text = (value: string) => new TextEncoder().encode(value);
const GGUF = noise(300_000, 1);

const FILES = {
  "README.md": text("# A model"),
  "config.json": text("{}"),
  "model-Q4_K_M.gguf": GGUF,
  "model-Q8_0.gguf": noise(400_000, 2),
  "mmproj-model-f16.gguf": noise(30_000, 3),
  "split/model-Q6_K-00001-of-00002.gguf": noise(50_000, 4),
  "split/model-Q6_K-00002-of-00002.gguf": noise(60_000, 5),
};

/** A hub and an empty cache. */
async function withCache(
  files: Readonly<Record<string, Uint8Array>>,
  use: (
    hub: TestHub,
    access: HubAccess & { readonly notices: string[]; readonly progress: LoadProgress[] },
    folder: string,
  ) => Promise<void>,
): Promise<void> {
  const cacheFolder = mkdtempSync(join(tmpdir(), "reattention-hub-"));
  try {
    await withHub(files, async (hub) => {
      const notices: string[] = [];
      const progress: LoadProgress[] = [];
      const access = {
        hub: { endpoint: hub.endpoint, token: "", cacheFolder, offline: false },
        retryDelay: 5,
        onNotice: (notice: string) => notices.push(notice),
        onProgress: (event: LoadProgress) => progress.push(event),
        notices,
        progress,
      };
      await use(hub, access, join(cacheFolder, "models--user--model"));
    });
  } finally {
    rmSync(cacheFolder, { recursive: true, force: true });
  }
}

/** A file's bytes through the place that a name leads to. */
async function readThrough(name: string, access: HubAccess): Promise<Uint8Array> {
  const place = await findOnHub(name, access);
  const source = await place.open(place.fileName!);
  try {
    return await readBytes(source!, 0, source!.byteLength);
  } finally {
    await source!.close?.();
  }
}

test("a name on the hub has a repository, and may have a path, a quantisation and a revision", () => {
  const parts = (name: string) => {
    const { repo, path, quant, revision } = parseHubName(name);
    return [repo, path, quant, revision];
  };
  deepEqual(parts("hf:user/model"), ["user/model", "", null, "main"]);
  deepEqual(parts("hf:user/model:q4_k_m"), ["user/model", "", "q4_k_m", "main"]);
  deepEqual(parts("hf:u/m.1-x#refs/pr/1"), ["u/m.1-x", "", null, "refs/pr/1"]);
  deepEqual(parts("HF:u/m/sub/a.gguf#v1"), ["u/m", "sub/a.gguf", null, "v1"]);
  for (
    const wrong of [
      "hf:model",
      "hf:",
      "hf:user/",
      "hf:../model",
      "hf:user/mo--del",
      "hf:user/model/../x.gguf",
      "hf:user/model/a.gguf:Q8_0",
      "hf:user/model#../../x",
      "hf:user/model#",
      "hf:user/model:",
      "hf:user/mo del",
    ]
  ) {
    rejects(() => Promise.resolve().then(() => parseHubName(wrong)), /is named hf:user\/model/);
  }
});

test("the files of a model are chosen by name, quantisation or preference, and no others", () => {
  const all = (paths: string[]) => paths.map((path) => ({ path, byteLength: 1 }));
  const choose = (name: string, paths: string[]) => {
    const { files, fileName, folder, note } = chooseFiles(all(paths), parseHubName(name));
    return { files: files.map(({ path }) => path), fileName, folder, note };
  };
  const ggufs = ["a-Q8_0.gguf", "a-Q4_K_M.gguf", "a-Q4_K_S.gguf", "mmproj-a-Q4_K_M.gguf"];
  equal(choose("hf:u/m:q8_0", ggufs).fileName, "a-Q8_0.gguf");
  const preferred = choose("hf:u/m#v1", ggufs);
  equal(preferred.fileName, "a-Q4_K_M.gguf");
  equal(preferred.note, "chose a-Q4_K_M.gguf of 3 GGUF models; another by hf:u/m:NAME");
  equal(choose("hf:u/m", ["x.gguf"]).note, null);
  // A quantisation's name is a word: Q4_K is none of these, F16 is not in BF16.
  match(
    message(() => choose("hf:u/m:Q4_K", ggufs)),
    /carry Q4_K in its name, found a-Q8_0\.gguf, /,
  );
  equal(choose("hf:u/m:F16", ["a.BF16.gguf", "a_f16.gguf"]).fileName, "a_f16.gguf");
  match(
    message(() => choose("hf:u/m:Q8_0", ["a-Q8_0.gguf", "b-Q8_0.gguf"])),
    /one GGUF must carry Q8_0 in its name, found a-Q8_0\.gguf, b-Q8_0\.gguf; name the file/,
  );
  match(message(() => choose("hf:u/m:Q8_0", ["pytorch_model.bin"])), /found pytorch_model\.bin/);
  match(message(() => choose("hf:u/m", ["README.md"])), /must be model\.safetensors.*found none/);
  match(message(() => choose("hf:u/m/b.gguf", ["a.gguf"])), /b\.gguf must be there, found a\.gguf/);

  const split = ["Q6_K/m-00001-of-00002.gguf", "Q6_K/m-00002-of-00002.gguf"];
  deepEqual(choose("hf:u/m:Q6_K", [...ggufs, ...split]), {
    files: split,
    fileName: "m-00001-of-00002.gguf",
    folder: "Q6_K/",
    note: null,
  });
  match(message(() => choose("hf:u/m:Q6_K", split.slice(0, 1))), /m-00002-of-00002\.gguf must be/);

  const sharded = [
    "README.md",
    "config.json",
    "consolidated.safetensors",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "onnx/model.onnx",
    "tokenizer.json",
    "x-Q8_0.gguf",
  ];
  const { files, fileName } = choose("hf:u/m", sharded);
  equal(fileName, null);
  deepEqual(files, [
    "config.json",
    "tokenizer.json",
    "model.safetensors.index.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
  ]);
  deepEqual(
    choose("hf:u/m/sub", ["model.safetensors", "sub/model.safetensors", "sub/config.json"]).files,
    ["sub/config.json", "sub/model.safetensors"],
  );
});

/** What a failing call says. */
function message(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error("it did not fail");
}

test("a model is downloaded into the cache in huggingface_hub's layout, once", async () => {
  await withCache(FILES, async (hub, access, folder) => {
    deepEqual(await readThrough("hf:user/model:Q4_K_M", access), GGUF);
    const blob = join(folder, "blobs", hubHash(GGUF));
    deepEqual(new Uint8Array(readFileSync(blob)), GGUF);
    const pointer = join(folder, "snapshots", hub.commit, "model-Q4_K_M.gguf");
    ok(lstatSync(pointer).isSymbolicLink());
    equal(readlinkSync(pointer), join("..", "..", "blobs", hubHash(GGUF)));
    equal(readFileSync(join(folder, "refs", "main"), "utf8"), hub.commit);
    // The configuration beside it, by its git hash; nothing that was not needed, no rests.
    deepEqual(
      readdirSync(join(folder, "blobs")).sort(),
      [
        hubHash(GGUF),
        hubHash(FILES["config.json"]),
      ].sort(),
    );
    const { loadedBytes, totalBytes, phase } = access.progress.at(-1)!;
    deepEqual([phase, loadedBytes, totalBytes], ["download", 300_002, 300_002]);

    const before = hub.requests.length;
    access.progress.length = 0;
    deepEqual(await readThrough("hf:user/model:Q4_K_M#v1", access), GGUF);
    ok(hub.requests.slice(before).every(({ path }) => path.startsWith("/api/")));
    deepEqual(access.progress, []);
    equal(readFileSync(join(folder, "refs", "v1"), "utf8"), hub.commit);
    deepEqual(access.notices, []);
  });
});

test("without a quantisation the preferred GGUF is taken, and that is said", async () => {
  await withCache(FILES, async (_, access) => {
    deepEqual(await readThrough("hf:user/model", access), GGUF);
    match(access.notices.join(), /chose model-Q4_K_M\.gguf of 3 GGUF models/);
  });
});

test("all parts of a split GGUF are downloaded, from the folder they are in", async () => {
  await withCache(FILES, async (hub, access) => {
    const place = await findOnHub("hf:user/model:q6_k", access);
    equal(place.fileName, "model-Q6_K-00001-of-00002.gguf");
    const before = hub.requests.length;
    const second = await place.open("model-Q6_K-00002-of-00002.gguf");
    equal(second!.byteLength, 60_000);
    await second!.close!();
    equal(hub.requests.length, before);
    equal(await place.open("config.json"), null);
  });
});

test("a dropped connection is gone on with at its byte, with If-Range", async () => {
  await withCache(FILES, async (hub, access) => {
    hub.drops = 2;
    hub.dropAfter = 100_000;
    deepEqual(await readThrough("hf:user/model/model-Q4_K_M.gguf", access), GGUF);
    const sent = hub.requestsFor("model-Q4_K_M.gguf").filter(({ host }) => host === "files");
    equal(sent.length, 3);
    equal(sent[0]!.range, "bytes=0-299999");
    equal(sent[0]!.ifRange, undefined);
    const starts = sent.map(({ range }) => Number(/=(\d+)-299999$/.exec(range!)![1]));
    ok(starts[1]! > 0 && starts[1]! <= 100_000, `${starts}`);
    ok(starts[2]! > starts[1]!, `${starts}`);
    match(sent[1]!.ifRange!, /^"[0-9a-f]{32}"$/);
  });
});

test("what an ended process left is checked and gone on with", async () => {
  await withCache(FILES, async (hub, access, folder) => {
    const incomplete = join(folder, "blobs", `${hubHash(GGUF)}.incomplete`);
    mkdirSync(join(folder, "blobs"), { recursive: true });
    writeFileSync(incomplete, GGUF.subarray(0, 123_456));
    // A lock of a process that is no more.
    writeFileSync(`${incomplete}.lock`, JSON.stringify({ host: hostname(), pid: 2 ** 22 + 1 }));
    deepEqual(await readThrough("hf:user/model:Q4_K_M", access), GGUF);
    deepEqual(
      hub.requestsFor("model-Q4_K_M.gguf").map(({ range }) => range),
      ["bytes=123456-299999", "bytes=123456-299999"],
    );
    const phases = access.progress.filter(({ file }) => file === "model-Q4_K_M.gguf");
    equal(phases[0]!.phase, "check");
    equal(phases.at(-1)!.newBytes, 300_000 - 123_456 + 2);
    ok(!existsSync(incomplete) && !existsSync(`${incomplete}.lock`));
  });
});

test("a whole file that was left is only checked; a longer or damaged one is begun anew", async () => {
  for (
    const [left, requests] of [
      [GGUF, 0],
      [new Uint8Array([...GGUF, 1, 2, 3]), 1],
      [new Uint8Array(123_456), 2],
    ] as const
  ) {
    await withCache(FILES, async (hub, access, folder) => {
      mkdirSync(join(folder, "blobs"), { recursive: true });
      writeFileSync(join(folder, "blobs", `${hubHash(GGUF)}.incomplete`), left);
      deepEqual(await readThrough("hf:user/model:Q4_K_M", access), GGUF);
      const sent = hub.requestsFor("model-Q4_K_M.gguf").filter(({ host }) => host === "files");
      equal(sent.length, requests, `${left.length} bytes`);
    });
  }
});

test("a server without ranges is downloaded from the beginning", async () => {
  await withCache(FILES, async (hub, access, folder) => {
    hub.noRanges = true;
    hub.drops = 1;
    hub.dropAfter = 100_000;
    mkdirSync(join(folder, "blobs"), { recursive: true });
    writeFileSync(
      join(folder, "blobs", `${hubHash(GGUF)}.incomplete`),
      GGUF.subarray(0, 123_456),
    );
    deepEqual(await readThrough("hf:user/model:Q4_K_M", access), GGUF);
  });
});

test("bytes with another hash are thrown away, of large files and of small ones", async () => {
  for (const path of ["model-Q4_K_M.gguf", "config.json"]) {
    await withCache(FILES, async (hub, access, folder) => {
      hub.damaged = path;
      await rejects(
        () => findOnHub("hf:user/model:Q4_K_M", access),
        new RegExp(
          `Cannot download ${path} of "hf:user/model:Q4_K_M": its .*SHA-\\S+ must be .*, got`,
        ),
      );
      for (const rest of readdirSync(join(folder, "blobs"))) {
        if (rest.endsWith(".incomplete")) equal(statSync(join(folder, "blobs", rest)).size, 0);
        else equal(rest, hubHash(FILES["config.json"]));
      }
      hub.damaged = null;
      deepEqual(await readThrough("hf:user/model:Q4_K_M", access), GGUF);
    });
  }
});

test("a hub that announces another size or hash than it listed is not believed", async () => {
  await withCache(FILES, async (hub, access) => {
    for (const announces of [{ hash: "0".repeat(64) }, { size: 7 }]) {
      hub.announces = announces;
      await rejects(() => findOnHub("hf:user/model:Q4_K_M", access), /as listed, got/);
    }
    hub.announces = {};
    hub.exaggerates = 1000;
    await rejects(
      () => findOnHub("hf:user/model:Q4_K_M", access),
      /config\.json of .*: asked for bytes 0-1001\/1002, got "bytes 0-1\/2"/,
    );
  });
});

test("a hub that lists more than can be is refused before anything is sent", async () => {
  await withCache(FILES, async (hub, access) => {
    hub.exaggerates = 2 ** 40;
    await rejects(
      () => findOnHub("hf:user/model:Q4_K_M", access),
      /config\.json must have at most \d+ bytes, got 10995/,
    );
    deepEqual(hub.requests.filter(({ path }) => path.includes("resolve")), []);
  });
  await withCache({ "model.gguf": GGUF }, async (hub, access) => {
    hub.exaggerates = 2 ** 52;
    await rejects(
      () => findOnHub("hf:user/model", access),
      /Cannot download to ".*models--user--model": 45035\d+ bytes are needed, the disk has \d+/,
    );
    deepEqual(hub.requests.filter(({ path }) => path.includes("resolve")), []);
  });
});

test("a busy hub is asked again; one that stays busy counts as away", async () => {
  await withCache(FILES, async (hub, access) => {
    hub.busy = 2;
    deepEqual(await readThrough("hf:user/model:Q4_K_M", access), GGUF);
    hub.busy = 100;
    deepEqual(await readThrough("hf:user/model:Q4_K_M", access), GGUF);
    match(access.notices.join(), /offline: the hub at .* cannot be reached; taking commit/);
  });
});

test("refusals say whether the name, the revision, the file or the token is wrong", async () => {
  await withCache(FILES, async (hub, access) => {
    const refused = async (name: string, reason: RegExp, status: number, token = "") => {
      await rejects(
        () => findOnHub(name, { ...access, hub: { ...access.hub, token } }),
        (error: Error) => {
          match(error.message, reason);
          return error instanceof HttpError && error.status === status;
        },
      );
    };
    await refused("hf:user/other", /no such model.*check the name, or set HF_TOKEN/, 401);
    await refused("hf:user/other", /check the name and HF_TOKEN/, 404, "hf_wrong");
    await refused("hf:user/model#v9", /it has no revision "v9"/, 404);
    hub.token = "secret";
    await refused("hf:user/model:Q4_K_M", /private or gated.*set HF_TOKEN/, 401);
    hub.gated = true;
    await refused("hf:user/model:Q4_K_M", /it is gated: accept its terms at .*user\/model/, 403);
    await refused("hf:user/model:Q4_K_M", /the token may not read it/, 403, "hf_other");
    const allowed = { ...access, hub: { ...access.hub, token: "secret" } };
    deepEqual(await readThrough("hf:user/model:Q4_K_M", allowed), GGUF);
    // The other host must never see the token.
    const sent = hub.requests.slice(-4);
    ok(sent.some(({ host, authorization }) => host === "hub" && authorization === "Bearer secret"));
    ok(hub.requests.every(({ host, authorization }) => host === "hub" || !authorization));
  });
});

test("offline takes what the cache has, and says what it has not", async () => {
  await withCache(FILES, async (hub, access) => {
    const offline = { ...access, hub: { ...access.hub, offline: true } };
    await rejects(
      () => findOnHub("hf:user/model:Q4_K_M", offline),
      /offline \(HF_HUB_OFFLINE\).*the cache has nothing of revision "main" in .*models--user--model/,
    );
    await findOnHub("hf:user/model:Q4_K_M", access);
    const before = hub.requests.length;
    deepEqual(await readThrough("hf:user/model:Q4_K_M", offline), GGUF);
    match(access.notices.at(-1)!, /^offline \(HF_HUB_OFFLINE\): taking commit [0-9a-f]{8} from/);
    deepEqual(await readThrough(`hf:user/model#${hub.commit}`, offline), GGUF);
    await rejects(
      () => findOnHub("hf:user/model:Q8_0", offline),
      /must carry Q8_0 in its name, found model-Q4_K_M\.gguf/,
    );
    equal(hub.requests.length, before);

    const endpoint = await nobody();
    const away = { ...access, hub: { ...access.hub, endpoint } };
    deepEqual(await readThrough("hf:user/model:Q4_K_M", away), GGUF);
    match(
      access.notices.at(-1)!,
      /offline: the hub at http:\/\/127\.\S+ cannot be reached; taking/,
    );
    await rejects(
      () => findOnHub("hf:user/other", away),
      (error: Error) => {
        match(error.message, /^Cannot reach the server of "hf:user\/other": .* \(the hub is http:/);
        match(error.message, /, and the cache has nothing of revision "main" in /);
        return error instanceof ConnectionError;
      },
    );
  });
});

test("two at once download once", async () => {
  await withCache(FILES, async (hub, access) => {
    hub.pause = 5;
    const [one, other] = await Promise.all([
      readThrough("hf:user/model:Q4_K_M", access),
      readThrough("hf:user/model:Q4_K_M", access),
    ]);
    deepEqual(one, GGUF);
    deepEqual(other, GGUF);
    equal(hub.requestsFor("model-Q4_K_M.gguf").filter(({ host }) => host === "files").length, 1);
    ok(access.progress.some(({ phase }) => phase === "wait"));
  });
});

test("a signal ends a download, which then goes on from there", async () => {
  await withCache(FILES, async (hub, access, folder) => {
    hub.pause = 10;
    const controller = new AbortController();
    await rejects(
      () =>
        findOnHub("hf:user/model:Q4_K_M", {
          ...access,
          signal: controller.signal,
          onProgress: ({ loadedBytes }) => {
            if (loadedBytes > 100_000) controller.abort();
          },
        }),
      { name: "AbortError" },
    );
    const left = statSync(join(folder, "blobs", `${hubHash(GGUF)}.incomplete`)).size;
    ok(left > 90_000 && left < 300_000, `${left}`);
    hub.pause = 0;
    deepEqual(await readThrough("hf:user/model:Q4_K_M", access), GGUF);
    equal(hub.requestsFor("model-Q4_K_M.gguf").at(-1)!.range, `bytes=${left}-299999`);
  });
});

test("without a download a model is read by ranges, and nothing is kept", async () => {
  await withCache(FILES, async (hub, access, folder) => {
    const place = await findOnHub("hf:user/model:Q4_K_M", { ...access, download: false });
    const source = await place.open(place.fileName!);
    deepEqual(await readBytes(source!, 1000, 2000), GGUF.slice(1000, 2000));
    ok(!existsSync(folder));
    equal(hub.requestsFor("model-Q4_K_M.gguf").at(-1)!.range, "bytes=1000-1999");
  });
});

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

const { deno, bun } = process.versions as Record<string, string | undefined>;
// Node runs these tests from dist/node-tests, and the command from dist/node.
const main = fileURLToPath(
  new URL(deno || bun ? "../src/cli/main.ts" : "../node/main.js", import.meta.url),
);

/** Runs the command with a hub and a cache of its own. */
function command(
  args: readonly string[],
  environment: Record<string, string>,
): { interrupt(): void; done: Promise<{ status: number | null; out: string; error: string }> } {
  const child = spawn(process.execPath, [...(deno ? ["run", "-A", main] : [main]), ...args], {
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
  { skip: missing(STORIES) || !existsSync(main) && `${main} is not built` },
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
  { skip: missing(STORIES) || !existsSync(main) && `${main} is not built` },
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
  { skip: missing(STORIES) || !existsSync(main) && `${main} is not built` },
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
