/**
 * Text in double quotes that JSON, TOML 1.0 (basic string) and YAML 1.2 (double-quoted) read alike: JSON leaves DEL and the
 * C1 controls as they are, which the other two forbid. Lone surrogates have no spelling in TOML and become U+FFFD.
 */
export function quoted(text: string): string {
  return JSON.stringify(text.toWellFormed()).replace(
    /[\u007f-\u009f]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Text as one word of a POSIX shell. */
export function shellWord(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
