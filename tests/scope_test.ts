import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import {
  fitScope,
  FULL_ATTENTION,
  planScope,
  resolveScope,
  scopeBound,
  type ScopeConfig,
} from "../src/reattention/scope.ts";

const small: ScopeConfig = { ...fitScope(512), globalSize: 4, localSize: 8 };

test("planScope cuts a sequence into global, middle and local", () => {
  deepEqual(planScope(small, 100, 1), { globalEnd: 4, localStart: 92, length: 100 });
  deepEqual(planScope(small, 13, 1), { globalEnd: 4, localStart: 5, length: 13 });
});

test("planScope leaves no middle while global and local cover the sequence", () => {
  for (const length of [1, 4, 5, 11, 12]) {
    const globalEnd = Math.min(4, length);
    deepEqual(planScope(small, length, 1), { globalEnd, localStart: globalEnd, length });
  }
});

test("planScope keeps all new tokens local when there are more than localSize", () => {
  deepEqual(planScope(small, 100, 20), { globalEnd: 4, localStart: 80, length: 100 });
  deepEqual(planScope({ ...small, localSize: 0 }, 100, 1), {
    globalEnd: 4,
    localStart: 99,
    length: 100,
  });
});

test("planScope keeps new tokens once when they reach into the global region", () => {
  deepEqual(planScope(small, 10, 10), { globalEnd: 4, localStart: 4, length: 10 });
  deepEqual(planScope(small, 3, 3), { globalEnd: 3, localStart: 3, length: 3 });
});

test("planScope of full attention is all global, of an endless window all local", () => {
  deepEqual(planScope(FULL_ATTENTION, 1e6, 1), {
    globalEnd: 1e6,
    localStart: 1e6,
    length: 1e6,
  });
  deepEqual(planScope({ ...small, localSize: Infinity }, 1e6, 1), {
    globalEnd: 4,
    localStart: 4,
    length: 1e6,
  });
});

test("planScope refuses more new tokens than there are tokens", () => {
  throws(() => planScope(small, 10, 11), RangeError);
});

test("fitScope(8192) is the paper's scope, and longer models get the same", () => {
  const paper = { globalSize: 32, localSize: 4096, topK: 4, maxSpans: 127, spanSize: 32 };
  deepEqual(fitScope(8192), {
    ...paper,
    positions: "scope",
    sharing: "layer",
    scores: "qk",
    selector: "exact",
    votes: "count",
    voteEvery: 1,
  });
  deepEqual(fitScope(131072), fitScope(8192));
  deepEqual(fitScope(Infinity), fitScope(8192));
});

for (const trainedLength of [32, 33, 127, 128, 129, 512, 1000.5, 2047, 2048, 8192]) {
  test(`fitScope(${trainedLength}) fills the trained length exactly, half of it local`, () => {
    const config = fitScope(trainedLength);
    deepEqual(resolveScope({}, config), config);
    equal(scopeBound(config, 1), Math.floor(trainedLength));
    equal(config.localSize >= trainedLength / 2 - 1, true);
    equal(config.maxSpans >= 1 && config.globalSize >= 1, true);
  });
}

test("fitScope gives the sizes it documents", () => {
  const sizes = ({ globalSize, maxSpans, spanSize, localSize }: ScopeConfig) =>
    `${globalSize} + ${maxSpans} * ${spanSize} + ${localSize}`;
  equal(sizes(fitScope(512)), "16 + 15 * 16 + 256");
  equal(sizes(fitScope(2048)), "32 + 31 * 32 + 1024");
});

test("fitScope refuses a trained length that is too short or no number", () => {
  for (const trainedLength of [31, 0, -1, NaN]) throws(() => fitScope(trainedLength), RangeError);
});

test("scopeBound counts spans only where the call selects", () => {
  const config = { ...small, topK: 2, maxSpans: 3, spanSize: 10 };
  equal(scopeBound(config, 1), 4 + 30 + 8);
  equal(scopeBound(config, 1, false), 4 + 8);
  equal(scopeBound({ ...config, topK: 0 }, 1), 4 + 8);
});

test("scopeBound grows with a step that is longer than the local region", () => {
  equal(scopeBound({ ...small, topK: 0 }, 20), 4 + 20);
});

test("scopeBound is Infinity where nothing bounds the scope", () => {
  equal(scopeBound(FULL_ATTENTION, 1), Infinity);
  equal(scopeBound({ ...small, maxSpans: Infinity }, 1), Infinity);
  equal(scopeBound({ ...small, localSize: Infinity }, 1), Infinity);
});

test("resolveScope takes what is given and the base for the rest, undefined included", () => {
  const config = resolveScope({ topK: 7, spanSize: undefined, sharing: "kvHead" }, small);
  deepEqual(config, { ...small, topK: 7, sharing: "kvHead" });
});

test("resolveScope accepts Infinity for the regions and spans", () => {
  const infinite = { globalSize: Infinity, localSize: Infinity, maxSpans: Infinity };
  deepEqual(resolveScope(infinite, small), { ...small, ...infinite });
});

for (
  const [name, value] of [
    ["globalSize", -1],
    ["globalSize", 1.5],
    ["localSize", NaN],
    ["topK", Infinity],
    ["topK", -1],
    ["maxSpans", -1],
    ["maxSpans", 0.5],
    ["spanSize", 0],
    ["spanSize", 5],
    ["spanSize", Infinity],
    ["voteEvery", 0],
    ["voteEvery", 1.5],
  ] as const
) {
  test(`resolveScope refuses a ${name} of ${value} by name and value`, () => {
    throws(
      () => resolveScope({ [name]: value }, small),
      (error) =>
        error instanceof RangeError && error.message.includes(name) &&
        error.message.endsWith(`got ${value}`),
    );
  });
}

for (const name of ["positions", "sharing", "scores", "selector", "votes"] as const) {
  test(`resolveScope refuses an unknown ${name} and names those that exist`, () => {
    throws(
      () => resolveScope({ [name]: "other" } as Partial<ScopeConfig>, small),
      (error) => error instanceof TypeError && error.message.includes(small[name]),
    );
  });
}

test("resolveScope refuses margins of single picks, which exceed nothing", () => {
  throws(() => resolveScope({ votes: "margin", topK: 1 }, small), RangeError);
  equal(resolveScope({ votes: "margin", topK: 0 }, small).topK, 0);
});
