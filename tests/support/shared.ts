/**
 * Where third-party and bulky test material is: a folder beside the repository, never part of it.
 *
 * @module
 */

import { existsSync, readFileSync } from "node:fs";

/** The repository. */
export const repository: URL = new URL("../../", import.meta.url);

const root = new URL("../shared/", repository);

/** For `test`'s `skip`: false where all the files are there, else why not. */
export function missing(...paths: string[]): string | false {
  const absent = paths.filter((path) => !existsSync(new URL(path, root)));
  return absent.length > 0 && `needs ../shared/${absent.join(", ../shared/")}`;
}

/** The URL of a file. */
export function sharedUrl(path: string): URL {
  return new URL(path, root);
}

/** A file's parsed JSON. */
export function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(new URL(path, root), "utf8")) as T;
}
