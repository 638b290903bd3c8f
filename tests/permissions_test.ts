// What README says of Deno's permissions: the command line asks for no more, and never stops to ask.

import { equal, match, ok } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { writeHaystack } from "../src/eval/haystack.ts";
import { repository } from "./support/shared.ts";

const skip = !("Deno" in globalThis) && "only Deno has permissions";
const main = fileURLToPath(new URL("src/cli/main.ts", repository));

/** Runs a command with some permissions. */
function run(permissions: readonly string[], ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ["run", "--no-prompt", ...permissions, main, ...args],
    { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, NO_COLOR: "1" } },
  );
  return { status, out: stdout, error: stderr };
}

test("files are read with --allow-read, and written with --allow-write besides", { skip }, () => {
  const folder = mkdtempSync(join(tmpdir(), "reattention-permissions-"));
  try {
    const text = join(folder, "text.txt");
    const haystack = [...writeHaystack({ seed: 1, length: 8000 })].map((piece) => piece.text);
    writeFileSync(text, `${haystack.join("")} The pass key is 71432.\n${haystack.join("")}`);
    const ask = ["ask", "What is the pass key?", "--file", text, "--threads", "1", "--quiet"];
    const read = run(["--allow-read"], ...ask);
    equal(read.status, 0, read.error);
    match(read.out, /71432/);
    const [session, trace] = [join(folder, "a.session"), join(folder, "trace.jsonl")];
    const write = run(
      ["--allow-read", "--allow-write"],
      ...ask,
      ...["--save", session, "--trace", trace, "--cache-bytes", "64M", "--spill", folder],
    );
    equal(write.status, 0, write.error);
    ok(existsSync(session) && existsSync(trace));
    const missing = run(["--allow-read"], ...ask.slice(0, 3), join(folder, "none.txt"));
    equal(missing.status, 1);
    match(missing.error, /^reattention: Cannot read ".*none.txt": there is no such file\n$/);
    const refused = run(["--allow-read"], ...ask, "--save", session);
    equal(refused.status, 1);
    match(refused.error, /^reattention: .*write access/m);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
