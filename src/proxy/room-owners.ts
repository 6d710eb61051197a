/** More combinations than any real set of upstreams has; an entry's fits 16 bits. What comes beyond them has no owners noted. */
const MAX_SETS = 60_000;

/** Which owners something has, as one number: 0 is nobody. There are few combinations, whatever the number of things. */
export class OwnerSets {
  readonly #sets: (readonly string[])[] = [[]];
  readonly #numbers = new Map<string, number>();

  members(set: number): readonly string[] {
    return this.#sets[set] ?? [];
  }

  /** The number of the set that has `owner` too. */
  with(set: number, owner: string): number {
    const members = this.members(set);
    if (members.includes(owner)) return set;
    const more = [...members, owner].sort();
    const key = more.join("\n");
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    if (this.#sets.length >= MAX_SETS) return set;
    this.#numbers.set(key, this.#sets.length);
    this.#sets.push(more);
    return this.#sets.length - 1;
  }
}
