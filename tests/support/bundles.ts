/**
 * The bundles in dist/, as the sources are now.
 *
 * @module
 */

import { spawnSync } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { repository } from "./shared.ts";

let isBuilt = false;

/**
 * Builds them, once per process; takes a tenth of a second.
 *
 * @throws {Error} If the build fails; says what it printed.
 */
export function buildBundles(): void {
  const { deno, bun } = process.versions as Record<string, string | undefined>;
  // Node runs the tests from a bundle that was built with the others.
  if (isBuilt || (!deno && !bun)) return;
  const script = fileURLToPath(new URL("scripts/build.ts", repository));
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [...deno ? ["run", "-A"] : [], script],
    { encoding: "utf8" },
  );
  if (status !== 0) throw new Error(`Cannot build the bundles: ${stdout}${stderr}`);
  isBuilt = true;
}
