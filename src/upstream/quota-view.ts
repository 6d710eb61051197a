import type { Clock } from "../base/clock.ts";
import type { StateStore } from "../state/state-store.ts";
import type { QuotaBook, QuotaRecord } from "./quota-book.ts";

/** How often what others know is looked up, and what is left is told, while requests go on. */
const EXCHANGE_MS = 5_000;

/** No longer than anything stays closed. */
const KEPT_MS = 24 * 3600_000;

export interface QuotaViewDeps {
  readonly book: QuotaBook;
  readonly shared: StateStore<readonly QuotaRecord[]>;
  /** The upstream and what of it is asked. */
  readonly name: string;
  readonly clock: Clock;
}

/** Gives replicas one view of a quota, in passing: nobody waits for it, and without it each learns by itself. */
export class QuotaView {
  readonly #deps: QuotaViewDeps;
  readonly #readAtMs = new Map<string | undefined, number>();
  readonly #toldAtMs = new Map<string | undefined, number>();
  readonly #toldClosed = new Map<string | undefined, boolean>();

  constructor(deps: QuotaViewDeps) {
    this.#deps = deps;
  }

  /** Before a request: what others have learnt will count for one of the next. */
  refresh(credential: string | undefined): void {
    const { book, shared, clock } = this.#deps;
    if (clock.now() - (this.#readAtMs.get(credential) ?? 0) < EXCHANGE_MS) return;
    this.#readAtMs.set(credential, clock.now());
    shared.get(this.#key(credential)).then(
      (records) => book.merge(credential, records ?? []),
      () => {},
    );
  }

  /** After an answer: at once where a quota was closed or opened, otherwise now and then. */
  publish(credential: string | undefined): void {
    const { book, shared, clock } = this.#deps;
    const nowMs = clock.now();
    const isClosed = book.closed(credential) !== undefined;
    const isNews = isClosed !== (this.#toldClosed.get(credential) ?? false);
    if (!isNews && nowMs - (this.#toldAtMs.get(credential) ?? 0) < EXCHANGE_MS) return;
    this.#toldAtMs.set(credential, nowMs);
    this.#toldClosed.set(credential, isClosed);
    shared.set(this.#key(credential), book.records(credential), KEPT_MS).catch(() => {});
  }

  #key(credential: string | undefined): string {
    // A label is anything, so it stands last, behind what tells it from none.
    return credential === undefined ? `anonymous ${this.#deps.name}` : `credential ${this.#deps.name} ${credential}`;
  }
}
