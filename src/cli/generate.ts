/**
 * `generate`: goes on with a text of any length.
 *
 * @module
 */

import type { GenerateSettings } from "./args.ts";
import { readAndWrite } from "./reading.ts";

/** Runs `generate`. */
export async function generate(settings: GenerateSettings): Promise<void> {
  await readAndWrite(settings, {
    verb: "generate",
    raw: true,
    ...(settings.text === undefined ? {} : { text: settings.text }),
    write: (session, options) => session.continue(options),
    report: (text) => ({ text }),
  });
}
