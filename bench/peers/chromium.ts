/**
 * A page in Chromium without a window that answers questions: wllama (llama.cpp in WebAssembly) and
 * the library side by side, where wllama is at home.
 *
 * @module
 */

import { spawn, spawnSync } from "node:child_process";
import { createReadStream, existsSync, statSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { end, findBrowser, FLAGS, removeProfile } from "../../tests/support/browser.ts";
import { notice, reasonOf } from "../support/notice.ts";
import { peerFile } from "./installed.ts";

/** How long the browser may take to show the page. */
const START_SECONDS = 60;

/** The library's bundle for browsers: scripts/build.ts. */
const BUNDLE = fileURLToPath(new URL("../../dist/browser/", import.meta.url));

/** The page. One question at a time. */
export interface Page {
  /** E.g. `chromium 156`. */
  readonly name: string;
  /** Where it finds the model: the file's own name in a folder of that. */
  readonly modelUrl: string;
  /** @throws {Error} If the page answers with an `error`, or the browser has ended. */
  ask<T>(question: Readonly<Record<string, unknown>>): Promise<T>;
  close(): Promise<void>;
}

/** Opens the page; null, said aloud, where something that it needs is not there. */
export async function openPage(modelPath: string): Promise<Page | null> {
  const wllama = peerFile("@wllama/wllama", "esm/");
  if (wllama === null) return null;
  const browser = findBrowser();
  if (browser === null) {
    notice("there is no Chromium, so nothing is compared with wllama");
    return null;
  }
  if (!buildBundle()) return null;
  const folders = {
    "/wllama/": fileURLToPath(wllama),
    "/library/": BUNDLE,
    "/model/": dirname(modelPath) + "/",
    "/": fileURLToPath(new URL("browser/", import.meta.url)),
  };
  const exchange = new Exchange();
  const server = createServer((request, response) => {
    if (request.method === "POST") exchange.accept(request, response);
    else serveFile(folders, request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const profile = await mkdtemp(join(tmpdir(), "reattention-chromium-"));
  const child = spawn(
    browser,
    [...FLAGS, `--user-data-dir=${profile}`, `http://127.0.0.1:${port}/index.html`],
    { stdio: "ignore" },
  );
  const close = async () => {
    await end(child);
    server.close();
    server.closeAllConnections();
    await removeProfile(profile);
  };
  child.on("close", () => exchange.fail(new Error(`${browser} has ended`)));
  child.on("error", (error) => exchange.fail(error));
  try {
    const { userAgent } = await exchange.first<{ userAgent: string }>();
    return {
      name: `chromium ${/Chrome\/(\d+)/.exec(userAgent)?.[1] ?? "?"}`,
      modelUrl: "/model/",
      ask: (question) => exchange.ask(question),
      close,
    };
  } catch (error) {
    await close();
    notice(`the page in Chromium does not start, so it is left out: ${reasonOf(error)}`);
    return null;
  }
}

/** Bundles the library as it is now; false, said aloud, where that fails. */
function buildBundle(): boolean {
  const script = fileURLToPath(new URL("../../scripts/build.ts", import.meta.url));
  const before = "Deno" in globalThis ? ["run", "-A"] : [];
  const { status, stderr } = spawnSync(process.execPath, [...before, script], { encoding: "utf8" });
  if (status === 0) return true;
  notice(`the library cannot be bundled, so nothing runs in Chromium: ${reasonOf(stderr)}`);
  return false;
}

/** The page asks for a question with the answer to the one before. */
class Exchange {
  #waiting: ServerResponse | null = null;
  #answered: ((answer: string | Error) => void) | null = null;
  #unread: string | Error | null = null;

  accept(request: IncomingMessage, response: ServerResponse): void {
    let body = "";
    request.on("data", (bytes: Uint8Array) => body += new TextDecoder().decode(bytes));
    request.on("end", () => {
      this.#waiting = response;
      this.#settle(body);
    });
  }

  fail(error: Error): void {
    this.#settle(error);
  }

  /** What the page says of itself, once it has loaded. */
  async first<T>(): Promise<T> {
    const late = setTimeout(
      () => this.fail(new Error("the page does not load")),
      START_SECONDS * 1000,
    );
    try {
      return await this.#answer<T>();
    } finally {
      clearTimeout(late);
    }
  }

  async ask<T>(question: Readonly<Record<string, unknown>>): Promise<T> {
    const answer = this.#answer<T & { error?: string }>();
    this.#waiting!.setHeader("content-type", "application/json");
    this.#waiting!.end(JSON.stringify(question));
    const found = await answer;
    if (found.error !== undefined) throw new Error(found.error);
    return found;
  }

  async #answer<T>(): Promise<T> {
    const answer = this.#unread ??
      await new Promise<string | Error>((resolve) => {
        this.#answered = resolve;
      });
    this.#unread = null;
    this.#answered = null;
    if (answer instanceof Error) throw answer;
    return JSON.parse(answer) as T;
  }

  #settle(answer: string | Error): void {
    if (this.#answered) this.#answered(answer);
    else this.#unread = answer;
  }
}

const TYPES: Readonly<Record<string, string>> = {
  html: "text/html",
  js: "text/javascript",
  json: "application/json",
  wasm: "application/wasm",
};

function serveFile(
  folders: Readonly<Record<string, string>>,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const path = decodeURIComponent(new URL(request.url!, "http://localhost").pathname);
  const [prefix, folder] = Object.entries(folders).find(([prefix]) => path.startsWith(prefix))!;
  const file = join(folder, path.slice(prefix.length));
  // Without these two a page has no shared memory.
  response.setHeader("cross-origin-opener-policy", "same-origin");
  response.setHeader("cross-origin-embedder-policy", "require-corp");
  response.setHeader("accept-ranges", "bytes");
  if (!file.startsWith(folder) || !existsSync(file) || !statSync(file).isFile()) {
    response.writeHead(404).end();
    return;
  }
  const { size } = statSync(file);
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const start = range ? Number(range[1]) : 0;
  const last = range?.[2] ? Math.min(Number(range[2]), size - 1) : size - 1;
  response.writeHead(range ? 206 : 200, {
    "content-type": TYPES[file.slice(file.lastIndexOf(".") + 1)] ??
      "application/octet-stream",
    "content-length": last - start + 1,
    ...range ? { "content-range": `bytes ${start}-${last}/${size}` } : {},
  });
  if (request.method === "HEAD") response.end();
  else createReadStream(file, { start, end: last }).pipe(response);
}
