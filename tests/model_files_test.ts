import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { ModelFormatError } from "../src/errors.ts";
import { type ByteSource, fromBytes, readBytes } from "../src/files/byte_source.ts";
import { type ModelFiles, type ModelSource, openModelFiles } from "../src/llama/model_files.ts";
import { findWeights } from "../src/llama/weights.ts";
import { openFile, pathOf } from "../src/system/file_source.ts";
import { safetensorsBytes } from "./support/model_bytes.ts";
import { missing, repository, sharedUrl } from "./support/shared.ts";

const POCKET = new URL("models/pocket/", repository);
const TINY_STORIES = "models/TinyStories-656K/";
const STORIES = "models/stories260K/stories260K.gguf";

async function withModel(
  source: ModelSource,
  use: (files: ModelFiles) => Promise<void>,
): Promise<void> {
  const files = await openModelFiles(source);
  try {
    await use(files);
  } finally {
    await files.close();
  }
}

/** A temporary folder, removed afterwards. */
async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "reattention-"));
  try {
    await use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Serves the files under `root`, with ranges or without; for as long as `use` takes. */
async function withServer(
  root: URL,
  use: (url: string, requests: string[]) => Promise<void>,
  ranges = true,
): Promise<void> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(request.url!);
    const file = new URL("." + request.url!.replace(/\?.*/, ""), root);
    if (!existsSync(file)) {
      response.writeHead(404).end();
      return;
    }
    const bytes = readFileSync(file);
    if (!ranges) {
      response.writeHead(200, { "content-length": bytes.length }).end(bytes);
      return;
    }
    const [, first, last] = request.headers.range!.match(/(\d+)-(\d+)/)!.map(Number);
    const end = Math.min(last! + 1, bytes.length);
    response.writeHead(206, { "content-range": `bytes ${first}-${end - 1}/${bytes.length}` })
      .end(bytes.subarray(first, end));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`, requests);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

/** What two ways to open one model must agree in. */
function contents(
  { config, tensors, tokenizer, tokenizerConfig, generationConfig, profile, byteLength }:
    ModelFiles,
) {
  const places = [...tensors.tensors.values()].map(({ source: _, ...place }) => place);
  return { config, places, tokenizer, tokenizerConfig, generationConfig, profile, byteLength };
}

test("the embedded model opens by path, with and without a slash, and by URL", async () => {
  await withModel(POCKET, async (files) => {
    equal(files.config.trainedLength, 512);
    equal(files.tensors.tensors.size, 38);
    equal(files.byteLength, 5_251_536);
    equal(files.profile!.forms.length, 6);
    ok(files.tokenizer && files.tokenizerConfig && files.generationConfig);
    const path = pathOf(POCKET);
    const sources = [path, path.replace(/\/$/, ""), POCKET.href, join(path, "model.safetensors")];
    for (const source of sources) {
      await withModel(source, (same) => {
        deepEqual(contents(same), contents(files));
        return Promise.resolve();
      });
    }
  });
});

test("a model opens over HTTP, from a server with ranges or without, by folder or by file", async () => {
  await withModel(POCKET, async (files) => {
    for (const ranges of [true, false]) {
      await withServer(POCKET, async (url, requests) => {
        for (const source of [url, new URL(url), `${url}model.safetensors`, `${url}?version=1`]) {
          requests.length = 0;
          await withModel(source, (same) => {
            deepEqual(contents(same), contents(files));
            return Promise.resolve();
          });
          const query = String(source).includes("?") ? "?version=1" : "";
          ok(requests.every((path) => path.endsWith(query)));
          ok(requests.includes(`/config.json${query}`));
        }
      }, ranges);
    }
  });
});

test("a folder's URL needs no slash at its end", async () => {
  await withServer(new URL("models/", repository), async (url, requests) => {
    await withModel(`${url}pocket`, (files) => {
      equal(files.config.vocabSize, 1024);
      return Promise.resolve();
    });
    ok(requests.includes("/pocket/model.safetensors"));
  });
});

test("a server's failure is not taken for a missing file", async () => {
  const server = createServer((_, response) => response.writeHead(500).end());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await rejects(
    () => openModelFiles(`http://127.0.0.1:${port}/`, { retryDelay: 1 }),
    /answered 500/,
  );
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

