/**
 * A model hub on this machine with a cache of its own.
 *
 * @module
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { HubAccess, LoadProgress } from "../../src/hub/access.ts";
import { type TestHub, withHub } from "./hub_server.ts";

/**
 * A hub, and an empty cache that is gone afterwards.
 *
 * @param use Is given the hub, how to load from it and what that told, and the folder of the model `user/model`.
 */
export async function withCache(
  files: Readonly<Record<string, Uint8Array>>,
  use: (
    hub: TestHub,
    access: HubAccess & { readonly notices: string[]; readonly progress: LoadProgress[] },
    folder: string,
  ) => Promise<void>,
): Promise<void> {
  const cacheFolder = mkdtempSync(join(tmpdir(), "reattention-hub-"));
  try {
    await withHub(files, async (hub) => {
      const notices: string[] = [];
      const progress: LoadProgress[] = [];
      const access = {
        hub: { endpoint: hub.endpoint, token: "", cacheFolder, offline: false },
        retryDelay: 5,
        onNotice: (notice: string) => notices.push(notice),
        onProgress: (event: LoadProgress) => progress.push(event),
        notices,
        progress,
      };
      await use(hub, access, join(cacheFolder, "models--user--model"));
    });
  } finally {
    rmSync(cacheFolder, { recursive: true, force: true });
  }
}
