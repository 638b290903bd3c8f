/**
 * Needles in a book: streams a text file of any length through the embedded model, one needle at
 * each depth, asks for each over one reading, and writes down time and memory.
 *
 *     deno run -A bench/needle.ts ../shared/text/war-and-peace.txt
 *     bun bench/needle.ts ../shared/text/war-and-peace.txt
 */
import { openSync, readSync, statSync } from "node:fs";
import process from "node:process";
import { loadModel } from "../mod.ts";
import { peakMemoryBytes } from "../src/system/system.ts";

const [path, ...rest] = process.argv.slice(2);
if (path === undefined) {
  throw new TypeError("Cannot start: a text file must be given, got none");
}
const depths = rest.length > 0 ? rest.map(Number) : [0.1, 0.5, 0.9];
const KEYS = [
  "quiet-falcon",
  "golden-river",
  "winter-anchor",
  "silver-otter",
  "brave-lantern",
];
const needles = depths.map((depth, i) => ({
  depth,
  key: KEYS[i % KEYS.length]!,
  value: String(7392148 - i * 1370911),
}));

/** The file's text in pieces, each needle at the first space after its depth. */
function* pieces(path: string): Generator<string> {
  const file = openSync(path, "r");
  const size = statSync(path).size;
  const decoder = new TextDecoder();
  const bytes = new Uint8Array(1 << 16);
  const waiting = [...needles].sort((a, b) => a.depth - b.depth);
  for (let at = 0; at < size;) {
    const count = readSync(file, bytes, 0, bytes.length, at);
    at += count;
    let text = decoder.decode(bytes.subarray(0, count), { stream: at < size });
    while (waiting.length > 0 && waiting[0]!.depth * size <= at) {
      const { key, value, depth } = waiting.shift()!;
      const part = text.length -
        Math.round((at - depth * size) / count * text.length);
      const space = text.indexOf(
        " ",
        Math.max(0, Math.min(part, text.length - 100)),
      );
      const needle = ` One of the special magic numbers for ${key} is: ${value}.`;
      text = text.slice(0, space) + needle + text.slice(space);
    }
    yield text;
  }
}

const began = performance.now();
using model = await loadModel();
using session = model.session();
const loaded = performance.now();
const writer = session.writable().getWriter();
for (const text of pieces(path)) await writer.write(text);
await writer.close();
const read = performance.now();
const runtime = "Deno" in globalThis ? "Deno" : "Bun" in globalThis ? "Bun" : "Node";
const { length, cacheBytes } = session.stats;
console.log(`${runtime}, ${model.backend.description}`);
console.log(`loaded in ${Math.round(loaded - began)} ms`);
console.log(
  `read ${length} tokens in ${((read - loaded) / 1000).toFixed(1)} s: ` +
    `${Math.round(length / (read - loaded) * 1000)} tokens/s, cache ${
      Math.round(cacheBytes / 2 ** 20)
    } MiB`,
);
let right = 0;
for (const { key, value, depth } of needles) {
  const asked = performance.now();
  using fork = session.fork();
  let answer = "";
  let first = 0;
  for await (
    const text of fork.ask(`What is the special magic number for ${key}?`)
  ) {
    first ||= performance.now();
    answer += text;
  }
  const now = performance.now();
  if (answer.includes(value)) right++;
  console.log(
    `depth ${depth}: ${key} = ${value}, answered "${answer}" in ` +
      `${((now - asked) / 1000).toFixed(2)} s (first text after ${
        ((first - asked) / 1000).toFixed(2)
      } s)`,
  );
}
console.log(
  `${right} of ${needles.length} right, peak memory ${
    Math.round(peakMemoryBytes() / 2 ** 20)
  } MiB, ${((performance.now() - began) / 1000).toFixed(1)} s in all`,
);
process.exitCode = right === needles.length ? 0 : 1;
