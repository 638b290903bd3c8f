import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { CommanderError } from "commander";
import {
  type AskSettings,
  type CalibrateSettings,
  type Commands,
  createProgram,
  type DemoSettings,
  type FollowSettings,
  type GenerateSettings,
  type InspectSettings,
  parseCount,
  parseLayers,
  UsageError,
  VERSION,
} from "../src/cli/args.ts";

interface Parsed {
  ask?: AskSettings;
  follow?: FollowSettings;
  generate?: GenerateSettings;
  inspect?: InspectSettings;
  demo?: DemoSettings;
  calibrate?: CalibrateSettings;
  out: string;
  error: string;
}

/** Parses a command line; says which command would run, with what. */
async function parse(...args: string[]): Promise<Parsed> {
  const parsed: Parsed = { out: "", error: "" };
  const record = (name: keyof Commands) => (settings: object) => {
    Object.assign(parsed, { [name]: settings });
    return Promise.resolve();
  };
  const program = createProgram({
    ask: record("ask"),
    follow: record("follow"),
    generate: record("generate"),
    inspect: record("inspect"),
    demo: record("demo"),
    calibrate: record("calibrate"),
    picture: record("picture"),
    eval: record("eval"),
  }, {
    version: VERSION,
    output: { out: (text) => parsed.out += text, error: (text) => parsed.error += text },
  });
  try {
    await program.parseAsync(args, { from: "user" });
  } catch (error) {
    throw Object.assign(error as Error, { parsed });
  }
  return parsed;
}

/** What is said about a wrong command line. */
async function refusal(...args: string[]): Promise<string> {
  try {
    await parse(...args);
  } catch (error) {
    ok(error instanceof CommanderError, String(error));
    ok(error.exitCode !== 0);
    return (error as unknown as { parsed: Parsed }).parsed.error;
  }
  throw new Error(`${args.join(" ")} was accepted`);
}

test("ask without options leaves everything to the model's own settings", async () => {
  const { ask } = await parse("ask", "Why?");
  deepEqual(ask, {
    question: "Why?",
    raw: false,
    model: undefined,
    backend: "auto",
    threads: undefined,
    memoryLimit: undefined,
    scope: {},
    stepSize: undefined,
    select: undefined,
    selectLayers: undefined,
    cacheFormat: undefined,
    load: undefined,
    save: undefined,
    cacheBytes: undefined,
    spill: undefined,
    forget: undefined,
    files: [],
    maxTokens: 64,
    temperature: 0,
    topP: 1,
    seed: undefined,
    stop: [],
    trace: undefined,
    quiet: false,
    json: false,
  });
});

test("ask --follow needs no question, and knows where questions come from", async () => {
  const { ask, follow } = await parse("ask", "--follow", "--json");
  equal(ask, undefined);
  equal(follow?.question, undefined);
  equal(follow?.questions, undefined);
  deepEqual([follow?.raw, follow?.json, follow?.maxTokens], [false, true, 64]);
  const named = await parse("ask", "Why?", "--follow", "--questions", "q.txt", "--raw");
  deepEqual(
    [named.follow?.question, named.follow?.questions, named.follow?.raw],
    ["Why?", "q.txt", true],
  );
  match(await refusal("ask"), /missing required argument 'question'.*--help/s);
  await rejects(parse("ask", "Why?", "--questions", "q.txt"), /--questions goes with --follow/);
  await rejects(parse("ask", "--follow", "--questions", "-"), /standard input is the text/);
  await rejects(parse("ask", "--follow", "--trace", "t"), /--trace goes with one question/);
  await rejects(parse("ask", "--follow", "--save", "s"), /--load and --save go with one question/);
  await rejects(parse("ask", "--follow", "--load", "s"), /--load and --save go with one question/);
});

