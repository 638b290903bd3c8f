/**
 * The next token, with no more of the logits read back than it takes.
 *
 * @module
 */

import type { Backend, Tensor } from "../backend/backend.ts";
import type { Sampler } from "./sampler.ts";

/**
 * What a sampler draws from logits on a backend: the token that it would draw from all of them.
 *
 * @param logits f32[1, vocabSize]
 */
export async function nextToken(
  backend: Backend,
  logits: Tensor,
  sampler: Sampler,
): Promise<number> {
  const { wants } = sampler;
  // A number with its place is two words.
  if (2 * wants < logits.cols) {
    const token = sampler.choose(await backend.largest(logits, wants));
    if (token !== null) return token;
  }
  return sampler.draw(await backend.read(logits));
}
