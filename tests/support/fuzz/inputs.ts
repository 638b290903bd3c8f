/**
 * Damaged files by their number: the same number is the same input, in any run and runtime.
 *
 * First come, for every seed, its truncations at each byte and each of its numbers at each boundary;
 * then chance.
 *
 * @module
 */

import { below, BOUNDARIES, damage, damageBytes, oneOf, type Random } from "./mutate.ts";
import { numberBytes, type Part } from "./parts.ts";
import { assemble, type Seed, type SeedFile } from "./seed.ts";

/** A damaged file. */
export interface Input {
  readonly seed: Seed;
  readonly damaged: SeedFile;
}

/** Inputs by their number. */
export interface Inputs {
  /** How many are not by chance: those come first. */
  readonly systematic: number;
  at(index: number): Input;
}

/** Seeds of more parts are only damaged by chance. */
const MAX_PARTS = 500;

/** @param number Another one, other chances. */
export function inputsOf(seeds: readonly Seed[], number: number): Inputs {
  const short = seeds.filter(({ parts }) => parts.length <= MAX_PARTS);
  const wholes = short.map((seed) => assemble(seed, seed.parts));
  const fields = short.map(({ parts }) =>
    parts.flatMap(({ kind }, i) => ["count", "type", "number"].includes(kind) ? [i] : [])
  );
  const ends: number[] = [];
  let systematic = 0;
  for (const [i, { bytes }] of wholes.entries()) {
    systematic += bytes.length + fields[i]!.length * BOUNDARIES.length;
    ends.push(systematic);
  }
  let weights = 0;
  const shares = seeds.map(({ weight }) => weights += weight);

  const systematicAt = (index: number): Input => {
    const s = ends.findIndex((end) => index < end);
    const [seed, { bytes }] = [short[s]!, wholes[s]!];
    const n = index - (ends[s - 1] ?? 0);
    // What is cut is cut: nothing follows.
    if (n < bytes.length) return { seed, damaged: { bytes: bytes.subarray(0, n), byteLength: n } };
    const field = fields[s]![Math.floor((n - bytes.length) / BOUNDARIES.length)]!;
    const boundary = BOUNDARIES[(n - bytes.length) % BOUNDARIES.length]!;
    const parts = [...seed.parts];
    const part = parts[field]!;
    parts[field] = {
      ...part,
      bytes: part.kind === "number"
        ? new TextEncoder().encode(String(boundary))
        : numberBytes(boundary, part.bytes.length),
    };
    return { seed, damaged: assemble(seed, parts) };
  };

  return {
    systematic,
    at(index) {
      if (index < systematic) return systematicAt(index);
      const random = randomOf(number, index);
      const share = random() * weights;
      const seed = seeds[shares.findIndex((end) => share < end)]!;
      return { seed, damaged: damagedAtRandom(random, seed) };
    },
  };
}

function damagedAtRandom(random: Random, seed: Seed): SeedFile {
  const parts: Part[] = [...seed.parts];
  do damage(random, parts); while (random() < 0.35);
  const lie = random() < 0.1 ? oneOf(random, BOUNDARIES) : null;
  const { bytes, byteLength } = assemble(seed, parts, lie);
  const way = random();
  if (way < 0.05) damageBytes(random, bytes);
  if (way < 0.9) return { bytes, byteLength };
  if (way < 0.95) {
    const cut = below(random, bytes.length + 1);
    return { bytes: bytes.subarray(0, cut), byteLength: cut };
  }
  // A file that goes on, or ends within its tensors.
  return { bytes, byteLength: Math.max(bytes.length, byteLength + below(random, 4097) - 2048) };
}

/** Of a run and an index: mulberry32, from a mixture of the two. */
function randomOf(number: number, index: number): Random {
  let a = Math.imul(index ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(number + 1, 0xc2b2ae35);
  a ^= a >>> 15;
  return () => {
    a = a + 0x6D2B79F5 | 0;
    let t = a;
    t = Math.imul(t ^ t >>> 15, t | 1);
    t ^= t + Math.imul(t ^ t >>> 7, t | 61);
    return ((t ^ t >>> 14) >>> 0) / 4294967296;
  };
}
