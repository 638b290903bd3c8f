/**
 * Bundles for Node and browsers, in dist/ or the folder that is named: the library, and the command line for Node.
 *
 * They lie two folders deep, as src/llama does, so that `../../models` is the embedded model from
 * both. In browsers, what needs files stays in a chunk of its own that is never loaded.
 */
import { rmSync } from "node:fs";
import process from "node:process";
import { bun, ROOT, run } from "./tools.ts";

const tool = await bun();
const folder = process.argv[2] ?? `${ROOT}dist`;
const targets = [
  ["browser", "mod.ts", "src/backend/wasm/worker.ts"],
  ["node", "mod.ts", "src/backend/wasm/worker.ts", "src/cli/main.ts"],
] as const;
for (const [target, ...entries] of targets) {
  rmSync(`${folder}/${target}`, { recursive: true, force: true });
  const { code } = await run(tool, [
    "build",
    ...entries,
    `--target=${target}`,
    `--outdir=${folder}/${target}`,
    "--entry-naming=[name].js",
    "--splitting",
    "--external=node:*",
    // Packages that are installed beside this one, by those who draw.
    ...["vega", "vega-lite", "@resvg/resvg-wasm"].map((name) => `--external=${name}`),
  ]);
  if (code !== 0) process.exit(code);
}
