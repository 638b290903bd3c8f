// A session that lives in a worker: answers one question after the other.

import { answers } from "./session.js";

// Node's workers have a port in place of the web's global functions.
const port = typeof addEventListener === "function"
  ? globalThis
  : (await import("node:worker_threads")).parentPort;

port.onmessage = async ({ data: { what, ...rest } }) => {
  try {
    port.postMessage(await answers[what](rest));
  } catch (error) {
    port.postMessage({ error: String(error?.stack ?? error) });
  }
};
