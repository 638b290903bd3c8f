/** Shared by the other scripts: running commands, and having Bun at hand at the pinned version. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** The version that the lock files, the types and the measurements belong to. */
export const BUN_VERSION = "1.4.4";

/** The repository's root. */
export const ROOT: string = fileURLToPath(new URL("..", import.meta.url));

/** Runs a command in the root, passing its output through; resolves to its exit code and output. */
export function run(
  command: string,
  args: readonly string[],
  options: { readonly quiet?: boolean } = {},
): Promise<{ code: number; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: ROOT,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1" },
    });
    let output = "";
    const take = (to: NodeJS.WriteStream) => (bytes: Uint8Array) => {
      output += new TextDecoder().decode(bytes);
      if (!options.quiet) to.write(bytes);
    };
    child.stdout.on("data", take(process.stdout));
    child.stderr.on("data", take(process.stderr));
    child.on("error", reject);
    child.on("close", (code) => resolve({ code: code ?? 1, output }));
  });
}

/** Deno itself: these scripts run in it. */
export const DENO: string = process.execPath;

/** Path of the pinned Bun; the first call on a machine installs it under .tools, through npm. */
export async function bun(): Promise<string> {
  const path = `${ROOT}.tools/node_modules/bun/bin/bun.exe`;
  const isThere = async () =>
    existsSync(path) &&
    (await run(path, ["--version"], { quiet: true })).output.trim() === BUN_VERSION;
  if (await isThere()) return path;
  console.error(`installing bun ${BUN_VERSION} under .tools`);
  const { code } = await run("npm", [
    "install",
    "--prefix",
    `${ROOT}.tools`,
    "--no-save",
    "--no-package-lock",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
    `bun@${BUN_VERSION}`,
  ]);
  // Where install scripts are off, the package's own one puts the binary in its place.
  if (code === 0 && !(await isThere())) {
    await run("node", [`${ROOT}.tools/node_modules/bun/install.js`]);
  }
  if (!(await isThere())) {
    throw new Error(`Cannot test in Bun: npm must install bun ${BUN_VERSION}`);
  }
  return path;
}
