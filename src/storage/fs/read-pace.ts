/**
 * What takes longer for each MiB in another thread does not come from memory, which takes a tenth of that; the rest is for the way
 * there and back on a machine that is busy.
 */
const ELSEWHERE_MS = 5;

/** What takes longer in place, where nothing comes between, does not either. For no longer should the others wait. */
const IN_PLACE_MS = 2;

/** So many in a row: a disk is not that quick by chance. */
const QUICK_READS = 8;

/**
 * Whether a file's bytes are at hand, in the operating system's memory, as the latest reads tell. Then they are best read in
 * place, except ahead of a lone reader: a trip to another thread and back, whose processor's cache the bytes are in then, costs as
 * much as the reading. From a disk that lets one wait they must not be: for so long nobody else would be answered.
 */
export class ReadPace {
  #quickReads = 0;

  get isAtHand(): boolean {
    return this.#quickReads >= QUICK_READS;
  }

  took(ms: number, bytes: number, inPlace: boolean): void {
    const limitMs = (inPlace ? IN_PLACE_MS : ELSEWHERE_MS) * Math.max(1, bytes / (1 << 20));
    this.#quickReads = ms <= limitMs ? this.#quickReads + 1 : 0;
  }
}
