/**
 * A model hub on this machine: the routes that the real one has, and a second host that serves the
 * large files, as there. It can be told to misbehave.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A request that came. */
export interface HubRequest {
  readonly host: "hub" | "files";
  /** Without the query. */
  readonly path: string;
  readonly range: string | undefined;
  readonly ifRange: string | undefined;
  readonly authorization: string | undefined;
}

/** What goes wrong; all of it may be changed between two requests. */
export interface Misbehaviour {
  /** Drops so many connections of the host of large files, each after `dropAfter` bytes. */
  drops: number;
  dropAfter: number;
  /** Serves the file of this path with a byte changed. */
  damaged: string | null;
  /** Without ranges: everything, status 200. */
  noRanges: boolean;
  /** Milliseconds between two pieces of 16 KiB. */
  pause: number;
  /** Who does not send this token is refused: as unknown (401), or as gated (403). */
  token: string | null;
  gated: boolean;
  /** Says another hash or size of large files when it sends to the other host. */
  announces: { hash?: string; size?: number };
  /** Answers 503 so many times. */
  busy: number;
  /** The sizes that it lists are larger by this. */
  exaggerates: number;
}

/** A hub that runs. */
export interface TestHub extends Misbehaviour {
  readonly endpoint: string;
  readonly commit: string;
  readonly requests: HubRequest[];
  /** Requests for a file's bytes, in order. */
  requestsFor(path: string): HubRequest[];
}

/** Files of this size and more are on the other host, as Git LFS has it. */
const LARGE = 20_000;
/** Entries on a page of the listing. */
const PAGE = 4;

/** The hash that the hub knows a file by: SHA-256 of a large one, SHA-1 of a small one's git blob. */
export function hubHash(bytes: Uint8Array): string {
  return bytes.length >= LARGE
    ? createHash("sha256").update(bytes).digest("hex")
    : createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
}

