/**
 * What a measurement belongs to: the machine, the runtime, the commit.
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import { cpus, totalmem } from "node:os";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { runtimeName } from "../../src/system/system.ts";

/** The repository's root. */
export const ROOT: string = fileURLToPath(new URL("../../", import.meta.url));

/** Where a run took place. */
export interface Machine {
  /** The CPU's name, the cores that the system shows, memory. */
  readonly hardware: string;
  readonly cores: number;
  /** Of the benchmark itself, e.g. `deno 2.9.6`. */
  readonly runtime: string;
  /** All engines that took part. */
  readonly versions: string;
  /** Short hash; with `+ changes` where the working tree differs from it. */
  readonly commit: string;
}

/** Looks around. */
export function describeMachine(): Machine {
  const cores = cpus();
  const { v8, webkit, deno, bun } = process.versions as Record<
    string,
    string | undefined
  >;
  const engine = bun
    ? `JavaScriptCore ${webkit?.slice(0, 8) ?? ""}`.trim()
    : `V8 ${v8 ?? deno ?? ""}`.trim();
  const memory = Math.round(totalmem() / 2 ** 30);
  return {
    hardware: `${cores[0]?.model ?? "an unknown CPU"}, ${cores.length} ${
      cores.length === 1 ? "core" : "cores"
    }, ${memory} GiB`,
    cores: cores.length,
    runtime: runtimeName(),
    versions: engine,
    commit: describeCommit(),
  };
}

function describeCommit(): string {
  const git = (...args: string[]) =>
    spawnSync("git", args, { cwd: ROOT, encoding: "utf8" }).stdout?.trim() ??
      "";
  const hash = git("rev-parse", "--short", "HEAD");
  if (hash === "") return "no commit";
  return git("status", "--porcelain") === "" ? hash : `${hash} + changes`;
}
