/**
 * Where the time of a step goes, verb by verb.
 *
 * @module
 */

import type { Backend } from "../../src/backend/backend.ts";

/** The verbs that compute. */
const VERBS: ReadonlySet<string> = new Set(
  [
    "embed",
    "rmsNorm",
    "matmul",
    "swiGlu",
    "add",
    "copy",
    "append",
    "select",
    "attend",
    "read",
    "write",
    "sync",
  ] satisfies (keyof Backend)[],
);

/** A backend that notes what its verbs take. */
export interface ProfiledBackend {
  /** Does what the other does. */
  readonly backend: Backend;
  /** Milliseconds by verb since the last {@linkcode ProfiledBackend.reset}. */
  readonly milliseconds: ReadonlyMap<string, number>;
  reset(): void;
}

/** Wraps a backend whose verbs take effect before they return. */
export function profiled(backend: Backend): ProfiledBackend {
  const milliseconds = new Map<string, number>();
  const wrapped = new Map<string | symbol, unknown>();
  const proxy = new Proxy(backend, {
    get(target, key) {
      if (!wrapped.has(key)) {
        const value: unknown = Reflect.get(target, key, target);
        // Getters may change; methods need the backend itself, whose fields are private.
        if (typeof value !== "function") return value;
        const method = value.bind(target);
        wrapped.set(key, VERBS.has(String(key)) ? timed(String(key), method) : method);
      }
      return wrapped.get(key);
    },
  });
  function timed(verb: string, method: (...args: unknown[]) => unknown) {
    return (...args: unknown[]) => {
      const start = performance.now();
      const result = method(...args);
      milliseconds.set(verb, (milliseconds.get(verb) ?? 0) + performance.now() - start);
      return result;
    };
  }
  return { backend: proxy, milliseconds, reset: () => milliseconds.clear() };
}
