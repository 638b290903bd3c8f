/**
 * The command line as tests run it: the sources, or in Node what was built of them.
 *
 * @module
 */

import { existsSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { repository } from "./shared.ts";

const { deno, bun } = process.versions as Record<string, string | undefined>;

/** The path of its first module. */
export const main: string = fileURLToPath(
  new URL(deno || bun ? "src/cli/main.ts" : "dist/node/main.js", repository),
);

/** The runtime's arguments that start it. */
export const launch: readonly string[] = deno ? ["run", "-A", main] : [main];

/** For `test`'s `skip`: false where it is there, else why not. */
export const notBuilt: string | false = !existsSync(main) && `${main} is not built`;