test("every option of ask arrives", async () => {
  const { ask } = await parse(
    ...["ask", "--model", "m", "--backend", "reference", "--threads", "2", "--global", "16"],
    ...["--local", "240", "--top-k", "4", "--spans", "8", "--span", "16", "--step", "32"],
    ...["--select", "always", "--select-layers", "1,8-10", "--sharing", "kvHead"],
    ...["--cache-format", "f32", "--cache-bytes", "2G", "--spill", "d", "--forget", "oldest"],
    ...["--memory-limit", "6.5G", "--save", "s"],
    ...["--max-tokens", "1K", "--temperature", "0.7", "--top-p", "0.9", "--seed", "-5"],
    ...["--file", "a", "--file", "b", "--stop", "x", "--trace", "t", "--quiet", "--json", "--raw"],
    "Why?",
  );
  deepEqual(ask, {
    question: "Why?",
    raw: true,
    model: "m",
    backend: "reference",
    threads: 2,
    memoryLimit: 6.5 * 2 ** 30,
    scope: {
      globalSize: 16,
      localSize: 240,
      topK: 4,
      maxSpans: 8,
      spanSize: 16,
      sharing: "kvHead",
    },
    stepSize: 32,
    select: "always",
    selectLayers: [1, 8, 9, 10],
    cacheFormat: "f32",
    load: undefined,
    save: "s",
    cacheBytes: 2 ** 31,
    spill: "d",
    forget: "oldest",
    files: ["a", "b"],
    maxTokens: 1024,
    temperature: 0.7,
    topP: 0.9,
    seed: -5,
    stop: ["x"],
    trace: "t",
    quiet: true,
    json: true,
  });
});

test("full attention can be asked for by word", async () => {
  deepEqual((await parse("ask", "--global", "all", "Why?")).ask!.scope, { globalSize: Infinity });
});

test("generate, inspect and demo take their arguments and defaults", async () => {
  const { generate } = await parse("generate");
  equal(generate!.text, undefined);
  equal(generate!.maxTokens, 256);
  equal((await parse("generate", "Once")).generate!.text, "Once");
  deepEqual((await parse("inspect")).inspect, { model: undefined, json: false });
  deepEqual((await parse("inspect", "dir", "--json")).inspect, { model: "dir", json: true });
  deepEqual((await parse("inspect", "--model", "dir")).inspect, { model: "dir", json: false });
  await rejects(parse("inspect", "a", "--model", "b"), UsageError);
  const { demo } = await parse("demo", "--tokens", "16K", "--seed", "3");
  deepEqual(demo, {
    model: undefined,
    backend: "auto",
    threads: undefined,
    memoryLimit: undefined,
    tokens: 16384,
    seed: 3,
  });
  equal((await parse("demo")).demo!.tokens, 200_000);
});

test("every option of calibrate arrives, and has a default", async () => {
  const { calibrate } = await parse(
    ...["calibrate", "--model", "m", "--threads", "1", "--out", "o", "--text", "t"],
    ...["--length", "8K", "--length", "16K", "--seeds", "2", "--needle", "n", "--question", "q"],
    ...["--windows", "3", "--window", "4K", "--tolerance", "0.5", "--fresh", "--quiet"],
  );
  deepEqual(calibrate, {
    model: "m",
    backend: "auto",
    threads: 1,
    memoryLimit: undefined,
    out: "o",
    text: "t",
    lengths: [8192, 16384],
    seeds: 2,
    needle: "n",
    question: "q",
    windows: 3,
    window: 4096,
    tolerance: 0.5,
    fresh: true,
    quiet: true,
  });
  const { lengths, seeds, windows, window, tolerance, fresh } = (await parse("calibrate"))
    .calibrate!;
  deepEqual(
    { lengths, seeds, windows, window, tolerance, fresh },
    { lengths: [], seeds: 4, windows: 4, window: undefined, tolerance: 0.2, fresh: false },
  );
});

