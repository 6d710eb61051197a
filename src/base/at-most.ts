/** How lru-cache is told to count entries, rather than what they weigh. */
export interface CountedEntries {
  readonly maxSize: number;
  readonly sizeCalculation: () => number;
}

/**
 * Options of an `LRUCache` of at most `entries` entries. It takes memory as it fills, whereas one with `max` takes it for all of them
 * when it is made: more than a mebibyte for 50,000.
 */
export function atMost(entries: number): CountedEntries {
  return { maxSize: entries, sizeCalculation: () => 1 };
}
