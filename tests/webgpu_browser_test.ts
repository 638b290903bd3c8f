// WebGPU in a real browser, on SwiftShader.

import { equal, match } from "node:assert/strict";
import { test } from "node:test";
import { findBrowser, visit } from "./support/browser.ts";
import { buildBundles } from "./support/bundles.ts";

const browser = findBrowser();
const skip = browser === null
  ? "there is no Chromium"
  // SwiftShader takes half a minute to compile the kernels.
  : "Bun" in globalThis && "the page does not know who opened it: Deno's run is enough";
if (browser === null) console.error(`!! ${skip}: the test of WebGPU in a browser was skipped`);

/** See browser/webgpu.js. */
interface Facts {
  readonly isolated: boolean;
  readonly auto: string;
  readonly processor: { readonly description: string; readonly written: string };
  readonly gpu: { readonly description: string; readonly written: string };
}

test("a page writes the same on WebGPU as on the processor", { skip }, async () => {
  buildBundles();
  const plan = {
    library: "/dist/browser/mod.js",
    source: "/models/pocket/",
    text: "It was a dark and stormy night, and the old man",
    maxTokens: 4,
  };
  const facts = await visit<Facts>(browser!, {
    plan,
    isolated: true,
    page: "webgpu.html",
    gpu: "swiftshader",
  });
  equal(facts.isolated, true);
  equal(facts.auto, "wasm");
  match(facts.processor.description, /^wasm/);
  match(facts.gpu.description, /^webgpu, .*swiftshader/i);
  equal(facts.gpu.written, facts.processor.written);
});
