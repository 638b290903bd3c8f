/**
 * Probes of a model: facts hidden in a text beyond its trained length and asked for, and a text's
 * likelihood. Each says what a set of selecting layers is worth.
 *
 * @module
 */

import { negativeLogLikelihoods } from "../llama/likelihood.ts";
import type { Model } from "../llama/load.ts";
import { completeQuestion, type Profile } from "../llama/profile.ts";
import { answerOf, judge, judgeStart } from "./answers.ts";
import { feed } from "./feed.ts";
import { createNeedles, type Needle, NEEDLE_KINDS, type NeedleKind } from "../eval/haystack.ts";
import type { LayerSet } from "./layer_search.ts";

/** How facts are put and asked for where the model's profile does not say. */
export interface NeedleTemplates {
  /** The sentence in the text, with `{key}` and `{value}`. */
  readonly needle: string;
  /** What the model is given to complete, with `{key}`; goes as it is. */
  readonly question: string;
}

/** Facts of one form in a text: each distracts from the others. */
const LOOK_ALIKES = 5;

/** The kinds of facts that a model is asked for; none where it has no form for any. */
export function needleKinds(
  profile: Profile | null,
  templates: NeedleTemplates | null,
): NeedleKind[] {
  const magic: NeedleKind[] = Array(LOOK_ALIKES).fill("magic");
  if (templates) return magic;
  return [...NEEDLE_KINDS].flatMap((kind) => {
    const [needle] = createNeedles([kind], 1);
    if (!profile || !completeQuestion(profile, needle!.question)) return [];
    return kind === "magic" ? magic : [kind];
  });
}

/** The facts of one text. */
export function probeNeedles(
  kinds: readonly NeedleKind[],
  seed: number,
  templates: NeedleTemplates | null,
): Needle[] {
  const needles = createNeedles(kinds, seed);
  if (!templates) return needles;
  return needles.map((needle) => {
    const fill = (template: string) =>
      template.replaceAll("{key}", needle.key).replaceAll("{value}", needle.answer);
    const sentence = fill(templates.needle);
    return {
      ...needle,
      sentence: /^\s/.test(sentence) ? sentence : ` ${sentence}`,
      question: fill(templates.question),
    };
  });
}

/** How a text with facts is read and asked. */
export interface NeedleProbe {
  readonly text: string;
  readonly needles: readonly Needle[];
  /** Whether questions go as they are: they were made from templates. */
  readonly raw: boolean;
  readonly signal?: AbortSignal;
  /** Told as the reading goes on: tokens so far. */
  readonly onRead?: (tokens: number) => Promise<void>;
}

/**
 * Asks for the facts of a text, read once by global and local tokens only: every set of layers
 * then selects for the questions and answers alone, over the same reading.
 *
 * @returns Right answers for each set, as they come.
 */
export async function* askAfterReading(
  model: Model,
  probe: NeedleProbe,
  sets: readonly LayerSet[],
): AsyncGenerator<number> {
  using session = model.session({ select: "ask", raw: true });
  await readProbe(session, probe);
  for (const set of sets) yield await countRight(model, session, probe, set);
}

/** Asks for the facts of a text that was read with selection in every step. */
export async function askReadingSelected(
  model: Model,
  probe: NeedleProbe,
  set: LayerSet,
): Promise<number> {
  using session = model.session(
    {
      raw: true,
      ...set.length === 0 ? { select: "never" } : { select: "always", selectLayers: set },
    },
  );
  await readProbe(session, probe);
  return await countRight(model, session, probe, set);
}

async function readProbe(
  session: ReturnType<Model["session"]>,
  { text, signal, onRead }: NeedleProbe,
): Promise<void> {
  await feed(session, [text], async () => {
    signal?.throwIfAborted();
    await onRead?.(session.length);
  });
}

async function countRight(
  model: Model,
  session: ReturnType<Model["session"]>,
  { needles, raw, signal }: NeedleProbe,
  set: LayerSet,
): Promise<number> {
  let right = 0;
  for (const needle of needles) {
    using fork = session.fork(set.length === 0 ? { select: "never" } : { selectLayers: set });
    const text = await answerOf(model, fork, needle, { raw, signal });
    right += Number((raw ? judgeStart : judge)(text, needle).right);
  }
  return right;
}

/**
 * The loss of a text's second half when every step selects, in nats; the first half is what it is
 * read after.
 *
 * @param tokens Without a token that begins a text; one is put before them where the model wants it.
 * @returns The sum, over `Math.ceil(tokens.length / 2)` tokens.
 */
export async function proseLoss(
  model: Model,
  tokens: Uint32Array,
  set: LayerSet,
  signal?: AbortSignal,
): Promise<number> {
  const { addBos, bosToken } = model.tokenizer;
  const bos = addBos && bosToken !== null ? [bosToken] : [];
  using session = model.session(); // the rules that a session would have
  const losses = await negativeLogLikelihoods(
    model,
    Uint32Array.from([...bos, ...tokens]),
    bos.length + Math.floor(tokens.length / 2),
    { scope: session.scope, stepSize: session.stepSize, selectLayers: set, signal },
  );
  return losses.reduce((sum, loss) => sum + loss, 0);
}
