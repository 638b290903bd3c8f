// Files on servers, read by ranges: servers that obey, and those that do not.

import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { readBytes } from "../src/files/byte_source.ts";
import { ConnectionError, HttpError } from "../src/files/http_range.ts";
import { fromUrl, MAX_WHOLE_DOWNLOAD_BYTES } from "../src/files/http_source.ts";
import { BYTES, checkSource } from "./support/byte_sources.ts";
import { nobody } from "./support/hub_server.ts";

/** Nobody waits for long here. */
const QUICK = { retryDelay: 1 };

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
  for (const status of [404, 403, 500, 429]) {
    await withServer((_, response) => response.writeHead(status).end("no"), async (url) => {
      await rejects(
        () => fromUrl(url, QUICK),
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

test("fromUrl refuses another range than it asked for, and too many bytes", async () => {
  const lies: [string, Handler, RegExp][] = [
    ["another range", (_, response) => {
      response.writeHead(206, { "content-range": "bytes 20-29/1000" }).end(BYTES.subarray(20, 30));
    }, /asked for bytes 10-19\/1000, got "bytes 20-29\/1000"/],
    ["another size", (_, response) => {
      response.writeHead(206, { "content-range": "bytes 10-19/2000" }).end(BYTES.subarray(10, 20));
    }, /asked for bytes 10-19\/1000/],
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
      const source = await fromUrl(url, QUICK);
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

/** Serves ranges, but ends each answer of more than a byte after `length` bytes, so many times. */
function dropping(length: number, times: number): Handler & { readonly ranges: string[] } {
  const ranges: string[] = [];
  const handler: Handler = (request, response) => {
    const { range } = request.headers;
    if (range !== "bytes=0-0") ranges.push(range!);
    if (range === "bytes=0-0" || times-- <= 0) return serveRanges(BYTES)(request, response);
    const [, first, last] = range!.match(/(\d+)-(\d+)/)!.map(Number);
    response.writeHead(206, {
      "content-range": `bytes ${first}-${last}/${BYTES.length}`,
      "content-length": last! + 1 - first!,
    });
    if (length === 0) response.flushHeaders();
    response.write(BYTES.subarray(first, first! + length), () => {
      setTimeout(() => response.destroy(), 20);
    });
  };
  return Object.assign(handler, { ranges });
}

test("fromUrl goes on at the byte where a connection was dropped", async () => {
  const handler = dropping(100, 7);
  await withServer(handler, async (url) => {
    // More drops than retries: each brought something.
    const source = await fromUrl(url, { ...QUICK, retries: 2 });
    deepEqual(await readBytes(source, 50, 950), BYTES.slice(50, 950));
    deepEqual(
      handler.ranges,
      Array.from({ length: 8 }, (_, i) => `bytes=${50 + 100 * i}-949`),
    );
  });
});

test("fromUrl gives up a connection that is dropped again and again without a byte", async () => {
  const handler = dropping(0, 100);
  await withServer(handler, async (url) => {
    const source = await fromUrl(url, { ...QUICK, retries: 3 });
    await rejects(
      () => readBytes(source, 0, 10),
      (error: Error) => error instanceof ConnectionError && /Cannot read http/.test(error.message),
    );
    equal(handler.ranges.length, 4);
  });
});

test("fromUrl says that a server cannot be reached", async () => {
  const url = `${await nobody()}/x`;
  await rejects(
    () => fromUrl(url, { ...QUICK, retries: 1 }),
    (error: Error) =>
      error instanceof ConnectionError &&
      error.message.startsWith(`Cannot reach the server of ${url}: `) &&
      error.message.lastIndexOf("http") === error.message.indexOf("http"),
  );
});

test("fromUrl gives up a server that falls silent, and asks again", async () => {
  let requests = 0;
  await withServer((request, response) => {
    if (request.headers.range === "bytes=0-0" || requests++ > 0) {
      serveRanges(BYTES)(request, response);
    } else {
      response.writeHead(206, { "content-range": "bytes 0-9/1000", "content-length": 10 });
      response.write(BYTES.subarray(0, 5));
    }
  }, async (url) => {
    const source = await fromUrl(url, { ...QUICK, stallTimeout: 500 });
    deepEqual(await readBytes(source, 0, 10), BYTES.slice(0, 10));
    ok(requests >= 2);
  });
});

test("fromUrl waits as long as a busy server asks, but not for ever", async () => {
  let requests = 0;
  const times: number[] = [];
  await withServer((request, response) => {
    times.push(performance.now());
    if (requests++ < 2) {
      response.writeHead(503, { "retry-after": requests === 1 ? "0" : "1" }).end();
    } else serveRanges(BYTES)(request, response);
  }, async (url) => {
    equal((await fromUrl(url, QUICK)).byteLength, 1000);
    ok(times[2]! - times[1]! > 900, `${times}`);
  });
});

test("fromUrl notices a change by Last-Modified where there is no ETag", async () => {
  let day = 1;
  await withServer((request, response) => {
    const date = new Date(Date.UTC(2026, 0, day++)).toUTCString();
    serveRanges(BYTES, { "last-modified": date })(request, response);
  }, async (url) => {
    const source = await fromUrl(url);
    await rejects(() => readBytes(source, 0, 10), /the file changed on the server/);
  });
});

test("fromUrl notices a change while a dropped read goes on", async () => {
  let version = 0;
  const handler = dropping(5, 1);
  await withServer((request, response) => {
    response.setHeader("etag", `"${version >> 1}"`);
    version++;
    handler(request, response);
  }, async (url) => {
    const source = await fromUrl(url, QUICK);
    await rejects(() => readBytes(source, 0, 10), /the file changed on the server/);
  });
});

test("fromUrl's whole download needs no more memory than what comes", async () => {
  await withServer((_, response) => {
    response.writeHead(200, { "content-length": MAX_WHOLE_DOWNLOAD_BYTES });
    response.write(BYTES, () => setTimeout(() => response.destroy(), 20));
  }, async (url) => {
    await rejects(() => fromUrl(url, { ...QUICK, retries: 1 }), ConnectionError);
  });
});
