import { LRUCache } from "lru-cache";
import { atMost } from "../../base/at-most.ts";
import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { ParkedCredentials, ParkedState } from "./parked.ts";

const FIRST_PARK_MS = 60_000;

/** Long enough that no registry bans anybody for it, short enough that what was mended at the registry's side is found out. */
const LONGEST_PARK_MS = 3_600_000;

/**
 * After a park one caller tries the credential, and the others are held off for so long, or until it has told. Several who
 * tried at once would count as so many failed logins. Short, since the one may have had no use for it.
 */
const TRIAL_MS = 2_000;

/** A docker config has a few secrets, and a renewed one is another each time. */
const MAX_KNOWN = 1_000;

export interface ParkingDeps {
  readonly parked: ParkedCredentials;
  readonly clock: Clock;
  readonly log: Log;
}

/** What is known of one secret's refusals. */
interface Known {
  readonly state: ParkedState | undefined;
  /** Somebody tries it after its park, until then. */
  readonly trialUntilMs: number;
  /** Whose trial it is, who may ask more than once. */
  readonly trialOf?: string | undefined;
}

/** Which secrets a registry has refused, and until when they are kept from it. In memory, backed by what survives a restart. */
export class Parking {
  readonly #deps: ParkingDeps;
  readonly #known = new LRUCache<string, Known>(atMost(MAX_KNOWN));

  constructor(deps: ParkingDeps) {
    this.#deps = deps;
  }

  /**
   * Until when it is kept from the registry, or undefined where it may be sent. The first to be told so after a park is the
   * one who tries it.
   */
  async enter(fingerprint: string, o: CallOptions): Promise<number | undefined> {
    const known = this.#known.get(fingerprint) ?? (await this.#load(fingerprint, o));
    const now = this.#deps.clock.now();
    const { requestId } = o;
    const othersTrialMs = requestId !== undefined && requestId === known.trialOf ? 0 : known.trialUntilMs;
    const untilMs = Math.max(known.state?.untilMs ?? 0, othersTrialMs);
    if (now < untilMs) {
      return untilMs;
    }
    if (known.state !== undefined) {
      this.#known.set(fingerprint, { ...known, trialUntilMs: now + TRIAL_MS, trialOf: requestId });
    }
    return undefined;
  }

  /**
   * It was refused. Gives the state that it is in now; undefined where it is parked already, since those who had sent it
   * before count as one refusal.
   *
   * @param before refusals in a row of what it took the place of
   */
  async refused(fingerprint: string, before: number, o: CallOptions): Promise<ParkedState | undefined> {
    const now = this.#deps.clock.now();
    const known = this.#known.get(fingerprint)?.state;
    if (known !== undefined && now < known.untilMs) {
      return undefined;
    }
    const failures = Math.max(known?.failures ?? 0, before) + 1;
    const state = { untilMs: now + Math.min(FIRST_PARK_MS * 2 ** (failures - 1), LONGEST_PARK_MS), failures };
    this.#known.set(fingerprint, { state, trialUntilMs: 0 });
    await this.#quietly("kept", () => this.#deps.parked.put(fingerprint, state, o));
    return state;
  }

  /** It was accepted; true where it had been refused before. */
  accepted(fingerprint: string): boolean {
    if (this.#known.get(fingerprint)?.state === undefined) {
      return false;
    }
    this.#known.set(fingerprint, NOTHING);
    // Of no request: nobody waits for it.
    const signal = new AbortController().signal;
    void this.#quietly("deleted", () => this.#deps.parked.delete(fingerprint, { signal }));
    return true;
  }

  async #load(fingerprint: string, o: CallOptions): Promise<Known> {
    const state = await this.#quietly("read", () => this.#deps.parked.get(fingerprint, o));
    o.signal.throwIfAborted();
    // Somebody may have been faster, and have been refused since.
    const known = this.#known.get(fingerprint) ?? { state, trialUntilMs: 0 };
    this.#known.set(fingerprint, known);
    return known;
  }

  /** Storage in trouble keeps nobody from pulling: what it should have kept is then known until the next start. */
  async #quietly<T>(what: string, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (err) {
      this.#deps.log.warn({ err }, `the record of a refused credential could not be ${what}`);
      return undefined;
    }
  }
}

const NOTHING: Known = { state: undefined, trialUntilMs: 0 };
