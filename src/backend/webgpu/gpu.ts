/**
 * What is used of WebGPU, as types and constants of our own: hosts' type libraries differ in which names
 * they have, and npm `webgpu` has the constants nowhere global. The numbers are the standard's.
 *
 * @module
 */

/** Bits of a buffer's `usage`. */
export const USAGE = {
  mapRead: 0x1,
  copySource: 0x4,
  copyTarget: 0x8,
  uniform: 0x40,
  storage: 0x80,
} as const;

/** `GPUMapMode.READ`. */
export const MAP_READ = 1;

/** `GPUShaderStage.COMPUTE`. */
export const COMPUTE = 4;

/** A buffer on the device. */
export interface GpuBuffer {
  mapAsync(mode: number, offset?: number, size?: number): Promise<unknown>;
  getMappedRange(offset?: number, size?: number): ArrayBuffer;
  unmap(): void;
  destroy(): void;
}

/** A compiled kernel. */
export interface GpuPipeline {
  readonly label?: string;
}

/** A pass in which kernels run one after another. */
export interface GpuPass {
  setPipeline(pipeline: GpuPipeline): void;
  setBindGroup(index: number, group: object, offsets?: readonly number[]): void;
  dispatchWorkgroups(x: number, y?: number, z?: number): void;
  end(): void;
}

/** What commands are recorded into. */
export interface GpuEncoder {
  beginComputePass(): GpuPass;
  copyBufferToBuffer(
    source: GpuBuffer,
    sourceOffset: number,
    target: GpuBuffer,
    targetOffset: number,
    size: number,
  ): void;
  finish(): object;
}

/** The device's queue. */
export interface GpuQueue {
  submit(commands: readonly object[]): void;
  writeBuffer(
    buffer: GpuBuffer,
    offset: number,
    data: ArrayBufferView | ArrayBuffer,
    dataOffset?: number,
    size?: number,
  ): void;
}

/** Why a device is gone. */
export interface GpuLostInfo {
  readonly reason: string;
  readonly message: string;
}

/** An open device. */
export interface GpuDevice {
  readonly queue: GpuQueue;
  readonly limits: Readonly<Record<string, number>>;
  readonly lost: Promise<GpuLostInfo>;
  createBuffer(descriptor: { size: number; usage: number; label?: string }): GpuBuffer;
  createShaderModule(descriptor: { code: string; label?: string }): {
    getCompilationInfo?(): Promise<{ messages: readonly { type: string; message: string }[] }>;
  };
  createBindGroupLayout(descriptor: { entries: readonly object[] }): object;
  createPipelineLayout(descriptor: { bindGroupLayouts: readonly object[] }): object;
  createBindGroup(descriptor: { layout: object; entries: readonly object[] }): object;
  createComputePipeline(descriptor: object): GpuPipeline;
  createComputePipelineAsync(descriptor: object): Promise<GpuPipeline>;
  createCommandEncoder(): GpuEncoder;
  addEventListener(
    type: "uncapturederror",
    listener: (event: { readonly error: { readonly message: string } }) => void,
  ): void;
  destroy(): void;
}

/** What an adapter says of itself; hosts leave out some or all. */
export interface GpuAdapterInfo {
  readonly vendor?: string;
  readonly architecture?: string;
  readonly device?: string;
  readonly description?: string;
  readonly isFallbackAdapter?: boolean;
}

/** A graphics processor, or a program that acts as one. */
export interface GpuAdapter {
  readonly info?: GpuAdapterInfo;
  readonly isFallbackAdapter?: boolean;
  readonly limits: Readonly<Record<string, number>>;
  readonly features: { has(name: string): boolean };
  requestDevice(descriptor: {
    requiredLimits?: Readonly<Record<string, number>>;
    requiredFeatures?: readonly string[];
  }): Promise<GpuDevice>;
}

/** `navigator.gpu`, or what npm `webgpu` creates. */
export interface Gpu {
  requestAdapter(options?: { powerPreference?: string }): Promise<GpuAdapter | null>;
}
