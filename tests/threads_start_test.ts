// Hosts whose workers do not come.

import { match, ok } from "node:assert/strict";
import { test } from "node:test";
import type { Backend } from "../src/backend/backend.ts";
import { openBackend } from "../src/backend/open.ts";

const skip = typeof Worker === "undefined" && "this host has no workers";

/** Opens a backend of 3 threads where `Worker` is something else. */
async function openWith(worker: unknown): Promise<Backend> {
  const host = globalThis as { Worker: unknown };
  const real = host.Worker;
  host.Worker = worker;
  try {
    return await openBackend("wasm", { threads: 3 });
  } finally {
    host.Worker = real;
  }
}

test(
  "a backend whose workers never answer opens with one thread and says why",
  { skip },
  async () => {
    const began = performance.now();
    // Other libraries do replace it.
    using backend = await openWith(
      class {
        postMessage() {}
      },
    );
    match(backend.description, /1 thread \(3 wanted, but .* no answer within 5000 ms\)/);
    ok(performance.now() - began < 20_000);
  },
);

test(
  "a backend that may not start workers opens with one thread and says why",
  { skip },
  async () => {
    // As browsers do where the library comes from another origin than the page.
    using backend = await openWith(
      class {
        constructor() {
          throw new Error("refused");
        }
      },
    );
    match(backend.description, /1 thread \(3 wanted, but a worker did not start: Error: refused\)/);
  },
);
