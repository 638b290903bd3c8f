/**
 * Writes small ONNX models: the few fields of its protocol buffers that a graph of some nodes needs
 * (onnx.proto of ONNX 1.12, opset 17).
 *
 * @module
 */

/** `TensorProto.DataType`. */
export const ELEMENT = { f32: 1, u8: 2, i8: 3, i32: 6, i64: 7 } as const;

/** A type of elements. */
export type Element = keyof typeof ELEMENT;

/** A tensor that a graph takes or gives; a string is a size that is known only at run time. */
export interface ValueInfo {
  readonly name: string;
  readonly element: Element;
  readonly shape: readonly (number | string)[];
}

/** A tensor that comes with the graph. */
export interface Constant {
  readonly name: string;
  readonly element: Element;
  readonly shape: readonly number[];
  readonly data: ArrayBufferView<ArrayBuffer>;
}

/** One operation. Attributes that are whole numbers are written as such. */
export interface Node {
  readonly op: string;
  /** Default: ONNX's own. */
  readonly domain?: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: Readonly<Record<string, number>>;
}

/** A graph. */
export interface Graph {
  readonly nodes: readonly Node[];
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  readonly constants: readonly Constant[];
}

/** A message under way: its parts, joined only once, because constants are large. */
interface Message {
  readonly parts: readonly Uint8Array[];
  readonly length: number;
}

const utf8 = new TextEncoder();

/** The bytes of a model. */
export function encodeOnnx({ nodes, inputs, outputs, constants }: Graph): Uint8Array<ArrayBuffer> {
  const graph = join(
    ...nodes.map((node) => field(1, encodeNode(node))),
    text(2, "graph"),
    ...constants.map((constant) => field(5, encodeConstant(constant))),
    ...inputs.map((info) => field(11, encodeValueInfo(info))),
    ...outputs.map((info) => field(12, encodeValueInfo(info))),
  );
  const opset = (domain: string, version: number) =>
    field(8, join(text(1, domain), integer(2, version)));
  const model = join(
    integer(1, 8), // ir_version
    text(2, "reattention"), // producer_name
    field(7, graph),
    opset("", 17),
    opset("com.microsoft", 1),
  );
  const bytes = new Uint8Array(model.length);
  let at = 0;
  for (const part of model.parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function encodeNode({ op, domain, inputs, outputs, attributes = {} }: Node): Message {
  return join(
    ...inputs.map((name) => text(1, name)),
    ...outputs.map((name) => text(2, name)),
    text(3, `${op} ${outputs[0]}`),
    text(4, op),
    ...Object.entries(attributes).map(([name, value]) =>
      field(
        5,
        Number.isInteger(value)
          ? join(text(1, name), integer(3, value), integer(20, 2))
          : join(text(1, name), float(2, value), integer(20, 1)),
      )
    ),
    ...domain === undefined ? [] : [text(7, domain)],
  );
}

function encodeConstant({ name, element, shape, data }: Constant): Message {
  return join(
    ...shape.map((size) => integer(1, size)),
    integer(2, ELEMENT[element]),
    text(8, name),
    field(9, raw(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))),
  );
}

function encodeValueInfo({ name, element, shape }: ValueInfo): Message {
  const sizes = shape.map((size) =>
    field(1, typeof size === "string" ? text(2, size) : integer(1, size))
  );
  const tensor = join(integer(1, ELEMENT[element]), field(2, join(...sizes)));
  return join(text(1, name), field(2, field(1, tensor)));
}

function join(...messages: readonly Message[]): Message {
  return {
    parts: messages.flatMap(({ parts }) => parts),
    length: messages.reduce((sum, { length }) => sum + length, 0),
  };
}

function raw(bytes: Uint8Array): Message {
  return { parts: [bytes], length: bytes.length };
}

/** Seven bits a byte, the lowest first; negative numbers as 64 bits. */
function varint(value: number): Message {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return raw(Uint8Array.of(...bytes, Number(rest)));
}

function integer(number: number, value: number): Message {
  return join(varint(number << 3), varint(value));
}

function float(number: number, value: number): Message {
  return join(varint(number << 3 | 5), raw(new Uint8Array(new Float32Array([value]).buffer)));
}

function field(number: number, message: Message): Message {
  return join(varint(number << 3 | 2), varint(message.length), message);
}

function text(number: number, value: string): Message {
  return field(number, raw(utf8.encode(value)));
}
