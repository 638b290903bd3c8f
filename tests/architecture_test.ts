// Who may import whom. The rules are data, and the checker is tried on made-up files too.

import { deepEqual, match, ok } from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import { test } from "node:test";
import { repository } from "./support/shared.ts";

interface Rule {
  /** The file, or the folder (ending in a slash), that the rule is for; the first that fits counts. */
  readonly from: string;
  /** Files, folders and packages that it may import. */
  readonly may: readonly string[];
  /** The same, by `import()` only: platforms without them never see them. */
  readonly mayLazily?: readonly string[];
}

const leaves = ["src/errors.ts", "src/reattention/scope.ts", "src/reattention/rope.ts"];
const contract = ["src/backend/backend.ts", ...leaves];
// What every backend is held to.
const common = [
  "src/backend/checks.ts",
  "src/backend/key_channels.ts",
  "src/backend/kv_bytes.ts",
  "src/backend/kv_checks.ts",
  "src/backend/kv_forgotten.ts",
  "src/backend/kv_holders.ts",
  "src/backend/kv_planes.ts",
  "src/backend/kv_spill.ts",
];
const llama = [
  "src/llama/",
  "src/reattention/",
  "src/files/",
  "src/text/",
  "src/hub/access.ts",
  ...contract,
];

const RULES: readonly Rule[] = [
  { from: "src/errors.ts", may: [] },
  { from: "src/reattention/scope.ts", may: [] },
  { from: "src/reattention/rope.ts", may: [] },
  { from: "src/reattention/", may: ["src/reattention/", ...contract] },
  { from: "src/backend/backend.ts", may: leaves },
  ...common.map((from) => ({ from, may: contract })),
  {
    from: "src/backend/open.ts",
    may: contract,
    mayLazily: [
      "src/backend/reference/backend.ts",
      "src/backend/wasm/backend.ts",
      "src/backend/webgpu/open.ts",
      "src/system/gpu.ts",
    ],
  },
  {
    from: "src/backend/reference/",
    may: ["src/backend/reference/", ...common, ...contract],
  },
  {
    from: "src/backend/wasm/",
    may: ["src/backend/wasm/", "wasm/loader.ts", ...common, ...contract],
    // Node has workers of its own kind.
    mayLazily: ["src/system/node_workers.ts"],
  },
  {
    from: "src/backend/webgpu/",
    may: ["src/backend/webgpu/", ...common, ...contract],
  },
  { from: "src/files/", may: ["src/files/", "src/errors.ts"] },
  {
    from: "src/hub/place.ts",
    may: ["src/hub/", "src/files/", "src/errors.ts"],
    // What is downloaded is kept, where there are files.
    mayLazily: ["src/system/file_source.ts", "src/system/hub_cache.ts"],
  },
  { from: "src/hub/hub.ts", may: ["src/hub/", "src/files/", "@huggingface/hub"] },
  { from: "src/hub/", may: ["src/hub/", "src/files/"] },
  {
    from: "src/text/",
    may: ["src/text/", "src/errors.ts", "@huggingface/tokenizers", "@huggingface/jinja"],
  },
  {
    from: "src/llama/load.ts",
    may: [...llama, "src/backend/open.ts"],
    // What the machine has, where there is more to it than a browser.
    mayLazily: ["src/system/memory.ts", "src/system/spill_file.ts"],
  },
  // Models are opened by path, too, where there are paths; and by name.
  {
    from: "src/llama/model_files.ts",
    may: llama,
    mayLazily: ["src/system/file_source.ts", "src/hub/place.ts"],
  },
  // So are sessions' files.
  {
    from: "src/llama/session_file.ts",
    may: llama,
    mayLazily: ["src/system/file_source.ts", "src/system/replace_file.ts"],
  },
  { from: "src/llama/session.ts", may: [...llama, "src/backend/checks.ts"] },
  { from: "src/llama/", may: llama },
  {
    from: "src/system/hub_cache.ts",
    may: ["src/system/", "src/files/", "src/hub/", "node:"],
  },
  {
    from: "src/system/",
    may: [
      "src/system/",
      "src/files/byte_source.ts",
      "src/files/http_range.ts",
      "src/errors.ts",
      "node:",
    ],
  },
  {
    from: "src/eval/pictures/draw.ts",
    may: ["src/eval/"],
    // Big, and not among the package's dependencies.
    mayLazily: ["vega", "vega-lite", "@resvg/resvg-wasm"],
  },
  { from: "src/eval/", may: ["src/eval/", "src/backend/open.ts", ...llama] },
  {
    from: "src/cli/",
    may: [
      "src/cli/",
      "src/eval/",
      "src/system/",
      "src/backend/open.ts",
      "src/backend/kv_bytes.ts",
      ...llama,
      "commander",
    ],
  },
  { from: "mod.ts", may: [...llama, "src/backend/open.ts"] },
  { from: "wasm/", may: ["wasm/"] },
];

