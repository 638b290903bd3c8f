/**
 * `ask`: a question about a text of any length.
 *
 * @module
 */

import type { Model } from "../llama/load.ts";
import { completeQuestion } from "../llama/profile.ts";
import type { AskSettings } from "./args.ts";
import { readAndWrite } from "./reading.ts";

/** Runs `ask`. */
export async function ask(settings: AskSettings): Promise<void> {
  const { question, raw } = settings;
  await readAndWrite(settings, {
    verb: "ask",
    raw,
    question,
    notes: (model) => raw ? [] : warnOfUnknownForm(model, question),
    write: (session, options) => session.ask(question, { ...options, raw }),
    report: (answer) => ({ question, answer }),
  });
}

/** A model that only completes texts knows some forms of questions; others it takes for prose. */
export function warnOfUnknownForm({ profile, chat }: Model, question: string): string[] {
  const forms = profile?.forms ?? [];
  if (forms.length === 0 && chat === null) {
    return [
      "this model has no chat template and no question forms: it just goes on with the text",
    ];
  }
  if (forms.length === 0 || completeQuestion(profile!, question)) return [];
  const known = forms.map(({ questions }) => `"${questions[0]}"`);
  return [
    "this model is no assistant and was not trained on such a question, so it just goes on with " +
    `the text; it knows ${known.join(", ")}`,
  ];
}
