/**
 * Everything but the tests: format, lint, types in both runtimes, the examples in the docs, the
 * committed wasm, the bundles, and that the package could be published.
 */
import process from "node:process";
import { DENO, run } from "./tools.ts";

const steps: readonly (readonly [string, string, ...string[]])[] = [
  ["format", DENO, "fmt", "--check"],
  ["lint", DENO, "lint"],
  ["types in Deno", DENO, "check"],
  ["types in Bun", DENO, "run", "-A", "npm:typescript/tsc", "-p", "."],
  ["examples in the docs", DENO, "test", "-A", "--doc", "mod.ts", "src/"],
  ["wasm up to date", DENO, "task", "asm:check"],
  ["bundles", DENO, "task", "build"],
  ["publishable", DENO, "publish", "--dry-run", "--allow-dirty"],
];

let failed = 0;
for (const [name, command, ...args] of steps) {
  const { code, output } = await run(command, args, { quiet: true });
  console.log(`${code === 0 ? "ok    " : "FAILED"} ${name}`);
  if (code !== 0) {
    failed++;
    console.log(output);
  }
}
process.exitCode = failed > 0 ? 1 : 0;