/** What one file does that it must not. */
function violations(path: string, source: string): string[] {
  const rule = RULES.find(({ from }) => covers(from, path));
  if (rule === undefined) return [`${path} has no rule`];
  // Strings stay, so that a comment's start within one is none.
  const code = source.replace(/("(?:\\.|[^"\\\n])*")|\/\*[\s\S]*?\*\/|\/\/.*/g, "$1");
  const found: string[] = [];
  for (const [, keyword, specifier] of code.matchAll(/\b(import\(|import|from)\s*"([^"]+)"/g)) {
    const target = specifier!.startsWith(".")
      ? posix.join(posix.dirname(path), specifier!)
      : specifier!;
    const allowed = keyword === "import(" ? [...rule.may, ...rule.mayLazily ?? []] : rule.may;
    if (!allowed.some((name) => covers(name, target))) found.push(`${path} imports ${target}`);
  }
  const [host] =
    code.replace(/"(?:\\.|[^"\\\n])*"/g, '""').match(/\b(Deno|Bun|process)\b\??[.[]/) ?? [];
  if (host !== undefined && !path.startsWith("src/system/")) found.push(`${path} uses ${host}`);
  return found;
}

/** Whether a rule's name means a path: itself, or what is in it. */
function covers(name: string, path: string): boolean {
  return /[/:]$/.test(name) ? path.startsWith(name) : path === name;
}

function sources(folder: string): string[] {
  return readdirSync(new URL(folder, repository), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}${entry.name}`;
    return entry.isDirectory() ? sources(`${path}/`) : path.endsWith(".ts") ? [path] : [];
  });
}

test("every import follows an arrow, and only src/system knows the host", () => {
  const paths = ["mod.ts", ...sources("src/"), ...sources("wasm/")];
  ok(paths.length > 10);
  deepEqual(
    paths.flatMap((path) => violations(path, readFileSync(new URL(path, repository), "utf8"))),
    [],
  );
});

for (
  const [path, source, complaint] of [
    ["src/files/a.ts", 'import { open } from "node:fs/promises";', /imports node:fs\/promises/],
    [
      "src/reattention/a.ts",
      'import type { Llama } from "../llama/llama.ts";',
      /imports src\/llama/,
    ],
    ["src/reattention/scope.ts", 'import "./kv_cache.ts";', /imports src\/reattention\/kv_cache/],
    ["src/backend/wasm/a.ts", 'import {\n  b,\n} from "../reference/b.ts";', /imports .*reference/],
    ["src/backend/open.ts", 'import { x } from "./wasm/backend.ts";', /imports src\/backend\/wasm/],
    ["src/text/a.ts", 'export * from "left-pad";', /imports left-pad/],
    [
      "src/llama/a.ts",
      'const x = await import("../system/file_source.ts");',
      /imports src\/system/,
    ],
    ["src/llama/a.ts", 'const url = "https://a.b"; Deno.exit();', /uses Deno\./],
    ["src/cli/a.ts", "globalThis.process?.exit();", /uses process\?\./],
    ["src/other/a.ts", "", /has no rule/],
  ] as const
) {
  test(`the architecture's checker refuses ${source || "a folder without a rule"} in ${path}`, () => {
    match(violations(path, source).join(), complaint);
  });
}

test("the architecture's checker lets arrows, comments and messages pass", () => {
  const source = `
    /** \`\`\`ts
     * import { readFile } from "node:fs";
     * \`\`\` */
    import { ModelFormatError } from "../errors.ts";
    // Deno.exit() would be wrong here
    throw new Error("Not in Deno. Not in Bun.");`;
  deepEqual(violations("src/files/a.ts", source), []);
  const lazy = 'const { FileSource } = await import("../system/file_source.ts");';
  deepEqual(violations("src/llama/model_files.ts", lazy), []);
});
