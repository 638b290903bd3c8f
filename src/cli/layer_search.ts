/**
 * The search for the layers that must select: measure all, none, each alone and all but each; then
 * grow the best single layer until nothing is lost against all.
 *
 * It knows nothing of models: what a set of layers is worth is measured by its caller.
 *
 * @module
 */

import type { CalibratedSet } from "../llama/calibration.ts";

/** Layers, ascending. */
export type LayerSet = readonly number[];

/** What the search needs. */
export interface SearchOptions {
  readonly numLayers: number;
  /** How much more loss than with all layers is accepted, as a share of it. */
  readonly tolerance: number;
  /**
   * What sets of layers are worth; together, because what they have in common is then done once.
   *
   * @param stage For people: `each layer alone, and all but each`.
   */
  measure(sets: readonly LayerSet[], stage: string): Promise<readonly CalibratedSet[]>;
  /**
   * Measures, for sets that are good so far, what is too dear for all: `rightAlways`. Not given:
   * nothing more is asked of them.
   */
  confirm?(sets: readonly LayerSet[], stage: string): Promise<readonly CalibratedSet[]>;
}

/** What the search found. */
export interface SearchResult {
  /** The fewest layers found that lose nothing; null where selecting nowhere loses nothing. */
  readonly layers: LayerSet | null;
  /** Everything that was measured, in order. */
  readonly sets: readonly CalibratedSet[];
}

/** Layers that are tried at each growth: the most promising, because a model may have many. */
const CANDIDATES = 4;

/** Runs the search. */
export async function searchLayers(options: SearchOptions): Promise<SearchResult> {
  const { numLayers, tolerance } = options;
  const layers = Array.from({ length: numLayers }, (_, layer) => layer);
  const known = new Map<string, CalibratedSet>();
  const find = (set: LayerSet): CalibratedSet => known.get(set.join())!;
  const learn = async (
    work: SearchOptions["measure"],
    sets: readonly LayerSet[],
    stage: string,
  ) => {
    if (sets.length === 0) return;
    for (const found of await work(sets, stage)) {
      const key = found.layers.join();
      known.set(key, { ...known.get(key), ...found });
    }
  };
  const measure = (sets: readonly LayerSet[], stage: string) =>
    learn(options.measure, sets.filter((set) => !known.has(set.join())), stage);

  const without = layers.map((layer) => layers.filter((other) => other !== layer));
  const first = new Map<string, LayerSet>();
  for (const set of [layers, [], ...layers.map((layer) => [layer]), ...without]) {
    first.set(set.join(), set);
  }
  await measure([...first.values()], "all, none, each alone, all but each");
  const all = find(layers);

  const loses = (set: CalibratedSet): boolean =>
    (set.right ?? 0) < (all.right ?? 0) ||
    (set.nll ?? 0) > (all.nll ?? 0) * (1 + tolerance);
  /** Sorts the better first; answers beyond those of all layers are luck. */
  const compare = (a: CalibratedSet, b: CalibratedSet): number =>
    Number(loses(a)) - Number(loses(b)) ||
    Math.min(b.right ?? 0, all.right ?? 0) - Math.min(a.right ?? 0, all.right ?? 0) ||
    (a.nll ?? 0) - (b.nll ?? 0) || (b.right ?? 0) - (a.right ?? 0) ||
    // Nothing tells them apart: any order, but always the same.
    (a.layers.join() < b.layers.join() ? -1 : 1);
  const sorted = (sets: readonly LayerSet[]): LayerSet[] =>
    sets.map(find).sort(compare).map((set) => set.layers);
  const isGood = async (set: LayerSet): Promise<boolean> => {
    if (loses(find(set))) return false;
    const { confirm } = options;
    if (!confirm || set.length === numLayers) return true;
    const sets = [layers, set].filter((set) => find(set).rightAlways === undefined);
    await learn(confirm.bind(options), sets, `layers ${set.join(", ")} while reading`);
    return find(set).rightAlways! >= find(layers).rightAlways!;
  };

  const firstGood = async (sets: readonly LayerSet[]): Promise<LayerSet | null> => {
    for (const set of sorted(sets)) if (await isGood(set)) return set;
    return null;
  };

  if (!loses(find([]))) return { layers: null, sets: [...known.values()] };

  // A layer promises much if it does well alone, or is missed most.
  const alone = layers.map((layer) => find([layer])).sort(compare).map((set) => set.layers[0]!);
  const missed = layers.toSorted((a, b) => compare(find(without[b]!), find(without[a]!)));
  const rank = (layer: number) => Math.min(alone.indexOf(layer), missed.indexOf(layer));
  const promising = layers.toSorted((a, b) =>
    rank(a) - rank(b) || alone.indexOf(a) - alone.indexOf(b)
  );

  let tried = layers.map((layer): LayerSet => [layer]);
  let found = await firstGood(tried);
  while (found === null) {
    const set = sorted(tried)[0]!;
    tried = promising.filter((layer) => !set.includes(layer)).slice(0, CANDIDATES)
      .map((layer) => [...set, layer].sort((a, b) => a - b));
    await measure(tried, `layers ${set.join(", ")} and one more`);
    found = await firstGood(tried);
  }
  // What was taken first may not be needed beside what came later.
  while (found.length > 2 && found.length < numLayers) {
    const set: LayerSet = found;
    const fewer = set.map((layer) => set.filter((other) => other !== layer));
    await measure(fewer, `layers ${set.join(", ")} and one fewer`);
    const smaller = await firstGood(fewer);
    if (smaller === null) break;
    found = smaller;
  }
  return { layers: found, sets: [...known.values()] };
}
