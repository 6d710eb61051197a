/** One byte range as a client asks for it (RFC 9110 14.1.2). `end` is inclusive. */
export type ByteRangeRequest =
  | { readonly kind: "from"; readonly start: number; readonly end?: number }
  | { readonly kind: "suffix"; readonly length: number };

/** A stretch of bytes that exists; `end` is inclusive. */
export interface ByteSpan {
  readonly start: number;
  readonly end: number;
}

/**
 * Reads a `Range` header. Undefined means "answer as if there were none", which RFC 9110 14.2 allows for any header and
 * asks for where it is malformed or in another unit; several ranges are treated the same way.
 */
export function parseRange(header: string | undefined): ByteRangeRequest | undefined {
  const match = /^[ \t]*bytes[ \t]*=[ \t]*(\d*)-(\d*)[ \t]*$/i.exec(header ?? "");
  if (match === null) {
    return undefined;
  }
  const [, first = "", last = ""] = match;
  if (first === "") {
    return last === "" ? undefined : { kind: "suffix", length: position(last) };
  }
  if (last === "") {
    return { kind: "from", start: position(first) };
  }
  const [start, end] = [position(first), position(last)];
  return start <= end ? { kind: "from", start, end } : undefined;
}

/** The bytes that a range means in content of `size` bytes, cut to what is there. */
export function resolveRange(range: ByteRangeRequest, size: number): ByteSpan | "unsatisfiable" {
  if (range.kind === "suffix") {
    return range.length === 0 || size === 0
      ? "unsatisfiable"
      : { start: Math.max(0, size - range.length), end: size - 1 };
  }
  return range.start >= size
    ? "unsatisfiable"
    : { start: range.start, end: Math.min(range.end ?? Number.POSITIVE_INFINITY, size - 1) };
}

/** `bytes 0-99/200`, with `*` for an unknown size; `bytes *` + `/200` goes with a 416 (RFC 9110 14.4). */
export function formatContentRange(span: ByteSpan | "unsatisfiable", size: number | undefined): string {
  const what = span === "unsatisfiable" ? "*" : `${span.start}-${span.end}`;
  return `bytes ${what}/${size ?? "*"}`;
}

/** Reads the `Content-Range` of a 206; undefined when it is malformed or contradicts itself. */
export function parseContentRange(
  header: string | undefined,
): (ByteSpan & { readonly total: number | undefined }) | undefined {
  const match = /^[ \t]*bytes[ \t]+(\d+)-(\d+)\/(\d+|\*)[ \t]*$/i.exec(header ?? "");
  if (match === null) {
    return undefined;
  }
  const [start, end] = [Number(match[1]), Number(match[2])];
  const total = match[3] === "*" ? undefined : Number(match[3]);
  const consistent = Number.isSafeInteger(end) && start <= end && (total === undefined || end < total);
  return consistent && Number.isSafeInteger(total ?? 0) ? { start, end, total } : undefined;
}

/** A number of digits without end still means "beyond what is there". */
function position(digits: string): number {
  return Math.min(Number(digits), Number.MAX_SAFE_INTEGER);
}
