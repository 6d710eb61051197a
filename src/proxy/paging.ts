/** One page of a sorted list, as the distribution spec pages tags ("Listing Tags"): `n` entries after `last`. */
export function pageOf(
  sorted: readonly string[],
  { n, last }: { readonly n: number | undefined; readonly last: string | undefined },
): { readonly page: readonly string[]; readonly next: Readonly<Record<string, string>> | undefined } {
  const rest = last === undefined ? sorted : sorted.filter((name) => name > last);
  if (n === undefined || rest.length <= n) {
    return { page: rest, next: undefined };
  }
  const page = rest.slice(0, n);
  const end = page.at(-1);
  // An empty page has no end to go on from; `n=0` asks for nothing, and gets that.
  return { page, next: end === undefined ? undefined : { n: String(n), last: end } };
}