test("wrong usage is refused with a reason and a hint", async () => {
  const wrong: [RegExp, ...string[]][] = [
    [/unknown option '--bar'/, "ask", "--bar", "Why?"],
    [/unknown command 'sing'/, "sing"],
    [/missing required argument 'question'/, "ask"],
    [/too many arguments/, "ask", "Why", "not?"],
    [/Allowed choices are auto, wasm, webgpu, reference/, "ask", "--backend", "gpu", "Why?"],
    [/Allowed choices are always, ask, never/, "ask", "--select", "often", "Why?"],
    [/cannot be used with/, "ask", "--load", "s", "--cache-format", "f32", "Why?"],
    [/It must be layers, the first is 0/, "ask", "--select-layers", "2-1", "Why?"],
    [/whole number of at least 1/, "ask", "--threads", "0", "Why?"],
    [/whole number of at least 0/, "ask", "--top-k", "-1", "Why?"],
    [/It must be even/, "ask", "--span", "7", "Why?"],
    [/whole number of at least 1/, "ask", "--step", "many", "Why?"],
    [/whole number of at least 1/, "ask", "--max-tokens", "0", "Why?"],
    [/a number, 0 or more/, "ask", "--temperature", "warm", "Why?"],
    [/a number, 0 or more/, "ask", "--temperature", "-1", "Why?"],
    [/above 0 and at most 1/, "ask", "--top-p", "0", "Why?"],
    [/whole number/, "ask", "--seed", "1.5", "Why?"],
    [/argument missing/, "ask", "Why?", "--trace"],
    [/whole number of at least 2000/, "demo", "--tokens", "10"],
    [/unknown option '--model'/, "demo", "--model", "x"],
    [/a number, 0 or more/, "calibrate", "--tolerance", "-1"],
    [/whole number of at least 1/, "calibrate", "--length", "long"],
  ];
  for (const [reason, ...args] of wrong) {
    const message = await refusal(...args);
    match(message, reason, args.join(" "));
    match(message, /Add "--help"/, args.join(" "));
    ok(message.split("\n").length <= 3, message);
  }
});

test("counts may have thousands marks and binary suffixes, and must be whole", () => {
  equal(parseCount("200_000"), 200_000);
  equal(parseCount("16K"), 16384);
  equal(parseCount("16k"), 16384);
  equal(parseCount("1.5M"), 1.5 * 1024 ** 2);
  equal(parseCount("all", 0, true), Infinity);
  for (const text of ["", "K", "-1", "1.3", "1e3", "0x10", "16KB", " 1", "all", "_1"]) {
    throws(() => parseCount(text), /It must be a whole number/, text);
  }
  throws(() => parseCount("99999999999999999999"), /It must be a whole number/);
});

test("layers are a list of numbers and ranges, or all", () => {
  equal(parseLayers("all"), "all");
  deepEqual(parseLayers("1"), [1]);
  deepEqual(parseLayers("0, 2"), [0, 2]);
  deepEqual(parseLayers("8-11,15"), [8, 9, 10, 11, 15]);
  for (const text of ["", ",", "1,", "-1", "1-", "3-2", "1.5", "a", "1 2", "12345"]) {
    throws(() => parseLayers(text), /It must be layers, the first is 0/, text);
  }
});

test("--help of each command names its options and fits 100 columns", async () => {
  for (const command of ["ask", "generate", "inspect", "demo", "calibrate"]) {
    const error = await parse(command, "--help").then(
      () => null,
      (error: CommanderError & { parsed: Parsed }) => error,
    );
    equal(error!.exitCode, 0);
    const { out } = error!.parsed;
    match(out, new RegExp(`Usage: reattention ${command}`));
    match(out, /-h, --help/);
    for (const line of out.split("\n")) ok(line.length <= 100, line);
  }
});

test("the version is that of the package", async () => {
  for (const file of ["deno.json", "package.json"]) {
    // Node runs these tests from dist/node-tests.
    const urls = ["../", "../../"].map((up) => new URL(`${up}${file}`, import.meta.url));
    const text = readFileSync(urls.find((url) => existsSync(url))!, "utf8");
    equal(JSON.parse(text).version, VERSION);
  }
  const error = await parse("--version").then(
    () => null,
    (error: CommanderError & { parsed: Parsed }) => error,
  );
  equal(error!.exitCode, 0);
  equal(error!.parsed.out, `${VERSION}\n`);
});
