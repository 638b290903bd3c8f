/**
 * Opens the webgpu backend, if there is a device that can be trusted with it.
 *
 * @module
 */

import type { Backend, BackendOptions } from "../backend.ts";
import { BackendUnavailableError } from "../../errors.ts";
import { findAdapter, type FoundAdapter, messageOf } from "./adapter.ts";
import { WebGpuBackend } from "./backend.ts";
import { Device, type DeviceInternals } from "./device.ts";
import type { GpuDevice } from "./gpu.ts";
import { ADD } from "./shaders/add.ts";
import { ATTEND_MERGE } from "./shaders/attend.ts";
import { CENTER_CHANNELS } from "./shaders/center_channels.ts";
import { ELECT, SPREAD } from "./shaders/elect.ts";
import { FILL } from "./shaders/fill.ts";
import { GATHER_KEYS, GATHER_VALUES } from "./shaders/gather.ts";
import { PLACE_QUERIES } from "./shaders/place_queries.ts";
import { PROBE } from "./shaders/probe.ts";
import { RANK } from "./shaders/rank.ts";
import { RMS_NORM } from "./shaders/rms_norm.ts";
import { SCAN_KEYS } from "./shaders/scan_keys.ts";
import { SCAN_QUERIES } from "./shaders/scan_queries.ts";
import { STORE_KEYS } from "./shaders/store_keys.ts";
import { STORE_ROWS } from "./shaders/store_rows.ts";
import { SWIGLU } from "./shaders/swiglu.ts";
import { MERGE_PICKS, TOP_K } from "./shaders/top_k.ts";
import { VOTE } from "./shaders/vote.ts";

/** What the backend may hold where nobody says how much; WebGPU tells nobody what there is. */
const DEFAULT_LIMIT = 2 ** 32;

/** What every model needs: compiled while it is read. Others are when they are first used. */
const KERNELS = [
  ADD,
  ATTEND_MERGE,
  CENTER_CHANNELS,
  ELECT,
  FILL,
  GATHER_KEYS,
  GATHER_VALUES,
  MERGE_PICKS,
  PLACE_QUERIES,
  RANK,
  RMS_NORM,
  SCAN_KEYS,
  SCAN_QUERIES,
  SPREAD,
  STORE_KEYS,
  STORE_ROWS,
  SWIGLU,
  TOP_K,
  VOTE,
];

/** The limits that are raised to what the adapter has. */
const RAISED = ["maxBufferSize", "maxStorageBufferBindingSize"] as const;

/**
 * Opens the webgpu backend.
 *
 * @throws {BackendUnavailableError} If there is no GPU, or only a program that acts as one and
 * `options.allowSoftware` is not set, or what it computes is wrong.
 */
export async function openWebGpuBackend(options: BackendOptions = {}): Promise<Backend> {
  const { memoryLimit = DEFAULT_LIMIT } = options;
  if (!(memoryLimit > 0)) {
    throw new RangeError(
      `Cannot open the webgpu backend: memoryLimit must be a number of bytes, got ${memoryLimit}`,
    );
  }
  return new WebGpuBackend(await openDevice(options), memoryLimit, true);
}

/**
 * Opens a device and tries whether it computes.
 *
 * @throws {BackendUnavailableError} As {@linkcode openWebGpuBackend}.
 */
export async function openDevice(
  { allowSoftware = false }: Pick<BackendOptions, "allowSoftware">,
  internals: DeviceInternals = {},
): Promise<Device> {
  const found = await findAdapter();
  if ("why" in found) throw unavailable(found.why);
  if (found.isSoftware && !allowSoftware) {
    throw unavailable(
      `there must be a GPU, but ${found.label} is a program that acts as one, and slower than the wasm ` +
        "backend; set allowSoftware to use it all the same",
    );
  }
  let gpu: GpuDevice;
  try {
    gpu = await requestDevice(found);
  } catch (error) {
    throw unavailable(`${found.label} gave no device: ${messageOf(error)}`);
  }
  const device = new Device(gpu, found.label, internals);
  try {
    await probe(device);
    await device.prepare(KERNELS);
    return device;
  } catch (error) {
    device.destroy();
    throw unavailable(`${found.label} does not compute as it must: ${messageOf(error)}`);
  }
}

async function requestDevice({ adapter }: FoundAdapter): Promise<GpuDevice> {
  const requiredLimits = Object.fromEntries(RAISED.map((name) => [name, adapter.limits[name]!]));
  return await adapter.requestDevice({ requiredLimits });
}

/** Known answers, because some devices compute nothing and say so to nobody. */
async function probe(device: Device): Promise<void> {
  const found = device.allocate(8, "a trial");
  const seed = 0x5eed;
  device.run(FILL, { out: found }, { count: 2 }, [1]);
  device.run(PROBE, { found }, { seed }, [1024]);
  const [first, wrong] = new Uint32Array(await device.read(found, 0, 8));
  device.release(found);
  if (first !== seed + 1) throw new Error(`${seed} + 1 must be ${seed + 1}, got ${first}`);
  device.speak({ exactHalves: wrong === 0 });

  using backend = new WebGpuBackend(device, DEFAULT_LIMIT, false);
  const inputs = 36;
  // Small integers, so that every sum is exact: 36 inputs to 3 outputs, and 9 rows of them.
  const [matrix, values] = [3, 9].map((rows) =>
    Float32Array.from({ length: rows * inputs }, (_, i) => i * 7 % 11 - 5)
  );
  using weight = await backend.weight({
    name: "a trial",
    format: "f32",
    rows: 3,
    cols: inputs,
    read: (target, offset) => {
      target.set(new Uint8Array(matrix!.buffer, offset, target.byteLength));
      return Promise.resolve();
    },
  });
  using x = backend.tensor(9, inputs);
  using out = backend.tensor(18, 3);
  backend.write(x, values!);
  backend.matmul(backend.rows(out, 0, 9), x, weight);
  for (let r = 0; r < 9; r++) {
    backend.matmul(backend.rows(out, 9 + r, 10 + r), backend.rows(x, r, r + 1), weight);
  }
  const products = await backend.read(out);
  products.forEach((product, i) => {
    let expected = 0;
    for (let k = 0; k < inputs; k++) {
      expected += values![Math.floor(i / 3) % 9 * inputs + k]! * matrix![i % 3 * inputs + k]!;
    }
    if (product === expected) return;
    throw new Error(`number ${i} of a matrix product must be ${expected}, got ${product}`);
  });
}

function unavailable(why: string): BackendUnavailableError {
  return new BackendUnavailableError(`Cannot open the webgpu backend: ${why}`);
}
