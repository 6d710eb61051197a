import type { Clock } from "../../base/clock.ts";
import type { Savings, Served } from "./savings.ts";

/** What was served is told this late, so that a hit costs no message. */
const TELL_MS = 1_000;

/** Different answers that one message tells of; beyond it a message goes out early. */
const MAX_ROWS = 1_000;

const SERVED = "savings.served";

/** A line to another process; the channels of cluster/ are such lines. */
export interface SavingsLine {
  tell(what: string, data: unknown): void;
  onTold(what: string, listener: (data: unknown) => void): void;
}

type Row = readonly [upstream: string, repository: string | null, served: Served];

/** A worker's savings: the parent counts, for all of them. */
export class ToldSavings implements Pick<Savings, "served"> {
  readonly #line: SavingsLine;
  readonly #clock: Clock;
  readonly #rows = new Map<string, Row>();
  readonly #lifetime = new AbortController();

  constructor(line: SavingsLine, clock: Clock) {
    this.#line = line;
    this.#clock = clock;
  }

  served(upstream: string | undefined, repository: string | undefined, { status, cache, bytesSent }: Served): void {
    if (upstream === undefined || cache === "none") return;
    if (this.#rows.size === 0)
      this.#clock.sleep(TELL_MS, this.#lifetime.signal).then(
        () => this.#tell(),
        () => {},
      );
    const key = `${upstream} ${repository ?? ""} ${status} ${cache}`;
    const [, , before] = this.#rows.get(key) ?? [];
    const requests = (before?.requests ?? 0) + 1;
    const served: Served = { status, cache, bytesSent: (before?.bytesSent ?? 0) + bytesSent, requests };
    this.#rows.set(key, [upstream, repository ?? null, served]);
    if (this.#rows.size >= MAX_ROWS) this.#tell();
  }

  /** Tells what has not been told. Repeatable. */
  stop(): void {
    this.#lifetime.abort();
    this.#tell();
  }

  #tell(): void {
    if (this.#rows.size > 0) this.#line.tell(SERVED, [...this.#rows.values()]);
    this.#rows.clear();
  }
}

/** Lets a worker's answers be counted by the parent. */
export function brokerSavings(line: SavingsLine, savings: Pick<Savings, "served">): void {
  line.onTold(SERVED, (data) => {
    for (const [upstream, repository, served] of data as Row[])
      savings.served(upstream, repository ?? undefined, served);
  });
}
