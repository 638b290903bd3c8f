/**
 * Installs what the benchmarks compare with (peers.json) into .tools/peers. Nothing else needs it: the
 * package itself, its demo and its tests run without.
 *
 *     deno run -A bench/install_peers.ts
 *     bun bench/install_peers.ts
 *
 * A package.json among the sources would be found by Deno and change how it treats what is beside it.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("../.tools/peers/", import.meta.url));
const packages: Record<string, string> = JSON.parse(
  readFileSync(new URL("peers.json", import.meta.url), "utf8"),
);
// llama.cpp for this machine only: left to itself, npm brings those for all GPUs, a gigabyte.
const systems: Readonly<Record<string, string>> = { linux: "linux", darwin: "mac", win32: "win" };
const metal = process.platform === "darwin" && process.arch === "arm64" ? "-metal" : "";
const binary = `@node-llama-cpp/${systems[process.platform]}-${process.arch}${metal}`;
packages[binary] = packages["node-llama-cpp"]!;

mkdirSync(folder, { recursive: true });
writeFileSync(
  `${folder}package.json`,
  JSON.stringify({ private: true, dependencies: packages }, null, 2),
);
const { status, error } = spawnSync(
  "npm",
  ["install", "--omit=optional", "--no-package-lock", "--no-audit", "--no-fund"],
  {
    cwd: folder,
    stdio: "inherit",
    // The packages bring all that a CPU needs; what their install scripts would fetch is for GPUs.
    env: {
      ...process.env,
      ONNXRUNTIME_NODE_INSTALL: "skip",
      ONNXRUNTIME_NODE_INSTALL_CUDA: "skip",
      NODE_LLAMA_CPP_SKIP_DOWNLOAD: "true",
    },
  },
);
if (error) throw error;
if (status !== 0) {
  throw new Error(`Cannot install the peers: npm must exit with status 0, got ${status}`);
}
