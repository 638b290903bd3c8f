/** Every TypeScript example of the README runs as it stands, in the runtime that runs the tests. */
import { equal, ok } from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { createNeedles, writeHaystack } from "../src/eval/haystack.ts";

const root = new URL("../", import.meta.url);
const readme = readFileSync(new URL("README.md", root), "utf8");
const examples = [...readme.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map((match) => match[1]!);
const isDeno = "Deno" in globalThis;

/** A text with a pass key, and what the key is. */
function input(): { text: string; answer: string } {
  const needles = createNeedles(["passkey"], 8);
  let text = "";
  for (const piece of writeHaystack({ seed: 8, length: 20_000, needles })) text += piece.text;
  return { text, answer: needles[0]!.answer };
}

test("the README has TypeScript examples", () => ok(examples.length >= 3, `${examples.length}`));

for (const [i, example] of examples.entries()) {
  const title = example.trim().split("\n")[0]!;
  // What a newcomer copies from the Deno section is for Deno.
  const skip = example.includes("Deno.") && !isDeno && "uses Deno's own names" ||
    example.includes("Bun.") && !("Bun" in globalThis) && "uses Bun's own names";
  test(`README example ${i + 1} runs: ${title}`, { skip }, async () => {
    const { text, answer } = input();
    const folder = mkdtempSync(join(tmpdir(), "readme-"));
    try {
      const file = join(folder, "example.ts");
      writeFileSync(file, example.replaceAll('"./mod.ts"', `"${new URL("mod.ts", root)}"`));
      const args = isDeno
        ? ["run", "-A", `--config=${fileURLToPath(new URL("deno.json", root))}`]
        : [];
      const child = spawn(process.execPath, [...args, file], { cwd: fileURLToPath(root) });
      let output = "";
      let errors = "";
      child.stdout.on("data", (bytes) => output += bytes);
      child.stderr.on("data", (bytes) => errors += bytes);
      child.stdin.on("error", () => {}); // an example may end without reading its input
      child.stdin.end(text);
      const code = await new Promise((resolve) => child.on("close", resolve));
      equal(code, 0, errors);
      if (example.includes("pass key")) ok(output.replaceAll("\n", "").includes(answer), output);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}
