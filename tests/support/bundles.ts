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
 * Builds them, once per process, and not where scripts/test.ts has; takes a tenth of a second.
 *
 * @param folder Where to, instead of dist/.
 * @throws {Error} If the build fails; says what it printed.
 */
export function buildBundles(folder?: string): void {
  const { deno, bun } = process.versions as Record<string, string | undefined>;
  // Node runs the tests from a bundle that was built with the others.
  if (!deno && !bun) return;
  if (folder === undefined && (isBuilt || process.env.REATTENTION_BUNDLES === "built")) return;
  const script = fileURLToPath(new URL("scripts/build.ts", repository));
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [...deno ? ["run", "-A"] : [], script, ...folder === undefined ? [] : [folder]],
    { encoding: "utf8" },
  );
  if (status !== 0) throw new Error(`Cannot build the bundles: ${stdout}${stderr}`);
  if (folder === undefined) isBuilt = true;
}
