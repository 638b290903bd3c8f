/**
 * Chromium without a window, on a page of tests/browser.
 *
 * @module
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createReadStream, existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { repository } from "./shared.ts";

const BROWSERS = ["chromium", "chromium-browser", "google-chrome"];

/** How Chromium is started: without a window, and without calls home. */
export const FLAGS: readonly string[] = [
  "--headless",
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
};

/** How long a page may take. */
const PATIENCE_MS = 300_000;

/** The command of a browser that is there; null if none is. */
export function findBrowser(): string | null {
  return BROWSERS.find((name) => spawnSync(name, ["--version"]).status === 0) ?? null;
}

/** How Chromium computes: without a GPU, or with SwiftShader in a GPU's place. */
const GPU_FLAGS = {
  none: ["--disable-gpu"],
  swiftshader: ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"],
} as const;

/**
 * Shows a page of tests/browser until it has told its facts.
 *
 * @param options `plan` is what the page is told; `isolated`, whether it may share memory; `page`, which
 * it is, if not index.html; `pages`, others that are served by their paths, as HTML.
 * @throws {Error} If the page tells of an error, or nothing at all.
 */
export async function visit<Facts>(
  browser: string,
  options: {
    readonly plan: unknown;
    readonly isolated: boolean;
    readonly page?: string;
    readonly pages?: Readonly<Record<string, string>>;
    readonly gpu?: keyof typeof GPU_FLAGS;
  },
): Promise<Facts> {
  const profile = await mkdtemp(join(tmpdir(), "reattention-browser-"));
  let child: ChildProcess | null = null;
  const told = Promise.withResolvers<Facts & { readonly error?: string }>();
  const answers: Readonly<Record<string, (body: string) => unknown>> = {
    "/plan": () => options.plan,
    "/workers": (body) => countWorkers(child!.pid!, (JSON.parse(body).most as number) ?? Infinity),
    "/facts": (body) => told.resolve(JSON.parse(body)),
  };
  const server = createServer((request, response) => {
    if (options.isolated) {
      response.setHeader("cross-origin-opener-policy", "same-origin");
      response.setHeader("cross-origin-embedder-policy", "require-corp");
    }
    const made = options.pages?.[request.url!];
    if (made !== undefined) {
      return void response.setHeader("content-type", "text/html; charset=utf-8").end(made);
    }
    if (request.method !== "POST") return serveFile(request, response);
    void readBody(request).then(async (body) => {
      response.end(JSON.stringify(await answers[request.url!]!(body) ?? null));
    });
  });
  const late = setTimeout(
    () => told.reject(new Error(`the page told nothing within ${PATIENCE_MS} ms`)),
    PATIENCE_MS,
  );
  try {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const page = `http://127.0.0.1:${port}/tests/browser/${options.page ?? "index.html"}`;
    const flags = [...FLAGS, ...GPU_FLAGS[options.gpu ?? "none"], `--user-data-dir=${profile}`];
    child = spawn(browser, [...flags, page], { stdio: "ignore" });
    child.on("error", told.reject);
    child.on("close", () => told.reject(new Error("the browser has ended")));
    const facts = await told.promise;
    if (facts.error !== undefined) throw new Error(facts.error);
    return facts;
  } finally {
    clearTimeout(late);
    if (child !== null) await end(child);
    server.close();
    server.closeAllConnections();
    await removeProfile(profile);
  }
}

/**
 * Threads of workers in a browser, as the system names them, once there are no more than `most` or two
 * seconds have passed; null where the system does not tell.
 */
async function countWorkers(browser: number, most: number): Promise<number | null> {
  for (let waited = 0;; waited += 50) {
    const count = workersOf(browser);
    if (count === null || count <= most || waited >= 2000) return count;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function workersOf(browser: number): number | null {
  if (!existsSync("/proc/self/task")) return null;
  const parents = new Map<number, number>();
  for (const name of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    const parent = /^PPid:\s*(\d+)$/m.exec(readIfThere(`/proc/${name}/status`))?.[1];
    if (parent !== undefined) parents.set(Number(name), Number(parent));
  }
  const isOurs = (id: number | undefined): boolean =>
    id !== undefined && (id === browser || isOurs(parents.get(id)));
  const names = [...parents.keys()].filter(isOurs).flatMap((id) => {
    const tasks = existsSync(`/proc/${id}/task`) ? readdirSync(`/proc/${id}/task`) : [];
    return tasks.map((task) => readIfThere(`/proc/${id}/task/${task}/comm`));
  });
  return names.filter((name) => name.startsWith("DedicatedWorker")).length;
}

/** Processes and threads come and go while one looks. */
function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** Any file of the repository. */
function serveFile(request: IncomingMessage, response: ServerResponse): void {
  const root = fileURLToPath(repository);
  const file = join(root, decodeURIComponent(new URL(request.url!, "http://localhost").pathname));
  if (!file.startsWith(root) || !existsSync(file)) {
    response.writeHead(404).end();
    return;
  }
  response.setHeader("content-type", TYPES[extname(file)] ?? "application/octet-stream");
  response.setHeader("content-length", statSync(file).size);
  createReadStream(file).pipe(response);
}

async function readBody(request: IncomingMessage): Promise<string> {
  let body = "";
  for await (const chunk of request.setEncoding("utf8")) body += chunk;
  return body;
}

/** Ends a browser, and waits until it has. */
export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  child.kill();
  await ended;
}

/**
 * Removes the folder of a browser that has ended. Its helpers end a little later and write until then, which
 * makes a removal fail; and `maxRetries` is not enough in Deno 2.9.
 */
export async function removeProfile(folder: string): Promise<void> {
  for (let tries = 1;; tries++) {
    try {
      return await rm(folder, { recursive: true, force: true });
    } catch (error) {
      if (tries === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}
