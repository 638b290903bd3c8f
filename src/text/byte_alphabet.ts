/**
 * The alphabet of byte-level vocabularies: a visible character for each byte. Radford et al. 2019
 * (GPT-2) chose it so that no vocabulary entry holds white space or control characters.
 *
 * @module
 */

/** u16[256]: the character of each byte. Printable Latin-1 stands for itself, the rest from U+0100 on. */
export const BYTE_CHARACTERS: Uint16Array = byteCharacters();

/** The byte of each character below U+0144; -1 where none has it. */
const CHARACTER_BYTES: Int16Array = new Int16Array(0x144).fill(-1);
for (let byte = 0; byte < 256; byte++) CHARACTER_BYTES[BYTE_CHARACTERS[byte]!] = byte;

const encoder = new TextEncoder();

function byteCharacters(): Uint16Array {
  const characters = new Uint16Array(256);
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = byte > 0x20 && byte < 0x7f || byte > 0xa0 && byte !== 0xad;
    characters[byte] = printable ? byte : next++;
  }
  return characters;
}

/** A text's UTF-8 bytes in the alphabet: as many characters as bytes. */
export function toByteAlphabet(text: string): string {
  const bytes = encoder.encode(text);
  let result = "";
  // In parts, since a call takes only so many arguments.
  for (let start = 0; start < bytes.length; start += 4096) {
    const codes = Array.from(
      bytes.subarray(start, start + 4096),
      (byte) => BYTE_CHARACTERS[byte]!,
    );
    result += String.fromCharCode(...codes);
  }
  return result;
}

/** The byte that a character code stands for, or -1. */
export function byteOfCharacter(code: number): number {
  return code < CHARACTER_BYTES.length ? CHARACTER_BYTES[code]! : -1;
}

/**
 * The bytes that a vocabulary entry stands for.
 *
 * @returns Null where a character is not of the alphabet.
 */
export function fromByteAlphabet(entry: string): Uint8Array | null {
  const bytes = new Uint8Array(entry.length);
  for (let i = 0; i < entry.length; i++) {
    const byte = byteOfCharacter(entry.charCodeAt(i));
    if (byte < 0) return null;
    bytes[i] = byte;
  }
  return bytes;
}
