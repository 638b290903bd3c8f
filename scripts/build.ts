/**
 * Bundles for Node and browsers, in dist/: the library, and the command line for Node.
 *
 * They lie two folders deep, as src/llama does, so that `../../models` is the embedded model from
 * both.
 */
import process from "node:process";
import { bun, run } from "./tools.ts";

const tool = await bun();
const targets = [
  ["browser", "mod.ts", "dist/browser/mod.js"],
  ["node", "mod.ts", "dist/node/mod.js"],
  ["node", "src/cli/main.ts", "dist/node/cli.js"],
] as const;
for (const [target, entry, outfile] of targets) {
  const { code } = await run(tool, ["build", `--target=${target}`, entry, "--outfile", outfile]);
  if (code !== 0) process.exit(code);
}
