/**
 * Files of packages that are installed beside this one.
 *
 * @module
 */

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

/**
 * The bytes of a package's file.
 *
 * @param path Such as `"@resvg/resvg-wasm/index_bg.wasm"`.
 * @throws {Error} If the package is not there.
 */
export async function readPackageFile(path: string): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await readFile(createRequire(import.meta.url).resolve(path)));
}
