// Whole processes that use WebGPU: each must end by itself, as it was told to. In Node and Bun by npm webgpu, in
// Node as an installed package.

import { equal, match, ok } from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { after, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { WEBGPU_MODULE, webGpuEnvironment } from "../scripts/tools.ts";
import { buildBundles } from "./support/bundles.ts";
import { repository } from "./support/shared.ts";

/** A place to run a script with the library. */
interface Runtime {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly env: Readonly<Record<string, string>>;
  /** The library's address. */
  readonly library: () => string;
}

interface Outcome {
  readonly status: number | null;
  /** What the scenario said. */
  readonly facts: Readonly<Record<string, unknown>>;
  readonly error: string;
}

/** What hangs is killed after that: on some machines kernels take half a minute to compile. */
const PATIENCE_MS = 240_000;

/** What drivers say on their own account. */
const REMARKS =
  /^(error: XDG_RUNTIME_DIR is invalid|Warning: maxDynamic\w+ artificially reduced).*\n/gm;

const { deno, bun } = process.versions as Record<string, string | undefined>;
const root = fileURLToPath(repository);
const hasNode = spawnSync("node", ["--version"]).status === 0;
const hasModule = existsSync(WEBGPU_MODULE);

let project = "";
after(() => {
  if (project !== "") rmSync(project, { recursive: true, force: true });
});

/** The library and npm webgpu as they lie in a project that has installed both. */
function installedLibrary(): string {
  buildBundles();
  project = mkdtempSync(join(tmpdir(), "reattention-project-"));
  const own = join(project, "node_modules/@reattention/reattention");
  mkdirSync(own, { recursive: true });
  cpSync(join(root, "dist/node"), join(own, "dist/node"), { recursive: true });
  for (const name of ["models", "package.json"]) symlinkSync(join(root, name), join(own, name));
  symlinkSync(dirname(WEBGPU_MODULE), join(project, "node_modules/webgpu"), "junction");
  return pathToFileURL(join(own, "dist/node/mod.js")).href;
}

const source = new URL("mod.ts", repository).href;
const runtimes: readonly Runtime[] = [
  ...deno
    ? [
      {
        name: "Deno",
        command: [process.execPath, "run", "-A"],
        env: {},
        library: () => source,
      } as const,
    ]
    : [],
  ...bun && hasModule
    ? [
      {
        name: "Bun",
        command: [process.execPath],
        env: { ...webGpuEnvironment(), NODE_PATH: dirname(dirname(WEBGPU_MODULE)) },
        library: () => source,
      } as const,
    ]
    : [],
  // It does not matter who starts Node's processes: Deno's suite does.
  ...!bun && hasNode && hasModule
    ? [
      {
        name: "Node",
        command: ["node"],
        env: webGpuEnvironment(),
        library: installedLibrary,
      } as const,
    ]
    : [],
];
if (!hasModule) {
  console.log("!! npm webgpu is not there: the tests of its processes were skipped");
}

/** Runs one of webgpu/scenarios.js. */
async function run(
  { command: [command, ...options], env }: Runtime,
  library: string,
  scenario: string,
) {
  const script = fileURLToPath(new URL("tests/webgpu/scenarios.js", repository));
  const child = spawn(command, [...options, script, library, scenario], {
    env: { ...process.env, NO_COLOR: "1", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let out = "";
  let error = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => out += text);
  child.stderr.setEncoding("utf8").on("data", (text: string) => error += text);
  const patience = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  clearTimeout(patience);
  const facts = out === "" ? {} : JSON.parse(out);
  return { status, facts, error: error.replace(REMARKS, "") } as Outcome;
}

for (const runtime of runtimes) {
  let library = "";
  /** Why there is no device here; null: there is one. */
  let missing: string | null = null;
  test(`${runtime.name} with WebGPU: a program writes as on the processor, and ends without disposing`, async () => {
    library = runtime.library();
    const { status, facts, error } = await run(runtime, library, "ends without disposing");
    equal(error, "");
    equal(status, 0);
    if (typeof facts.missing === "string") {
      missing = facts.missing;
      console.log(`!! WebGPU in ${runtime.name}: ${missing}`);
      return;
    }
    match(String(facts.description), /^webgpu, /);
    equal(facts.gpu, facts.processor);
  });

  const check = (title: string, scenario: string, judge: (outcome: Outcome) => void) =>
    test(`${runtime.name} with WebGPU: ${title}`, async () => {
      if (missing === null) judge(await run(runtime, library, scenario));
    });

  check(
    "what was disposed can be opened again, and the process ends",
    "disposes and ends",
    (outcome) => {
      equal(outcome.error, "");
      equal(outcome.status, 0);
      equal(outcome.facts.again, outcome.facts.text);
    },
  );

  check("a session whose device is lost goes on", "loses its device", (outcome) => {
    equal(outcome.error, "");
    equal(outcome.status, 0);
    match(String(outcome.facts.told), /GPU device was lost.* goes on/);
    equal(outcome.facts.text, outcome.facts.expected);
  });

  check("devices that are forgotten take nothing with them", "forgets devices", (outcome) => {
    equal(outcome.error, "");
    equal(outcome.status, 0);
    equal(outcome.facts.opened, 3);
  });

  check("an error thrown while the device works ends it", "throws while it works", (outcome) => {
    match(outcome.error, /Error: thrown on purpose|error: thrown on purpose/);
    ok(!/panic|fatal|segmentation/i.test(outcome.error), outcome.error);
    equal(outcome.status, 1);
  });

  check(
    "a program that exits while the device works does so at once",
    "exits while it works",
    (outcome) => {
      equal(outcome.error, "");
      equal(outcome.status, 7);
    },
  );
}
