// The search for the layers that must select, over made-up models whose answer is known.

import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type LayerSet, searchLayers } from "../src/cli/layer_search.ts";
import type { CalibratedSet } from "../src/llama/calibration.ts";

/** What a made-up model's set of layers comes to. */
type Worth = (set: LayerSet) => Omit<CalibratedSet, "layers">;

async function search(numLayers: number, worth: Worth, tolerance = 0.002, confirm?: Worth) {
  const measured: string[] = [];
  const confirmed: string[] = [];
  const with_ = (worth: Worth, log: string[]) => (sets: readonly LayerSet[]) => {
    log.push(...sets.map((set) => set.join()));
    return Promise.resolve(sets.map((layers) => ({ layers, ...worth(layers) })));
  };
  const result = await searchLayers({
    numLayers,
    tolerance,
    measure: with_(worth, measured),
    ...(confirm ? { confirm: with_(confirm, confirmed) } : {}),
  });
  equal(new Set(measured).size, measured.length, "a set was measured twice");
  equal(new Set(confirmed).size, confirmed.length, "a set was confirmed twice");
  return { ...result, measured, confirmed };
}

/** Ten answers for each of the layers that matter, and a loss for each that is missing. */
function needing(...layers: number[]): Worth {
  return (set) => {
    const found = layers.filter((layer) => set.includes(layer)).length;
    return { right: 10 * found, nll: 3 + 0.1 * (layers.length - found) };
  };
}

test("the layers that matter are found, and no others", async () => {
  for (const wanted of [[1], [1, 2], [0, 3], [0, 1, 2, 3]]) {
    const { layers, sets, measured } = await search(4, needing(...wanted));
    deepEqual(layers, wanted);
    deepEqual(sets[0]!.layers, [0, 1, 2, 3]);
    deepEqual(sets[1]!.layers, []);
    equal(sets.length, measured.length);
  }
});

test("in a deep model each growth tries only the most promising", async () => {
  const { layers, measured } = await search(32, needing(5, 13, 14, 30));
  deepEqual(layers, [5, 13, 14, 30]);
  // All, none, 32 alone, 32 without one; three growths of at most four; fewer ones of the found.
  ok(measured.length <= 66 + 3 * 4 + 4, `${measured.length} sets`);
});

test("a layer that only helps beside another is found by missing it", async () => {
  // Neither does anything alone.
  const both: Worth = (set) => ({ right: set.includes(6) && set.includes(9) ? 20 : 0, nll: 3 });
  const { layers } = await search(12, both);
  deepEqual(layers, [6, 9]);
});

test("what was taken first goes again where it is not needed in the end", async () => {
  // Layer 0 alone is best, but 1 and 2 together need it not.
  const worth: Worth = (set) => {
    if (set.includes(1) && set.includes(2)) return { right: 10 };
    return { right: set.includes(0) ? 5 : set.length === 1 && set[0] === 3 ? 0 : 1 };
  };
  const { layers } = await search(4, worth);
  deepEqual(layers, [1, 2]);
});

test("where selecting nowhere loses nothing, nothing is chosen", async () => {
  equal((await search(4, () => ({ right: 10, nll: 3 }))).layers, null);
  equal((await search(4, () => ({ right: 0 }))).layers, null);
});

test("the tolerance is a share of the loss with all layers", async () => {
  const worth: Worth = (set) => ({ nll: 3 * (1 + 0.01 * (3 - set.length)) });
  deepEqual((await search(3, worth, 0.02)).layers?.length, 1);
  deepEqual((await search(3, worth, 0.0101)).layers?.length, 2);
  deepEqual((await search(3, worth, 0)).layers?.length, 3);
});

test("answers beyond those of all layers make up for no loss", async () => {
  const worth: Worth = (set) => ({
    right: set.join() === "0" ? 12 : set.length > 0 ? 10 : 0,
    nll: set.includes(1) ? 3 : 3.5,
  });
  deepEqual((await search(3, worth)).layers, [1]);
});

test("a set that loses answers when reading selects as well goes on growing", async () => {
  const reading: Worth = (set) => ({ rightAlways: set.includes(2) ? 10 : 8 });
  const { layers, sets, confirmed } = await search(4, needing(1), 0.002, reading);
  deepEqual(layers, [1, 2]);
  deepEqual(confirmed, ["0,1,2,3", "1", "0,1", "1,2"]);
  const all = sets.find((set) => set.layers.length === 4)!;
  deepEqual(all, { layers: [0, 1, 2, 3], right: 10, nll: 3, rightAlways: 10 });
});

test("whatever a model is like, what is chosen loses nothing", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 6 }),
      fc.func(fc.record({ right: fc.nat(5), nll: fc.double({ min: 1, max: 2, noNaN: true }) })),
      fc.func(fc.nat(3)),
      async (numLayers, worthOf, alwaysOf) => {
        const worth: Worth = (set) => worthOf(set.join());
        const always: Worth = (set) => ({ rightAlways: alwaysOf(set.join()) });
        const { layers } = await search(numLayers, worth, 0.1, always);
        const all = Array.from({ length: numLayers }, (_, layer) => layer);
        const [best, none] = [worth(all), worth([])];
        if (layers === null) {
          ok(none.right! >= best.right! && none.nll! <= best.nll! * 1.1);
          return;
        }
        ok(layers.length > 0 && layers.every((layer, i) => i === 0 || layer > layers[i - 1]!));
        const chosen = worth(layers);
        ok(chosen.right! >= best.right! && chosen.nll! <= best.nll! * 1.1);
        ok(always(layers).rightAlways! >= always(all).rightAlways!);
      },
    ),
    { numRuns: 500, seed: 1 },
  );
});
