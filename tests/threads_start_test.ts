import { match, ok } from "node:assert/strict";
import { test } from "node:test";
import { openBackend } from "../src/backend/open.ts";

test(
  "a backend whose workers never answer opens with one thread and says why",
  { skip: typeof Worker === "undefined" && "this host has no workers" },
  async () => {
    const host = globalThis as { Worker: unknown };
    const real = host.Worker;
    // Other libraries do replace it.
    host.Worker = class {
      postMessage() {}
    };
    try {
      const began = performance.now();
      using backend = await openBackend("wasm", { threads: 2 });
      match(backend.description, /1 thread/);
      ok(performance.now() - began < 20_000);
    } finally {
      host.Worker = real;
    }
  },
);
