/**
 * An open device: commands are recorded in order and handed over together, buffers are used again, and
 * whatever goes wrong is thrown by the next verb that notices.
 *
 * @module
 */

import { DeviceLostError, OutOfMemoryError } from "../../errors.ts";
import {
  type GpuBuffer,
  type GpuDevice,
  type GpuEncoder,
  type GpuPass,
  MAP_READ,
  USAGE,
} from "./gpu.ts";
import type { Dialect, Kernel } from "./kernel.ts";
import { type Aliases, Pipelines } from "./pipeline.ts";

/** A buffer, and what its size is. */
export interface DeviceBuffer {
  /** Distinguishes buffers of a device. */
  readonly id: number;
  readonly gpu: GpuBuffer;
  /** What there is room for, in bytes; what was asked for may be less. */
  readonly size: number;
}

/** Workgroups in three directions. */
export type Groups = readonly [x: number, y?: number, z?: number];

/** What a run of a kernel's parameters occupies, in bytes: WebGPU's largest alignment of offsets. */
const SLOT_BYTES = 256;

/** Runs that are recorded before they are handed over, so that the device begins while the host records on. */
const MAX_RUNS = 512;

/** Numbers that are recorded with runs, in bytes. */
const UPLOAD_BYTES = 1 << 20;

/** Unused buffers that are kept, in bytes. */
const MAX_IDLE_BYTES = 1 << 28;

/** Bind groups that are kept. */
const MAX_BIND_GROUPS = 8192;

/** What only tests set. */
export interface DeviceInternals {
  readonly bindingBytes?: number;
}

/** A device and its queue. */
export class Device {
  /** The most that one binding can be, in bytes. */
  readonly bindingBytes: number;
  /** For people. */
  readonly label: string;
  readonly #gpu: GpuDevice;
  readonly #pipelines: Pipelines;
  readonly #slots: DeviceBuffer;
  readonly #slotWords = new Uint32Array(MAX_RUNS * SLOT_BYTES / 4);
  readonly #slotFloats = new Float32Array(this.#slotWords.buffer);
  readonly #uploads: DeviceBuffer;
  readonly #uploadBytes = new Uint8Array(UPLOAD_BYTES);
  readonly #bindGroups = new Map<string, object>();
  readonly #idle = new Map<number, DeviceBuffer[]>();
  #idleBytes = 0;
  #staging: DeviceBuffer[] = [];
  #runs = 0;
  #uploaded = 0;
  #nextId = 0;
  #encoder: GpuEncoder | null = null;
  #pass: GpuPass | null = null;
  #failure: Error | null = null;
  readonly #lost: Promise<never>;