/** Runs a hub with one model, `user/model`, with branch `main` and tag `v1`. */
export async function withHub(
  files: Readonly<Record<string, Uint8Array>>,
  use: (hub: TestHub) => Promise<void>,
): Promise<void> {
  const commit = createHash("sha1").update(Object.values(files).map(hubHash).join()).digest("hex");
  const requests: HubRequest[] = [];
  let filesHost = "";
  const record = (host: HubRequest["host"], { url, headers }: IncomingMessage): void => {
    requests.push({
      host,
      path: decodeURIComponent(url!.replace(/\?.*/, "")),
      range: headers.range,
      ifRange: headers["if-range"] as string | undefined,
      authorization: headers.authorization,
    });
  };
  const refuse = (response: ServerResponse, status: number, code: string): void => {
    response.writeHead(status, { "content-type": "application/json", "x-error-code": code })
      .end(JSON.stringify({ error: code }));
  };
  const sendJson = (response: ServerResponse, value: unknown, headers = {}): void => {
    response.writeHead(200, { "content-type": "application/json", ...headers })
      .end(JSON.stringify(value));
  };

  const hubServer = createServer((request, response) => {
    if (allowPages(request, response)) return;
    record("hub", request);
    if (hub.busy > 0) {
      hub.busy--;
      response.writeHead(503).end();
      return;
    }
    const url = new URL(request.url!, hub.endpoint);
    const path = decodeURIComponent(url.pathname);
    const isAllowed = hub.token === null ||
      request.headers.authorization === `Bearer ${hub.token}`;
    const [, api, repo, route, rest] =
      /^(\/api\/models)?\/(user\/[^/]+)\/(revision|tree|resolve)\/(.*)$/.exec(path) ?? [];
    if (repo !== "user/model" || (!isAllowed && !hub.gated)) {
      return refuse(response, request.headers.authorization ? 404 : 401, "RepoNotFound");
    }
    if (api && route === "revision") {
      if (!["main", "v1", commit].includes(rest!)) return refuse(response, 404, "RevisionNotFound");
      return sendJson(response, { _id: "1", id: repo, sha: commit, private: false });
    }
    if (api && route === "tree" && rest === commit) {
      const from = Number(url.searchParams.get("cursor") ?? 0);
      const all = Object.entries(files);
      const entries = all.slice(from, from + PAGE).map(([path, bytes]) => {
        const size = bytes.length + hub.exaggerates;
        return bytes.length >= LARGE
          ? {
            type: "file",
            path,
            size,
            oid: "0".repeat(40),
            lfs: { oid: hubHash(bytes), size, pointerSize: 130 },
          }
          : { type: "file", path, size, oid: hubHash(bytes) };
      });
      url.searchParams.set("cursor", String(from + PAGE));
      const link = from + PAGE < all.length ? { link: `<${url.href}>; rel="next"` } : {};
      return sendJson(response, entries, link);
    }
    const [, at, name] = /^([^/]*)\/(.*)$/.exec(rest ?? "") ?? [];
    const bytes = at === commit && Object.hasOwn(files, name!) ? files[name!] : undefined;
    if (bytes === undefined) return refuse(response, 404, "EntryNotFound");
    if (!isAllowed) return refuse(response, 403, "GatedRepo");
    if (bytes.length < LARGE) return serve(request, response, name!, bytes);
    response.writeHead(302, {
      "location": `${filesHost}/blobs/${encodeURIComponent(name!)}?signature=1`,
      "x-linked-etag": `"${hub.announces.hash ?? hubHash(bytes)}"`,
      "x-linked-size": String(hub.announces.size ?? bytes.length),
      "x-repo-commit": commit,
    }).end();
  });
  const fileServer = createServer((request, response) => {
    if (allowPages(request, response)) return;
    record("files", request);
    const name = decodeURIComponent(request.url!.replace(/^\/blobs\/|\?.*/g, ""));
    serve(request, response, name, files[name]!);
  });

  const serve = (
    request: IncomingMessage,
    response: ServerResponse,
    name: string,
    whole: Uint8Array,
  ): void => {
    let bytes = whole;
    if (name === hub.damaged) {
      bytes = whole.slice();
      bytes[bytes.length >> 1]! ^= 1;
    }
    const etag = `"${createHash("md5").update(bytes).digest("hex")}"`;
    const ifRange = request.headers["if-range"];
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
    let body = bytes;
    if (first === undefined || hub.noRanges || (ifRange !== undefined && ifRange !== etag)) {
      response.writeHead(200, { etag, "content-length": bytes.length });
    } else if (Number(first) >= bytes.length) {
      response.writeHead(416, { "content-range": `bytes */${bytes.length}` }).end();
      return;
    } else {
      const end = Math.min(Number(last) + 1, bytes.length);
      body = bytes.subarray(Number(first), end);
      response.writeHead(206, {
        etag,
        "content-length": body.length,
        "content-range": `bytes ${first}-${end - 1}/${bytes.length}`,
      });
    }
    void send(response, body);
  };
  const send = async (response: ServerResponse, body: Uint8Array): Promise<void> => {
    const isDropped = body.length >= LARGE && hub.drops > 0 && hub.drops-- > 0;
    const end = isDropped ? Math.min(hub.dropAfter, body.length) : body.length;
    for (let start = 0; start < end && !response.destroyed; start += 16384) {
      if (hub.pause > 0) await new Promise((resolve) => setTimeout(resolve, hub.pause));
      await new Promise((resolve) =>
        response.write(body.subarray(start, Math.min(start + 16384, end)), resolve)
      );
    }
    if (!isDropped) return void response.end();
    // A reset overtakes what has not been read yet.
    await new Promise((resolve) => setTimeout(resolve, 50));
    response.destroy();
  };

  const hub: TestHub = {
    endpoint: await listen(hubServer),
    commit,
    requests,
    requestsFor: (path) =>
      requests.filter((request) =>
        request.path.endsWith(`/${path}`) && !/^\/api/.test(request.path)
      ),
    drops: 0,
    dropAfter: 0,
    damaged: null,
    noRanges: false,
    pause: 0,
    token: null,
    gated: false,
    announces: {},
    busy: 0,
    exaggerates: 0,
  };
  filesHost = await listen(fileServer);
  try {
    await use(hub);
  } finally {
    await Promise.all([close(hubServer), close(fileServer)]);
  }
}

/** Where nobody answers. */
export async function nobody(): Promise<string> {
  const server = createServer();
  const place = await listen(server);
  await close(server);
  return place;
}

/** Lets pages of other origins ask; true if they asked for just that. */
function allowPages(request: IncomingMessage, response: ServerResponse): boolean {
  response.setHeader("access-control-allow-origin", "*");
  response.setHeader(
    "access-control-expose-headers",
    "X-Repo-Commit,X-Error-Code,X-Linked-Size,X-Linked-ETag,ETag,Link,Content-Range",
  );
  if (request.method !== "OPTIONS") return false;
  response.writeHead(204, { "access-control-allow-headers": "authorization,range" }).end();
  return true;
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function close(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}
