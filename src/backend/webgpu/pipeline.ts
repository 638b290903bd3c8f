/**
 * Kernels compiled for a device, each once.
 *
 * @module
 */

import { COMPUTE, type GpuDevice, type GpuPipeline } from "./gpu.ts";
import { type Dialect, type Kernel, shaderOf } from "./kernel.ts";

/** A kernel that can run. */
export interface Pipeline {
  /** Distinguishes pipelines. */
  readonly id: number;
  readonly pipeline: GpuPipeline;
  readonly layout: object;
}

/** Buffers that are the same as an earlier one, by their names. */
export type Aliases = Readonly<Record<string, string>>;

const NO_ALIASES: Aliases = {};

/** The compiled kernels of one device. */
export class Pipelines {
  readonly #gpu: GpuDevice;
  #dialect: Dialect;
  readonly #compiled = new Map<string, Pipeline>();

  constructor(gpu: GpuDevice, dialect: Dialect) {
    this.#gpu = gpu;
    this.#dialect = dialect;
  }

  /** From now on kernels are compiled so. */
  speak(dialect: Dialect): void {
    this.#dialect = dialect;
  }

  /** Compiles kernels side by side, before the first is needed. */
  async prepare(kernels: readonly Kernel[]): Promise<void> {
    await Promise.all(kernels.map(async (kernel) => {
      if (this.#compiled.has(keyOf(kernel, NO_ALIASES))) return;
      const { layout, descriptor } = this.#describe(kernel, NO_ALIASES);
      const pipeline = await this.#gpu.createComputePipelineAsync(descriptor);
      this.#keep(kernel, NO_ALIASES, pipeline, layout);
    }));
  }

  /** The kernel, compiled now if it was not before. */
  get(kernel: Kernel, aliases: Aliases = NO_ALIASES): Pipeline {
    const found = this.#compiled.get(keyOf(kernel, aliases));
    if (found) return found;
    const { layout, descriptor } = this.#describe(kernel, aliases);
    return this.#keep(kernel, aliases, this.#gpu.createComputePipeline(descriptor), layout);
  }

  #keep(kernel: Kernel, aliases: Aliases, pipeline: GpuPipeline, layout: object): Pipeline {
    const kept = { id: this.#compiled.size, pipeline, layout };
    this.#compiled.set(keyOf(kernel, aliases), kept);
    return kept;
  }

  #describe(kernel: Kernel, aliases: Aliases): { layout: object; descriptor: object } {
    const gpu = this.#gpu;
    const storage = Object.entries(kernel.buffers).filter(([name]) => !(name in aliases));
    const layout = gpu.createBindGroupLayout({
      entries: [
        {
          binding: 0,
          visibility: COMPUTE,
          buffer: { type: "uniform", hasDynamicOffset: true },
        },
        ...storage.map(([, [access]], i) => ({
          binding: i + 1,
          visibility: COMPUTE,
          buffer: { type: access === "read" ? "read-only-storage" : "storage" },
        })),
      ],
    });
    const code = shaderOf(kernel, aliases, this.#dialect);
    const module = gpu.createShaderModule({ code, label: kernel.name });
    const descriptor = {
      label: kernel.name,
      layout: gpu.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: "main" },
    };
    return { layout, descriptor };
  }
}

function keyOf({ name }: Kernel, aliases: Aliases): string {
  return [name, ...Object.entries(aliases).flat()].join(" ");
}
