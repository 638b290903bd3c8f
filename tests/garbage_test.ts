/** Memory that is more than V8's garbage collector copes with: what the command line says of it. */
import { equal, match, ok } from "node:assert/strict";
import { spawn } from "node:child_process";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { calmMemoryBytes } from "../src/system/memory.ts";

const main = fileURLToPath(new URL("../src/cli/main.ts", import.meta.url));
const isDeno = "deno" in process.versions;

/** Reads some 16,000 tokens, whose cache is 65 MB, in a V8 with a heap of so many MiB. */
async function read(heap: number): Promise<{ status: number | null; error: string }> {
  const child = spawn(process.execPath, [
    "run",
    `--v8-flags=--max-old-space-size=${heap},--max-semi-space-size=1`,
    "-A",
    main,
    ...["generate", "--max-tokens", "1", "--cache-format", "f32"],
  ]);
  let error = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => error += text);
  child.stdout.resume();
  child.stdin.end("The old man went slowly down to the harbour in the rain. ".repeat(1000));
  const status = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { status, error };
}

test("beyond twice the heap's limit it is said, once, how V8 is kept calm", {
  skip: isDeno ? false : "of Deno alone",
}, async () => {
  ok(calmMemoryBytes()! > 2 ** 30);
  const beyond = await read(32);
  equal(beyond.status, 0, beyond.error);
  equal(beyond.error.match(/^note: V8 collects garbage .*$/gm)?.length, 1, beyond.error);
  match(beyond.error, /more than \d+(\.\d+)? MB of memory; .*--max-old-space-size=65536/);
  const within = await read(4096);
  equal(within.status, 0, within.error);
  ok(!within.error.includes("garbage"), within.error);
});

test("elsewhere there is no such limit", { skip: isDeno ? "of others" : false }, () => {
  equal(calmMemoryBytes(), null);
});
