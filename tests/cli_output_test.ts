// What the command line shows and writes, without running it: progress, traces, numbers, names.

import { deepEqual, equal, match } from "node:assert/strict";
import { test } from "node:test";
import {
  clip,
  formatBytes,
  formatCount,
  formatRate,
  formatSeconds,
  plural,
  printable,
  wrap,
} from "../src/cli/format.ts";
import { describeSelectLayers, nameLayers } from "../src/cli/inspect.ts";
import { joinInputs } from "../src/cli/inputs.ts";
import { createProgress } from "../src/cli/progress.ts";
import { createTrace } from "../src/cli/trace.ts";

test("the progress line ends in a line feed, is rewritten now and then, and goes away", async () => {
  let time = 0;
  let written = "";
  const output = {
    isTerminal: true,
    columns: 12,
    write(text: string): Promise<void> {
      written += text;
      return Promise.resolve();
    },
  };
  const progress = createProgress(output, true, () => time);
  await progress.show(() => "first and too long");
  equal(written, "first and …\n");
  time = 50;
  await progress.show(() => {
    throw new Error("too early to ask");
  });
  time = 200;
  written = "";
  await progress.show(() => "second");
  equal(written, "\x1b[1A\r\x1b[2Ksecond\n");
  written = "";
  await progress.clear();
  await progress.clear();
  equal(written, "\x1b[1A\r\x1b[2K");

  const silent = createProgress({ ...output, isTerminal: false }, true, () => time);
  written = "";
  await silent.show(() => "nobody looks");
  await silent.clear();
  await createProgress(output, false, () => time).show(() => "nobody wants to");
  equal(written, "");
});

test("stretches of joined inputs are found in the bytes they came from", async () => {
  const bytes = (...parts: (string | number[])[]) =>
    Buffer.concat(parts.map((part) => Buffer.from(part as string)));
  const contents = [
    bytes("ab", [0xff], "cé", [0xe2, 0x82], "d", [0xc3]), // ends within a character
    bytes(),
    bytes([0xa9], "xyz"),
  ];
  for (const size of [1, 3, 100]) {
    const inputs = joinInputs(contents.map((content, i) => ({
      name: `${i}`,
      path: null,
      async *bytes() {
        for (let at = 0; at < content.length; at += size) yield content.subarray(at, at + size);
      },
    })));
    let text = "";
    for await (const piece of inputs.text()) text += piece;
    equal(text, "ab\ufffdcé\ufffdd\ufffd\ufffdxyz");
    deepEqual(inputs.reports().map(({ replaced }) => replaced), [3, 0, 1]);
    equal(inputs.byteLength, 14);
    const utf8 = Buffer.from(text);
    const locate = (part: string) => {
      const at = utf8.indexOf(part);
      return inputs.locate(at, at + Buffer.from(part).length);
    };
    deepEqual(locate("ab"), { input: 0, startByte: 0, endByte: 2 });
    deepEqual(locate("cé"), { input: 0, startByte: 3, endByte: 6 });
    deepEqual(locate("d\ufffd"), { input: 0, startByte: 8, endByte: 10 });
    deepEqual(locate("xyz"), { input: 2, startByte: 1, endByte: 4 });
    deepEqual(locate("d\ufffd\ufffdxy"), { input: 0, startByte: 8, endInput: 2, endByte: 3 });
    equal(inputs.locate(utf8.length, utf8.length), null);
    equal(inputs.locate(utf8.length - 1, utf8.length + 1), null);
  }
});

test("a trace keeps the order of what it was told and waits for the file", async () => {
  let written = "";
  const trace = createTrace(
    {
      write(text: string): Promise<void> {
        written += text;
        return Promise.resolve();
      },
      [Symbol.asyncDispose]: () => Promise.resolve(),
    },
    { scope: { globalSize: Infinity } },
    (startByte, endByte) => startByte < 10 ? { input: 0, startByte, endByte } : null,
  );
  const span = (start: number) => ({ start, end: start + 2, startByte: start, endByte: start + 2 });
  trace.record({ step: 3, phase: "generate", layer: 1, length: 20, spans: [[span(4), span(12)]] });
  equal(written, "");
  await trace.flush();
  deepEqual(written.trimEnd().split("\n").map((line) => JSON.parse(line)), [
    { type: "header", version: 1, scope: { globalSize: "Infinity" } },
    {
      type: "selection",
      step: 3,
      phase: "generate",
      layer: 1,
      length: 20,
      spans: [
        { start: 4, end: 6, input: 0, startByte: 4, endByte: 6 },
        { start: 12, end: 14, input: null },
      ],
    },
  ]);
  await trace.end({ length: 21 });
  match(written, /\{"type":"end","length":21\}\n$/);
});

test("numbers are shown in few digits with their unit", () => {
  equal(formatCount(0), "0");
  equal(formatCount(1234567), "1,234,567");
  equal(formatBytes(1), "1 byte");
  equal(formatBytes(999), "999 bytes");
  equal(formatBytes(2048), "2.05 kB");
  equal(formatBytes(5251536), "5.25 MB");
  equal(formatBytes(99_960_000), "100 MB");
  equal(formatBytes(999_600_000), "1.00 GB");
  equal(formatBytes(20e12), "20.0 TB");
  equal(formatSeconds(0.123), "0.12 s");
  equal(formatSeconds(41.23), "41.2 s");
  equal(formatSeconds(185), "3 min 05 s");
  equal(formatRate(100, 0), "0.0 tokens/s");
  equal(formatRate(100, 80), "1.3 tokens/s");
  equal(formatRate(123456, 10), "12,346 tokens/s");
  equal(plural(1, "token"), "1 token");
  equal(plural(1000, "token"), "1,000 tokens");
});

test("text is cut, wrapped and made harmless for a terminal", () => {
  equal(clip("abcdef", 6), "abcdef");
  equal(clip("abcdefg", 6), "abcde…");
  equal(clip("😀😀😀", 2), "😀…");
  equal(clip("a", 0), "");
  equal(printable("a\n b\x1b[31m\tc\x9b"), "a b·[31m c·");
  equal(wrap("one two three", 7), "one two\nthree");
  equal(wrap("one two", 7, "  "), "  one\n  two");
});

test("layers are named in few words", () => {
  equal(describeSelectLayers([0, 1, 2], 3), "in all 3 layers");
  equal(describeSelectLayers([1], 4), "in layer 1 of 4");
  equal(describeSelectLayers([1, 2], 4), "in layers 1, 2 of 4");
  equal(nameLayers([0, 1, 3, 4, 5, 6, 9]), "0, 1, 3-6, 9");
  equal(nameLayers([]), "none");
});
