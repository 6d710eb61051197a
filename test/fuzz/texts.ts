/** Texts that are nearly right. */
import fc, { type Arbitrary } from "fast-check";

/** One of them far more often than anything else. */
export function oneOf(known: readonly string[], other: Arbitrary<string>): Arbitrary<string> {
  return fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...known) }, { weight: 1, arbitrary: other });
}

/** Each character is a byte. */
export function bytes(maxLength: number): Arbitrary<string> {
  return fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)), maxLength });
}

/** Without what would end a header's line. */
export function headerText(maxLength: number): Arbitrary<string> {
  return bytes(maxLength).map((text) => text.replaceAll(/[\r\n\0]/g, "?"));
}

/** Pieces one behind the other. */
export function joined(piece: Arbitrary<string>, maxLength: number, separator = ""): Arbitrary<string> {
  return fc.array(piece, { maxLength }).map((pieces) => pieces.join(separator));
}

/** Pieces cut out and put in, wherever it may be. */
export function mutated(text: Arbitrary<string>, put: Arbitrary<string> = bytes(4)): Arbitrary<string> {
  const edit = fc.record({ at: fc.double({ min: 0, max: 1, noNaN: true }), cut: fc.nat(8), put });
  return fc.tuple(text, fc.array(edit, { minLength: 1, maxLength: 4 })).map(([whole, edits]) =>
    edits.reduce((now, { at, cut, put }) => {
      const start = Math.floor(at * now.length);
      return now.slice(0, start) + put + now.slice(start + cut);
    }, whole),
  );
}