test("a model opens from a map of its files, which stay open", async () => {
  const closed: string[] = [];
  const map: Record<string, ByteSource> = {};
  for (const name of ["config.json", "model.safetensors", "tokenizer.json"]) {
    const bytes = new Uint8Array(readFileSync(new URL(name, POCKET)));
    map[name] = { ...fromBytes(bytes, name), close: () => Promise.resolve(void closed.push(name)) };
  }
  await withModel(map, (files) => {
    equal(files.tensors.tensors.size, 38);
    ok(files.tokenizer);
    equal(files.tokenizerConfig, null);
    equal(files.profile, null);
    return Promise.resolve();
  });
  const { "model.safetensors": weights, ...others } = map;
  await withModel({ ...others, "anything.safetensors": weights! }, (files) => {
    equal(files.name, "model.safetensors");
    return Promise.resolve();
  });
  deepEqual(closed, []);
  await rejects(
    () => openModelFiles({ "model.safetensors": weights! }),
    /Cannot open the model "model.safetensors": config.json must be beside the weights/,
  );
  await rejects(() => openModelFiles(others), /the files config.json, tokenizer.json": looked for/);
  await rejects(
    () => openModelFiles({ ...others, "a.gguf": weights!, "b.gguf": weights! }),
    /looked for model.safetensors and model.safetensors.index.json/,
  );
  await rejects(() => openModelFiles({}), /looked for model.safetensors/);
});

test("a GGUF file needs no other file, and takes a tokenizer.json beside it", {
  skip: missing(STORIES, TINY_STORIES + "TinyStories-656K-f16.gguf"),
}, async () => {
  await withModel(sharedUrl(STORIES), (files) => {
    equal(files.tensors.format, "gguf");
    equal(files.config.trainedLength, 2048);
    equal(files.config.ropeTheta, 10000);
    equal(files.tokenizer, null);
    return Promise.resolve();
  });
  await withModel(sharedUrl(TINY_STORIES + "TinyStories-656K-f16.gguf"), (files) => {
    deepEqual(files.config.eosTokens, [2]);
    ok(files.tokenizer);
    return Promise.resolve();
  });
  await withFolder(async (folder) => {
    // By its content: any name will do for a GGUF file that is named.
    cpSync(sharedUrl(STORIES), join(folder, "weights.bin"));
    await withModel(join(folder, "weights.bin"), (files) => {
      equal(files.tensors.format, "gguf");
      return Promise.resolve();
    });
  });
});

/** Splits a safetensors file in two, the tensors in turn, with an index. */
async function split(source: ByteSource, files: ModelFiles, folder: string): Promise<void> {
  const names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
  const weightMap: Record<string, string> = {};
  const tensors = [...files.tensors.tensors.values()];
  for (const [i, name] of names.entries()) {
    const header: Record<string, unknown> = {
      "__metadata__": Object.fromEntries(files.tensors.metadata),
    };
    const parts: Uint8Array[] = [];
    let end = 0;
    for (const tensor of tensors.filter((_, t) => t % 2 === i)) {
      weightMap[tensor.name] = name;
      header[tensor.name] = {
        dtype: tensor.dtype,
        shape: tensor.shape,
        data_offsets: [end, end + tensor.byteLength],
      };
      parts.push(await readBytes(source, tensor.byteOffset, tensor.byteOffset + tensor.byteLength));
      end += tensor.byteLength;
    }
    const bytes = safetensorsBytes(header, end);
    bytes.set(parts.flatMap((part) => [...part]), bytes.length - end);
    writeFileSync(join(folder, name), bytes);
  }
  writeFileSync(
    join(folder, "model.safetensors.index.json"),
    JSON.stringify({ metadata: {}, weight_map: weightMap }),
  );
}

test("a sharded model is the same as in one file", {
  skip: missing(TINY_STORIES + "model.safetensors"),
}, async () => {
  await withFolder(async (folder) => {
    await withModel(sharedUrl(TINY_STORIES), async (whole) => {
      for (const name of ["config.json", "tokenizer.json"]) {
        cpSync(sharedUrl(TINY_STORIES + name), join(folder, name));
      }
      const source = await openFile(pathOf(sharedUrl(TINY_STORIES + "model.safetensors")));
      await split(source, whole, folder);
      await source.close!();
      for (
        const place of [folder, pathToFileURL(folder), join(folder, "model.safetensors.index.json")]
      ) {
        await withModel(place, async (shards) => {
          equal(shards.tensors.tensors.size, 20);
          deepEqual(shards.config, whole.config);
          ok(shards.byteLength > whole.byteLength);
          for (const [name, tensor] of whole.tensors.tensors) {
            const same = shards.tensors.tensors.get(name)!;
            const [a, b] = await Promise.all(
              [tensor, same].map((t) =>
                readBytes(t.source, t.byteOffset, t.byteOffset + t.byteLength)
              ),
            );
            ok(a!.every((byte, i) => byte === b![i]), name);
          }
          equal(findWeights(shards.tensors, shards.config).embedTokens.name, "lm_head.weight");
        });
      }
    });
    rmSync(join(folder, "model-00002-of-00002.safetensors"));
    await rejects(
      () => openModelFiles(folder),
      /model-00002-of-00002.safetensors must be there, as model.safetensors.index.json says/,
    );
  });
});

test("what is no model is refused with what was looked for", async () => {
  await withFolder(async (folder) => {
    const file = (name: string, content: string | Uint8Array) =>
      writeFileSync(join(folder, name), content);
    await rejects(
      () => openModelFiles(join(folder, "none")),
      /"[^"]*none": there is no such file or directory/,
    );
    await rejects(
      () => openModelFiles(pathToFileURL(join(folder, "none"))),
      /there is no such file/,
    );
    await rejects(
      () => openModelFiles(folder),
      /looked for model.safetensors and model.safetensors.index.json/,
    );
    file("empty.gguf", "");
    await rejects(() => openModelFiles(join(folder, "empty.gguf")), /the file is empty/);
    file("text.txt", "It was a dark and stormy night.");
    await rejects(() => openModelFiles(join(folder, "text.txt")), ModelFormatError);
    file("text.gguf", "It was a dark and stormy night.");
    await rejects(() => openModelFiles(join(folder, "text.gguf")), /magic must be/);
    file(
      "model.safetensors",
      safetensorsBytes({ a: { dtype: "F32", shape: [1], data_offsets: [0, 4] } }, 4),
    );
    await rejects(
      () => openModelFiles(folder),
      /config.json must be beside the weights, found none/,
    );
    file("config.json", "");
    await rejects(
      () => openModelFiles(folder),
      /Cannot parse JSON: it is empty \(byte 0 of .*config.json\)/,
    );
    file("config.json", "{ model_type: llama }");
    await rejects(() => openModelFiles(folder), /Cannot parse JSON.*config.json/);
    file("config.json", '{"hidden_size":1,"hidden_size":2}');
    await rejects(() => openModelFiles(folder), /"hidden_size" must not be given twice/);
    file("config.json", new Uint8Array(16 * 2 ** 20 + 1));
    await rejects(() => openModelFiles(folder), /must have at most 16777216 bytes, got 16777217/);
    cpSync(new URL("config.json", POCKET), join(folder, "config.json"));
    for (
      const name of [
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "reattention.json",
      ]
    ) {
      file(name, "[1, 2");
      await rejects(() => openModelFiles(folder), new RegExp(`Cannot parse JSON.*${name}`), name);
      rmSync(join(folder, name));
    }
    file("reattention.json", '{"stepSize":"64"}');
    await rejects(
      () => openModelFiles(folder),
      /"stepSize" must be a count of tokens.*reattention.json/,
    );
    rmSync(join(folder, "model.safetensors"));
    mkdirSync(join(folder, "model.safetensors"));
    await rejects(() => openModelFiles(folder), /must be a regular file, but it is a directory/);
  });
});

test("the hostile files are refused, each with its reason", {
  skip: missing("models/hostile/empty.gguf"),
}, async () => {
  const reasons: [string, RegExp][] = [
    ["empty.gguf", /"llama.vocab_size" must be an integer/],
    ["truncated.gguf", /must be within the file's 122 bytes/],
    ["every_metadata_type.gguf", /"general.architecture" must be one of .*, got nothing/],
    ["tiny.safetensors", /config.json must be beside the weights/],
  ];
  for (const [name, reason] of reasons) {
    await rejects(() => openModelFiles(sharedUrl(`models/hostile/${name}`)), reason);
  }
});
