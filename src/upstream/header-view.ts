/** Response headers; names in lower case. */
export interface HeaderView {
  /** The header's value, several lines joined with a comma. */
  get(name: string): string | undefined;
  /** The header's lines as they came. */
  lines(name: string): readonly string[];
}

export function headerView(headers: Readonly<Record<string, string | readonly string[] | undefined>>): HeaderView {
  const lines = (name: string): readonly string[] => {
    const value = Object.hasOwn(headers, name) ? headers[name] : undefined;
    return value === undefined ? [] : typeof value === "string" ? [value] : value;
  };
  return {
    get: (name) => (lines(name).length === 0 ? undefined : lines(name).join(", ")),
    lines,
  };
}
