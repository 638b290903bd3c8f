/**
 * numpy, in a Python of its own: native BLAS, for scale.
 *
 * @module
 */

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Contestant } from "../support/contest.ts";
import { checkMatmul, type MatmulProblem, TOLERANCES } from "../support/matmul_problem.ts";
import { notice, reasonOf } from "../support/notice.ts";
import { type LineChild, startChild } from "./line_child.ts";

const SCRIPT = fileURLToPath(new URL("./numpy_child.py", import.meta.url));

/** A call does so much work that telling Python to do it does not count: 50 us of some ms. */
const CALL_OPERATIONS = 2e8;

/** One Python for each number of threads; null where there is none. */
const children = new Map<number, Promise<LineChild | null>>();

function openNumpy(threads: number): Promise<LineChild | null> {
  let child = children.get(threads);
  if (child === undefined) {
    const limit = String(threads);
    const environment = {
      OPENBLAS_NUM_THREADS: limit,
      OMP_NUM_THREADS: limit,
      MKL_NUM_THREADS: limit,
    };
    child = startChild("python3", [SCRIPT], environment).catch((error) => {
      notice(`there is no numpy, so nothing is compared with it: ${reasonOf(error)}`);
      return null;
    });
    children.set(threads, child);
  }
  return child;
}

/** Ends what was started. */
export async function closeNumpy(): Promise<void> {
  for (const child of children.values()) await (await child)?.close();
  children.clear();
}

/** Prepares a problem; null, said aloud, where there is no numpy. */
export async function numpyMatmul(
  problem: MatmulProblem,
  threads: number,
): Promise<Contestant | null> {
  const child = await openNumpy(threads);
  if (child === null) return null;
  const { rows, x, weight } = problem;
  const folder = await mkdtemp(join(tmpdir(), "reattention-bench-"));
  const path = (name: string) => join(folder, name);
  await writeFile(path("x"), new Uint8Array(x.buffer));
  await writeFile(path("weight"), new Uint8Array(weight.dense("as it is").buffer));
  await child.ask({ x: path("x"), weight: path("weight"), rows });
  await rm(path("weight"));
  const operations = Math.max(
    1,
    Math.round(CALL_OPERATIONS / (2 * rows * weight.rows * weight.cols)),
  );
  return {
    name: `numpy ${child.ready["version"]}`,
    operations,
    run: () => child.ask({ repeat: operations }),
    async check() {
      await child.ask({ out: path("out") });
      const out = new Float32Array(new Uint8Array(await readFile(path("out"))).buffer);
      checkMatmul(problem, out, TOLERANCES.f32);
    },
    dispose: () => rm(folder, { recursive: true }),
  };
}
