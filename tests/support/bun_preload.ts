/**
 * Lets Bun's tests find npm `webgpu` where scripts/tools.ts puts it: see bunfig.toml.
 *
 * @module
 */

import { existsSync } from "node:fs";
import { WEBGPU_MODULE } from "../../scripts/tools.ts";

/** What is used of Bun. */
interface Host {
  readonly Bun: {
    plugin(plugin: {
      readonly name: string;
      setup(build: {
        module(
          name: string,
          load: () => Promise<{ readonly exports: object; readonly loader: "object" }>,
        ): void;
      }): void;
    }): void;
  };
}

if (existsSync(WEBGPU_MODULE)) {
  (globalThis as unknown as Host).Bun.plugin({
    name: "npm webgpu",
    setup: (build) =>
      build.module("webgpu", async () => ({
        exports: await import(WEBGPU_MODULE),
        loader: "object",
      })),
  });
}
