import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import {
  type ByteSource,
  fromBlob,
  fromBytes,
  fromUrl,
  HttpError,
  MAX_WHOLE_DOWNLOAD_BYTES,
  readBytes,
} from "../src/files/byte_source.ts";
import { kindOf, openFile } from "../src/system/file_source.ts";

const BYTES = Uint8Array.from({ length: 1000 }, (_, i) => i * 7);

/** A temporary folder with a file of `bytes`, removed afterwards. */
async function withFile(bytes: Uint8Array, use: (path: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "reattention-"));
  try {
    const path = join(folder, "some.bytes");
    await writeFile(path, bytes);
    await use(path);
  } finally {
    await rm(folder, { recursive: true });
  }
}

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** A server on this machine, for as long as `use` takes. */
async function withServer(handler: Handler, use: (url: string) => Promise<void>): Promise<void> {
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}/some.bytes`);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

/** Serves ranges of `bytes` as a well-behaved server does. */
function serveRanges(bytes: Uint8Array, headers: Record<string, string> = {}): Handler {
  return (request, response) => {
    const [, first, last] = request.headers.range!.match(/^bytes=(\d+)-(\d+)$/)!.map(Number);
    if (first! >= bytes.length) {
      response.writeHead(416, { "content-range": `bytes */${bytes.length}` }).end();
      return;
    }
    const end = Math.min(last! + 1, bytes.length);
    response.writeHead(206, {
      "content-range": `bytes ${first}-${end - 1}/${bytes.length}`,
      ...headers,
    }).end(bytes.subarray(first, end));
  };
}

/** Every source of BYTES must pass this. */
async function checkSource(source: ByteSource): Promise<void> {
  equal(source.byteLength, BYTES.length);
  deepEqual(await readBytes(source, 0, 1000), BYTES);
  deepEqual(await readBytes(source, 999, 1000), BYTES.slice(999));
  equal((await readBytes(source, 1000, 1000)).length, 0);
  const target = new Uint8Array(30).fill(1);
  await source.read(target.subarray(10, 20), 500);
  deepEqual(target.slice(10, 20), BYTES.slice(500, 510));
  ok(target.subarray(0, 10).every((byte) => byte === 1), "nothing before the target is touched");
  ok(target.subarray(20).every((byte) => byte === 1), "nothing after the target is touched");

  const { buffer } = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const shared = new Uint8Array(buffer, 8, 100);
  await source.read(shared, 200);
  deepEqual(Uint8Array.from(shared), BYTES.slice(200, 300));

  for (const start of [-1, 901, 0.5, NaN, Infinity, 2 ** 53]) {
    await rejects(() => source.read(new Uint8Array(100), start), RangeError, `start ${start}`);
  }
  await rejects(() => readBytes(source, 5, 4), RangeError);
}

test("fromBytes reads an array by position, also into shared memory", async () => {
  await checkSource(fromBytes(BYTES, "an array"));
  // A view of a larger buffer must not show its neighbours.
  await checkSource(fromBytes(new Uint8Array([9, ...BYTES, 9]).subarray(1, 1001), "a view"));
});

test("fromBlob reads a blob by position, also into shared memory", async () => {
  await checkSource(fromBlob(new Blob([BYTES]), "a blob"));
});

test("openFile reads a file by position, also into shared memory", async () => {
  await withFile(BYTES, async (path) => {
    const source = await openFile(path);
    equal(source.name, path);
    await checkSource(source);
    await source.close!();
  });
});

test("openFile says which path is missing, or is a directory", async () => {
  await withFile(BYTES, async (path) => {
    await rejects(
      () => openFile(path + ".no"),
      /Cannot open ".*some\.bytes\.no": there is no such/,
    );
    await rejects(() => openFile(join(path, "x")), /there is no such file/);
    await rejects(
      () => openFile(join(path, "..")),
      /must be a regular file, but it is a directory/,
    );
    equal(await kindOf(path), "file");
    equal(await kindOf(join(path, "..")), "directory");
    equal(await kindOf(path + ".no"), "missing");
  });
});

test("openFile notices that a file became shorter", async () => {
  await withFile(BYTES, async (path) => {
    const source = await openFile(path);
    await truncate(path, 100);
    await rejects(
      () => source.read(new Uint8Array(50), 80),
      /had 1000 bytes when it was opened, but ends at byte 100 now/,
    );
    await source.close!();
  });
});

test("fromUrl reads ranges, one request each, and only what was asked for", async () => {
  const ranges: string[] = [];
  const serve = serveRanges(BYTES, { etag: '"one"' });
  await withServer((request, response) => {
    ranges.push(request.headers.range!);
    serve(request, response);
  }, async (url) => {
    const source = await fromUrl(url);
    await readBytes(source, 10, 20);
    deepEqual(ranges, ["bytes=0-0", "bytes=10-19"]);
    await checkSource(source);
  });
});

test("fromUrl opens an empty file", async () => {
  await withServer(serveRanges(new Uint8Array()), async (url) => {
    equal((await fromUrl(url)).byteLength, 0);
  });
});

test("fromUrl downloads a small file whole from a server without ranges", async () => {
  let requests = 0;
  await withServer((_, response) => {
    requests++;
    response.writeHead(200, { "content-length": BYTES.length }).end(BYTES);
  }, async (url) => {
    await checkSource(await fromUrl(url));
    equal(requests, 1);
  });
});

test("fromUrl refuses a large or unsized file from a server without ranges", async () => {
  for (const length of [MAX_WHOLE_DOWNLOAD_BYTES + 1, null]) {
    await withServer((_, response) => {
      response.writeHead(200, length === null ? {} : { "content-length": length });
      response.write(BYTES);
    }, async (url) => {
      await rejects(
        () => fromUrl(url),
        (error: Error) => {
          match(error.message, /the server does not answer ranges/);
          match(
            error.message,
            length === null ? /Content-Length missing/ : /got Content-Length 67/,
          );
          return error instanceof TypeError;
        },
      );
    });
  }
});

test("fromUrl tells a server's refusal with its status", async () => {
  for (const status of [404, 403, 500]) {
    await withServer((_, response) => response.writeHead(status).end("no"), async (url) => {
      await rejects(
        () => fromUrl(url),
        (error) => error instanceof HttpError && error.status === status,
      );
    });
  }
});

test("fromUrl refuses a partial answer that does not say the file's size", async () => {
  for (const range of [undefined, "bytes 0-0/*", "bytes 0-0/99999999999999999", "bytes 5-5/9"]) {
    await withServer((_, response) => {
      response.writeHead(206, range === undefined ? {} : { "content-range": range }).end("x");
    }, async (url) => {
      await rejects(
        () => fromUrl(url),
        /must say the file's size in Content-Range/,
        range ?? "none",
      );
    });
  }
});

test("fromUrl refuses another range than it asked for, too few bytes and too many", async () => {
  const lies: [string, Handler, RegExp][] = [
    ["another range", (_, response) => {
      response.writeHead(206, { "content-range": "bytes 20-29/1000" }).end(BYTES.subarray(20, 30));
    }, /asked for bytes 10-19\/1000, got "bytes 20-29\/1000"/],
    ["another size", (_, response) => {
      response.writeHead(206, { "content-range": "bytes 10-19/2000" }).end(BYTES.subarray(10, 20));
    }, /asked for bytes 10-19\/1000/],
    ["too few", (_, response) => {
      response.writeHead(206, { "content-range": "bytes 10-19/1000" }).end(BYTES.subarray(10, 15));
    }, /asked for 10 bytes, the connection ended after 5/],
    ["too many", (_, response) => {
      response.writeHead(206, { "content-range": "bytes 10-19/1000" }).end(BYTES.subarray(10, 40));
    }, /asked for 10 bytes, the server sent more/],
    ["the whole file", (_, response) => {
      response.writeHead(200).end(BYTES);
    }, /must answer a range with status 206, got 200/],
    ["gone", (_, response) => {
      response.writeHead(404).end();
    }, /answered 404/],
  ];
  for (const [name, lie, message] of lies) {
    const honest = serveRanges(BYTES);
    await withServer((request, response) => {
      (request.headers.range === "bytes=0-0" ? honest : lie)(request, response);
    }, async (url) => {
      const source = await fromUrl(url);
      await rejects(() => readBytes(source, 10, 20), message, name);
    });
  }
});

test("fromUrl notices that the file changed on the server", async () => {
  let version = 0;
  await withServer((request, response) => {
    serveRanges(BYTES, { etag: `"${version++}"` })(request, response);
  }, async (url) => {
    const source = await fromUrl(url);
    await rejects(() => readBytes(source, 0, 10), /the file changed on the server/);
  });
});

test("fromUrl's signal ends its reads", async () => {
  await withServer(serveRanges(BYTES), async (url) => {
    const controller = new AbortController();
    const source = await fromUrl(url, { signal: controller.signal });
    controller.abort();
    await rejects(() => readBytes(source, 0, 10), { name: "AbortError" });
  });
});

test("fromUrl takes a fetch of the caller's", async () => {
  const source = await fromUrl("https://example.test/x", {
    fetch: (url, init) => {
      equal(url, "https://example.test/x");
      const range = new Headers(init?.headers).get("range")!;
      const [, first, last] = range.match(/(\d+)-(\d+)/)!.map(Number);
      return Promise.resolve(
        new Response(BYTES.slice(first, last! + 1), {
          status: 206,
          headers: { "content-range": `bytes ${first}-${last}/1000` },
        }),
      );
    },
  });
  await checkSource(source);
});
