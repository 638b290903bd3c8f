// Models named on the hub: a server on this machine stands in for it.

import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ConnectionError, HttpError } from "../src/files/http_range.ts";
import { readBytes } from "../src/files/byte_source.ts";
import type { HubAccess } from "../src/hub/access.ts";
import { chooseFiles } from "../src/hub/choose.ts";
import { parseHubName } from "../src/hub/name.ts";
import { findOnHub } from "../src/hub/place.ts";
import { withCache } from "./support/hub_cache.ts";
import { hubHash, nobody } from "./support/hub_server.ts";

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
