/** A piece of a header and the position behind it. */
export interface Piece {
  readonly text: string;
  readonly end: number;
}

/**
 * Reads the quoted string (RFC 9110 5.6.4) that begins at `start`, resolving its escapes. One that is never closed reaches
 * to the end of the header.
 */
export function readQuoted(header: string, start: number): Piece {
  let text = "";
  let i = start + 1;
  while (i < header.length && header[i] !== '"') {
    if (header[i] === "\\" && i + 1 < header.length) {
      i += 1;
    }
    text += header.charAt(i);
    i += 1;
  }
  return { text, end: Math.min(i + 1, header.length) };
}

/** The parts of a list header (RFC 9110 5.6.1), trimmed, without the empty ones; separators inside quotes part nothing. */
export function splitUnquoted(header: string, separator: "," | ";"): string[] {
  const parts: string[] = [];
  let start = 0;
  for (let i = 0; i <= header.length; ) {
    if (header[i] === '"') {
      i = readQuoted(header, i).end;
      continue;
    }
    if (i === header.length || header[i] === separator) {
      parts.push(header.slice(start, i).trim());
      start = i + 1;
    }
    i += 1;
  }
  return parts.filter((part) => part !== "");
}
