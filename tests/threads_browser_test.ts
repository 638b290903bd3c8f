// Threads in a real browser, on a page that may share memory and on one that may not.

import { deepEqual, equal, match, ok } from "node:assert/strict";
import { test } from "node:test";
import { loadModel } from "../mod.ts";
import { findBrowser, visit } from "./support/browser.ts";
import { buildBundles } from "./support/bundles.ts";

const browser = findBrowser();
const skip = browser === null && "there is no Chromium";
if (skip) console.error(`!! ${skip}: the tests of threads in a browser were skipped`);

const plan = {
  library: "/dist/browser/mod.js",
  source: "/models/pocket/",
  text: "The old man went slowly down to the harbour, and the rain fell upon the roofs. ".repeat(
    60,
  ),
  question: "And then the old woman",
  options: { raw: true, maxTokens: 24, temperature: 0.8, seed: 5 },
};

/** What a session answered. */
interface Answer {
  readonly text: string;
  readonly reason?: string;
}

/** See browser/page.js. Counts are null where the system does not tell. */
interface Facts {
  readonly isolated: boolean;
  readonly worker: {
    readonly load: { readonly description: string };
    readonly read: { readonly read: number };
    readonly ask: Answer;
    readonly abortedRead: { readonly read: number; readonly reason?: string };
    readonly abortedAsk: Answer;
    readonly again: Answer;
    readonly atWork: number | null;
    readonly disposed: number | null;
    readonly opened: number | null;
    readonly terminated: number | null;
  };
  readonly page: { readonly load: { readonly description: string }; readonly ask: Answer };
}

/** What the same session writes here. */
async function writeHere(): Promise<{ readonly read: number; readonly text: string }> {
  using model = await loadModel(undefined, { threads: 2 });
  using session = model.session();
  const writer = session.writable().getWriter();
  await writer.write(plan.text);
  await writer.close();
  const read = session.length;
  let text = "";
  for await (const piece of session.ask(plan.question, plan.options)) text += piece;
  return { read, text };
}

for (const isolated of [true, false]) {
  const title = isolated
    ? "on a cross-origin isolated page two threads read, abort, end when disposed or terminated"
    : "on an ordinary page there is one thread, which says why, and the text is the same";
  test(title, { skip }, async () => {
    buildBundles();
    const { isolated: is, worker, page } = await visit<Facts>(browser!, { plan, isolated });
    equal(is, isolated);
    const description = isolated
      ? /^wasm, relaxed SIMD, 2 threads$/
      : /^wasm, relaxed SIMD, 1 thread \(2 wanted, but memory cannot be shared here\)$/;
    match(worker.load.description, description);
    match(page.load.description, description);

    const { read, text } = await writeHere();
    equal(worker.read.read, read);
    deepEqual(worker.ask, { text });
    deepEqual(page.ask, { text });

    equal(worker.abortedRead.reason, "TimeoutError");
    ok(worker.abortedRead.read > read);
    equal(worker.abortedAsk.reason, "AbortError");
    ok(worker.again.text.length > 0);

    if (worker.atWork === null) return; // the system does not count threads
    const { atWork, disposed, opened, terminated } = worker;
    // The session's own worker, and the library's.
    deepEqual({ atWork, disposed, opened, terminated }, {
      atWork: isolated ? 2 : 1,
      disposed: 1,
      opened: 1,
      terminated: 0,
    });
  });
}
