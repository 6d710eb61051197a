/** Times of real programs, for a reader to look at. Tests assert nothing about them: machines differ, and are busy. */
export class Timings {
  readonly #rows: Record<string, Record<string, string>> = {};

  /** Runs `work` and notes how long it has taken. */
  async take<T>(row: string, column: string, work: () => Promise<T>): Promise<T> {
    const startedMs = performance.now();
    const result = await work();
    const times = this.#rows[row] ?? {};
    this.#rows[row] = { ...times, [column]: `${((performance.now() - startedMs) / 1000).toFixed(2)} s` };
    return result;
  }

  /** Prints the table; nothing where nothing was noted. */
  print(): void {
    if (Object.keys(this.#rows).length > 0) console.table(this.#rows);
  }
}

/** Prints counts that a test has compared with what they must be. */
export function printFigures(title: string, figures: object): void {
  console.log(`${title}: ${JSON.stringify(figures)}`);
}
