// What the command says while a model comes.

import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { describeProgress, reportLoading } from "../src/cli/loading.ts";
import type { LoadProgress } from "../src/hub/access.ts";
import type { TextOutput } from "../src/system/system.ts";

function output(isTerminal: boolean): TextOutput & { readonly lines: string[] } {
  const lines: string[] = [];
  return {
    isTerminal,
    columns: 100,
    write: (text) => Promise.resolve(void lines.push(text)),
    lines,
  };
}

const download = (megabytes: number, start = 0): LoadProgress => ({
  phase: "download",
  file: "model.gguf",
  loadedBytes: (start + megabytes) * 1e6,
  totalBytes: 1e9,
  newBytes: megabytes * 1e6,
});

test("a download is told in bytes, rate and time left, each phase in its words", () => {
  equal(
    describeProgress(download(100), 4e6),
    "downloading model.gguf  100 MB of 1.00 GB  4.00 MB/s  3 min 45 s left",
  );
  equal(
    describeProgress(download(991), 1e6),
    "downloading model.gguf  991 MB of 1.00 GB  1.00 MB/s  9 s left",
  );
  equal(describeProgress(download(0), 0), "downloading model.gguf  0 bytes of 1.00 GB");
  equal(
    describeProgress({ ...download(5), phase: "wait" }, 0),
    "waiting for another process that downloads model.gguf",
  );
});

test("where there is no terminal a line comes now and then, and one at the end", async () => {
  const place = output(false);
  let time = 0;
  const report = reportLoading("hf:user/model", place, true, () => time);
  report.onNotice("chose model.gguf");
  for (; time <= 100_000; time += 100) report.onProgress(download(time / 1000, 200));
  report.onProgress({ ...download(0), phase: "read" });
  await report.end();
  deepEqual(place.lines, [
    "note: chose model.gguf\n",
    "downloading model.gguf  200 MB of 1.00 GB\n",
    "downloading model.gguf  230 MB of 1.00 GB  1.00 MB/s  12 min 50 s left\n",
    "downloading model.gguf  260 MB of 1.00 GB  1.00 MB/s  12 min 20 s left\n",
    "downloading model.gguf  290 MB of 1.00 GB  1.00 MB/s  11 min 50 s left\n",
    "downloaded 100 MB in 1 min 40 s\n",
  ]);
});

test("on a terminal one line is rewritten; the rate is that of the last seconds", async () => {
  const place = output(true);
  let time = 0;
  const report = reportLoading("hf:user/model", place, true, () => time);
  await Promise.resolve();
  let megabytes = 0;
  for (time = 200; time <= 40_000; time += 200) {
    megabytes += time < 20_000 ? 2 : 0.2;
    report.onProgress(download(megabytes));
    await new Promise((resolve) => setTimeout(resolve));
  }
  equal(place.lines[0], "loading hf:user/model\n");
  equal(
    place.lines.at(-1),
    "\x1b[1A\r\x1b[2Kdownloading model.gguf  218 MB of 1.00 GB  1.00 MB/s  13 min 02 s left\n",
  );
  await report.end();
  deepEqual(place.lines.slice(-2), ["\x1b[1A\r\x1b[2K", "downloaded 218 MB in 40.0 s\n"]);
});

test("nothing is said where nothing is wanted", async () => {
  for (const isTerminal of [true, false]) {
    const place = output(isTerminal);
    const report = reportLoading("hf:user/model", place, false, () => 0);
    report.onNotice("chose model.gguf");
    report.onProgress(download(1));
    await report.end();
    deepEqual(place.lines, []);
  }
});