  /** @param internals `bindingBytes`: less than the device has, so that tests see many buffers. */
  constructor(gpu: GpuDevice, label: string, internals: DeviceInternals = {}) {
    this.#gpu = gpu;
    this.label = label;
    const { maxStorageBufferBindingSize, maxBufferSize } = gpu.limits;
    // Whole words, of which offsets are: some devices say one byte less than a power of two.
    this.bindingBytes = internals.bindingBytes ??
      Math.floor(Math.min(maxStorageBufferBindingSize!, maxBufferSize!) / 256) * 256;
    this.#pipelines = new Pipelines(gpu, { exactHalves: false });
    this.#slots = this.#create(MAX_RUNS * SLOT_BYTES, USAGE.uniform | USAGE.copyTarget);
    this.#uploads = this.#create(
      UPLOAD_BYTES,
      USAGE.storage | USAGE.copyTarget | USAGE.copySource,
    );
    gpu.addEventListener("uncapturederror", ({ error }) => {
      const isMemory = /out of memory|OutOfMemory/i.test(
        `${error.constructor.name} ${error.message}`,
      );
      this.#failure ??= isMemory
        ? new OutOfMemoryError(
          `Cannot go on: the GPU's memory ended (${error.message}); use a smaller model or a shorter text`,
          0,
          0,
        )
        : new Error(`Cannot go on: WebGPU refused what this library asked for: ${error.message}`);
    });
    this.#lost = gpu.lost.then(({ reason, message }) => {
      this.#failure = new DeviceLostError(
        `Cannot go on: the GPU device was lost (${reason || "unknown"}: ${message})`,
      );
      throw this.#failure;
    });
    this.#lost.catch(() => {});
  }

  /** From now on kernels are compiled so. */
  speak(dialect: Dialect): void {
    this.#pipelines.speak(dialect);
  }

  /** Compiles kernels before they are needed. */
  async prepare(kernels: readonly Kernel[]): Promise<void> {
    await this.#settled(this.#pipelines.prepare(kernels));
  }

  /** @throws {Error} If something went wrong that nobody was told of yet. */
  check(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  /**
   * A buffer of undefined contents.
   *
   * @throws {OutOfMemoryError} If no binding can be so large.
   */
  allocate(bytes: number, what: string): DeviceBuffer {
    this.check();
    if (bytes > this.bindingBytes) {
      throw new OutOfMemoryError(
        `Cannot make room for ${what}: one buffer of this GPU holds at most ${this.bindingBytes} ` +
          `bytes, got ${bytes}; use shorter steps or a smaller model`,
        bytes,
        this.bindingBytes,
      );
    }
    const size = roomFor(bytes, this.bindingBytes);
    const idle = this.#idle.get(size)?.pop();
    if (idle !== undefined) {
      this.#idleBytes -= size;
      return idle;
    }
    return this.#create(size, USAGE.storage | USAGE.copySource | USAGE.copyTarget);
  }

  /** Takes a buffer back. Commands that were recorded before still see it as it is. */
  release(buffer: DeviceBuffer): void {
    if (this.#idleBytes + buffer.size > MAX_IDLE_BYTES) return this.#destroy(buffer);
    const idle = this.#idle.get(buffer.size);
    if (idle) idle.push(buffer);
    else this.#idle.set(buffer.size, [buffer]);
    this.#idleBytes += buffer.size;
  }

  /**
   * Records a run of a kernel. Buffers that are given twice must be safe to be read where they are written.
   *
   * @param groups Nothing happens where one is zero.
   */
  run<P extends string, B extends string>(
    kernel: Kernel<P, B>,
    buffers: Readonly<Record<B, DeviceBuffer>>,
    params: Readonly<Record<P, number>>,
    [x, y = 1, z = 1]: Groups,
  ): void {
    this.check();
    if (x === 0 || y === 0 || z === 0) return;
    if (this.#runs === MAX_RUNS) this.flush();
    const names = Object.keys(kernel.buffers) as B[];
    const writes = (name: B) => kernel.buffers[name][0] === "read_write";
    const aliases: Record<string, string> = {};
    let hasAliases = false;
    for (const [i, name] of names.entries()) {
      const same = names.find((other, j) =>
        j !== i && buffers[other] === buffers[name] && writes(other) && (!writes(name) || j < i)
      );
      if (same === undefined) continue;
      aliases[name] = same;
      hasAliases = true;
    }
    const { id, pipeline, layout } = hasAliases
      ? this.#pipelines.get(kernel, aliases as Aliases)
      : this.#pipelines.get(kernel);
    const bound = hasAliases ? names.filter((name) => !(name in aliases)) : names;
    const key = `${id}:${bound.map((name) => buffers[name].id).join()}`;
    let group = this.#bindGroups.get(key);
    if (group === undefined) {
      if (this.#bindGroups.size >= MAX_BIND_GROUPS) this.#bindGroups.clear();
      group = this.#gpu.createBindGroup({
        layout,
        entries: [
          { binding: 0, resource: { buffer: this.#slots.gpu, size: SLOT_BYTES / 2 } },
          ...bound.map((name, i) => ({
            binding: i + 1,
            resource: { buffer: buffers[name].gpu },
          })),
        ],
      });
      this.#bindGroups.set(key, group);
    }
    let at = this.#runs * SLOT_BYTES / 4;
    for (const name in kernel.params) {
      if (kernel.params[name] === "f32") this.#slotFloats[at++] = params[name];
      else this.#slotWords[at++] = params[name];
    }
    this.#pass ??= this.#commands().beginComputePass();
    this.#pass.setPipeline(pipeline);
    this.#pass.setBindGroup(0, group, [this.#runs * SLOT_BYTES]);
    this.#pass.dispatchWorkgroups(x, y, z);
    this.#runs++;
  }

  /** Records a copy; offsets and size are multiples of 4. The buffers must be two. */
  copy(
    target: DeviceBuffer,
    targetOffset: number,
    source: DeviceBuffer,
    sourceOffset: number,
    bytes: number,
  ): void {
    this.check();
    if (bytes === 0) return;
    this.#endPass();
    this.#commands().copyBufferToBuffer(source.gpu, sourceOffset, target.gpu, targetOffset, bytes);
  }

  /** Sets part of a buffer, after all that was recorded; offset and size are multiples of 4. */
  write(target: DeviceBuffer, offset: number, data: ArrayBufferView): void {
    this.check();
    if (data.byteLength === 0) return;
    this.flush();
    const { buffer, byteOffset, byteLength } = data;
    // Some hosts take no memory that threads share.
    const isShared = !(buffer instanceof ArrayBuffer);
    const bytes = new Uint8Array(buffer, byteOffset, byteLength);
    this.#gpu.queue.writeBuffer(target.gpu, offset, isShared ? bytes.slice() : bytes);
  }

  /**
   * Numbers for the runs that are recorded next: a few, and nothing else before them.
   *
   * @returns Where they are, in words.
   */
  upload(words: Uint32Array): { readonly buffer: DeviceBuffer; readonly offset: number } {
    this.check();
    const { byteLength } = words;
    if (byteLength > UPLOAD_BYTES) {
      throw new RangeError(
        `Cannot upload: at most ${UPLOAD_BYTES} bytes go with a run, got ${byteLength}; use shorter steps`,
      );
    }
    if (this.#uploaded + byteLength > UPLOAD_BYTES || this.#runs > MAX_RUNS / 2) this.flush();
    const offset = this.#uploaded;
    this.#uploadBytes.set(new Uint8Array(words.buffer, words.byteOffset, byteLength), offset);
    this.#uploaded += byteLength;
    return { buffer: this.#uploads, offset: offset / 4 };
  }

  /** Hands over what was recorded. */
  flush(): void {
    if (this.#encoder === null) return;
    this.#endPass();
    const { queue } = this.#gpu;
    // Ahead of the commands that read them, and behind all that was handed over before.
    if (this.#runs > 0) {
      queue.writeBuffer(this.#slots.gpu, 0, this.#slotWords.buffer, 0, this.#runs * SLOT_BYTES);
    }
    if (this.#uploaded > 0) {
      queue.writeBuffer(this.#uploads.gpu, 0, this.#uploadBytes.buffer, 0, this.#uploaded);
    }
    queue.submit([this.#encoder.finish()]);
    this.#encoder = null;
    this.#runs = 0;
    this.#uploaded = 0;
  }

  /** A copy of part of a buffer as it is after all that was recorded; offset and size are multiples of 4. */
  async read(source: DeviceBuffer, offset: number, bytes: number): Promise<ArrayBuffer> {
    if (this.#failure !== null) await this.#settled(Promise.reject(this.#failure));
    if (bytes === 0) {
      await this.sync();
      return new ArrayBuffer(0);
    }
    const staging = this.#takeStaging(bytes);
    this.copy(staging, 0, source, offset, bytes);
    this.flush();
    try {
      await this.#settled(staging.gpu.mapAsync(MAP_READ, 0, bytes));
      const copy = staging.gpu.getMappedRange(0, bytes).slice(0);
      staging.gpu.unmap();
      this.check();
      return copy;
    } finally {
      if (this.#failure === null) this.#giveStaging(staging);
    }
  }

  /** Waits until all that was recorded has happened. */
  async sync(): Promise<void> {
    // A read, because it fails where a device was lost; being told that work is done does not.
    await this.read(this.#uploads, 0, 4);
  }

  /** Gives everything back. Nothing can be recorded any more. */
  destroy(): void {
    this.#failure ??= new Error("Cannot go on: the backend was disposed");
    this.#gpu.destroy();
  }

  #commands(): GpuEncoder {
    return this.#encoder ??= this.#gpu.createCommandEncoder();
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = null;
  }

  #create(size: number, usage: number): DeviceBuffer {
    return { id: this.#nextId++, gpu: this.#gpu.createBuffer({ size, usage }), size };
  }

  #destroy(buffer: DeviceBuffer): void {
    // What is recorded may still name it.
    if (this.#failure === null) this.flush();
    this.#bindGroups.clear();
    buffer.gpu.destroy();
  }

  #takeStaging(bytes: number): DeviceBuffer {
    const at = this.#staging.findIndex(({ size }) => size >= bytes && size <= 4 * bytes + 4096);
    if (at >= 0) return this.#staging.splice(at, 1)[0]!;
    return this.#create(roomFor(bytes, Infinity), USAGE.mapRead | USAGE.copyTarget);
  }

  #giveStaging(staging: DeviceBuffer): void {
    this.#staging.push(staging);
    if (this.#staging.length > 4) this.#staging.shift()!.gpu.destroy();
  }

  /** What a promise gives; if the device is lost meanwhile, or was, an error that says so. */
  async #settled<T>(promise: Promise<T>): Promise<T> {
    try {
      return await Promise.race([promise, this.#lost]);
    } catch (error) {
      // A device's loss fails everything else too, and is told a little later.
      await Promise.race([this.#lost, new Promise((resolve) => setTimeout(resolve, 100))])
        .catch(() => {});
      this.check();
      throw error;
    }
  }
}

/** Sizes come in steps, so that buffers fit again: powers of two, then whole 64 KiB. */
function roomFor(bytes: number, most: number): number {
  const steps = bytes <= 1 << 16
    ? 2 ** Math.max(8, Math.ceil(Math.log2(bytes)))
    : Math.ceil(bytes / (1 << 16)) * (1 << 16);
  return Math.max(bytes, Math.min(steps, most));
}
