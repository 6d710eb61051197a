/** Foreign text, cut and safe on a terminal: JSON itself lets DEL, C1 controls and line separators through. */
export function printable(text: string, maxLength: number): string {
  return text.slice(0, maxLength).replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, "?");
}
