/** Shared by the other scripts: running commands, and having Bun and its WebGPU at hand at the pinned versions. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** The version that the lock files, the types and the measurements belong to. */
export const BUN_VERSION = "1.4.4";

/** Of npm `webgpu`, which gives Bun and Node a WebGPU. */
export const WEBGPU_VERSION = "0.6.2";

/** The repository's root. */
export const ROOT: string = fileURLToPath(new URL("..", import.meta.url));

/** Where npm `webgpu` is for tests: not among the dependencies, because it is 130 MB. */
export const WEBGPU_MODULE: string = `${ROOT}.tools/webgpu/node_modules/webgpu/index.js`;

/** Runs a command in the root, passing its output through; resolves to its exit code and output. */
export function run(
  command: string,
  args: readonly string[],
  options: { readonly quiet?: boolean; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<{ code: number; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: ROOT,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1", ...options.env },
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
  const code = await install(".tools", "bun", BUN_VERSION);
  // Where install scripts are off, the package's own one puts the binary in its place.
  if (code === 0 && !(await isThere())) {
    await run("node", [`${ROOT}.tools/node_modules/bun/install.js`]);
  }
  if (!(await isThere())) {
    throw new Error(`Cannot test in Bun: npm must install bun ${BUN_VERSION}`);
  }
  return path;
}

/**
 * Has npm `webgpu` at hand: the first call on a machine installs it under .tools, through npm. Where that cannot
 * be, the tests that want it say that they were skipped.
 *
 * @returns What its processes want in their environments.
 */
export async function webGpu(): Promise<Record<string, string>> {
  if (!existsSync(WEBGPU_MODULE)) {
    await install(".tools/webgpu", "webgpu", WEBGPU_VERSION).catch(console.error);
  }
  return webGpuEnvironment();
}

/** What processes want that use npm `webgpu`: a newer Mesa than the system's, where .ci/run found one. */
export function webGpuEnvironment(): Record<string, string> {
  const driver = `${ROOT}.tools/mesa/lvp_icd.json`;
  return existsSync(driver) ? { VK_DRIVER_FILES: driver } : {};
}

/** Installs a package into a folder of its own, because npm removes what it finds beside it. */
async function install(folder: string, name: string, version: string): Promise<number> {
  console.error(`installing ${name} ${version} under ${folder}`);
  const { code } = await run("npm", [
    "install",
    "--prefix",
    `${ROOT}${folder}`,
    "--no-save",
    "--no-package-lock",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
    `${name}@${version}`,
  ]);
  return code;
}
