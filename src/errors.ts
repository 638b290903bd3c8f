/**
 * The few failures a caller may want to catch by class; everything else is a built-in error.
 *
 * @module
 */

/** A model file that is not what it claims to be. */
export class ModelFormatError extends SyntaxError {
  /** Always `"ModelFormatError"`. */
  override readonly name = "ModelFormatError";
  /** The file, as its {@linkcode ByteSource} names it. */
  readonly source: string;
  /** Where in the file the fault was seen, in bytes. */
  readonly byteOffset: number;

  /** `message` says what was attempted, what must hold and what was found; the place is added. */
  constructor(message: string, source: string, byteOffset: number) {
    super(`${message} (byte ${byteOffset} of ${source})`);
    this.source = source;
    this.byteOffset = byteOffset;
  }
}

/** A session's file that is damaged, of another model, or none at all. */
export class SessionFileError extends Error {
  /** Always `"SessionFileError"`. */
  override readonly name = "SessionFileError";
  /** The file, as its {@linkcode ByteSource} names it. */
  readonly source: string;

  /** `message` says what must hold and what was found; the attempt and the file are added. */
  constructor(message: string, source: string, options?: ErrorOptions) {
    super(`Cannot restore the session in "${source}": ${message}`, options);
    this.source = source;
  }
}

/** A backend that cannot run here: no SIMD, no adapter, no such name. */
export class BackendUnavailableError extends Error {
  /** Always `"BackendUnavailableError"`. */
  override readonly name = "BackendUnavailableError";
}

/** Memory that ended. What was there before the failed request is unharmed. */
export class OutOfMemoryError extends RangeError {
  /** Always `"OutOfMemoryError"`. */
  override readonly name = "OutOfMemoryError";
  /** What was asked for, in bytes. */
  readonly requestedBytes: number;
  /** What there can be in all, in bytes. */
  readonly limitBytes: number;

  /** `message` says what the memory was for and what to change. */
  constructor(message: string, requestedBytes: number, limitBytes: number) {
    super(message);
    this.requestedBytes = requestedBytes;
    this.limitBytes = limitBytes;
  }
}

/** A GPU device that is gone: a driver that was reset, a card that was unplugged, memory that ended. */
export class DeviceLostError extends Error {
  /** Always `"DeviceLostError"`. */
  override readonly name = "DeviceLostError";
}
