import { createHash } from "node:crypto";
import { LRUCache } from "lru-cache";
import { atMost } from "../base/at-most.ts";
import type { Clock } from "../base/clock.ts";
import { KeyedLock } from "../base/keyed-lock.ts";
import { formatSize } from "../base/units.ts";
import type { FetchBudgetConfig } from "../config/types.ts";
import { formatRepo, type RepoRef } from "../oci/reference.ts";
import type { StateStore } from "../state/state-store.ts";
import { AccessDeniedError } from "./denied-error.ts";
import type { Identity } from "./identity.ts";
import { clientNetwork } from "./networks.ts";

/** What has been fetched for one caller since its time began. */
export interface SpentBudget {
  readonly bytes: number;
  /** Short hashes of names. */
  readonly repositories: readonly string[];
  /** When its time is over; milliseconds since the epoch. */
  readonly untilMs: number;
}

/** Callers remembered by this process for when the state that processes share says nothing: some 10 MB when full. */
const MAX_CALLERS = 10_000;

/** How long this process goes by what it has written itself before it looks for what others have added. */
const LOOK_AGAIN_MS = 1_000;

/** Enough to tell a caller's thousand repositories apart. */
const NAME_DIGITS = 12;

interface Own {
  readonly spent: SpentBudget;
  /** When it was last held against what the processes share. */
  readonly lookedAtMs: number;
}

export interface FetchBudgetsDeps {
  /** What the processes share. */
  readonly store: StateStore<SpentBudget>;
  readonly clock: Clock;
}

/** One caller's. */
export interface FetchBudget {
  /** Why nothing more is fetched for the caller from that repository; undefined where it is. */
  spent(repo: RepoRef): Promise<AccessDeniedError | undefined>;
  /** So many bytes have been fetched from there; fewer than none where what was counted did not come. */
  add(repo: RepoRef, bytes: number): void;
}

/**
 * How much that was not held has been fetched for whom (`access.fetchBudget`). A caller's time begins with the first thing that
 * is fetched for it. Processes that share their state count together, as far as they can without asking each other before each
 * request: what several fetch at the same moment may be counted once, and what is under way when the budget is spent still comes.
 */
export class FetchBudgets {
  readonly #deps: FetchBudgetsDeps;
  readonly #own: LRUCache<string, Own>;
  /** One caller's additions follow each other, so that this process loses none of its own. */
  readonly #adding = new KeyedLock<string>();

  constructor(deps: FetchBudgetsDeps) {
    this.#deps = deps;
    this.#own = new LRUCache(atMost(MAX_CALLERS));
  }

  of(config: FetchBudgetConfig, identity: Identity): FetchBudget {
    const key = keyOf(identity);
    return {
      spent: (repo) => this.#spent(config, key, repo),
      add: (repo, bytes) => void this.#adding.run(key, () => this.#add(config, key, repo, bytes)),
    };
  }

  async #spent(config: FetchBudgetConfig, key: string, repo: RepoRef): Promise<AccessDeniedError | undefined> {
    const known = this.#current(await this.#deps.store.get(key, { latest: this.#isLookDue(key) }), key);
    if (known === undefined) {
      return undefined;
    }
    if (config.bytes !== undefined && known.bytes >= config.bytes) {
      return this.#refusal("bytes", `${formatSize(config.bytes)} have been fetched for it`, known);
    }
    const { repositories } = known;
    const isNew = !repositories.includes(nameOf(repo));
    return config.repositories !== undefined && isNew && repositories.length >= config.repositories
      ? this.#refusal(
          "repositories",
          `something new of ${repositories.length} repositories has been fetched for it`,
          known,
        )
      : undefined;
  }

  async #add(config: FetchBudgetConfig, key: string, repo: RepoRef, bytes: number): Promise<void> {
    const { store, clock } = this.#deps;
    const known = this.#current(await store.get(key, { latest: true }), key) ?? {
      bytes: 0,
      repositories: [],
      untilMs: clock.now() + config.perMs,
    };
    const name = nameOf(repo);
    const counts = config.repositories !== undefined && known.repositories.length < config.repositories;
    const next: SpentBudget = {
      bytes: Math.max(0, known.bytes + bytes),
      repositories: counts && !known.repositories.includes(name) ? [...known.repositories, name] : known.repositories,
      untilMs: known.untilMs,
    };
    this.#own.set(key, { spent: next, lookedAtMs: clock.now() });
    await store.set(key, next, next.untilMs - clock.now());
  }

  /** The store believes this process's own word for as long as it is kept, and that of others for a moment only. */
  #isLookDue(key: string): boolean {
    const own = this.#own.get(key);
    const nowMs = this.#deps.clock.now();
    if (own === undefined || nowMs - own.lookedAtMs < LOOK_AGAIN_MS) {
      return false;
    }
    this.#own.set(key, { ...own, lookedAtMs: nowMs });
    return true;
  }

  /** What is shared, or what this process knows by itself where that is more or nothing is shared. */
  #current(shared: SpentBudget | undefined, key: string): SpentBudget | undefined {
    const nowMs = this.#deps.clock.now();
    const [known] = [shared, this.#own.get(key)?.spent]
      .filter((spent) => spent !== undefined)
      .filter(({ untilMs }) => untilMs > nowMs)
      .sort((a, b) => b.bytes - a.bytes);
    return known;
  }

  #refusal(what: "bytes" | "repositories", why: string, { untilMs }: SpentBudget): AccessDeniedError {
    const key = `access.fetchBudget.${what}`;
    const leftS = Math.max(1, Math.ceil((untilMs - this.#deps.clock.now()) / 1000));
    const message = `this client gets what Weir holds, and nothing more for ${leftS} s: ${why} (${key})`;
    return new AccessDeniedError("budget", key, message, {}, leftS);
  }
}

/** An account; of anonymous callers the address, or its network where one client has as many addresses as it likes. */
function keyOf({ account, address }: Identity): string {
  return account === undefined
    ? `address ${address === undefined ? "" : clientNetwork(address)}`
    : `account ${account}`;
}

function nameOf(repo: RepoRef): string {
  return createHash("sha256").update(formatRepo(repo)).digest("hex").slice(0, NAME_DIGITS);
}
