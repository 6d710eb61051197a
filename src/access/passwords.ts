import { createHash, createHmac, randomBytes } from "node:crypto";
import { LRUCache } from "lru-cache";
import { atMost } from "../base/at-most.ts";
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { FairSemaphore } from "../base/fair-semaphore.ts";
import type { Secret } from "../base/secret.ts";
import { SingleFlight } from "../base/single-flight.ts";
import { OciError } from "../oci/errors.ts";
import type { Htpasswd } from "./htpasswd.ts";
import type { HtpasswdEntry } from "./htpasswd-entries.ts";
import { clientNetwork } from "./networks.ts";

/** Sign-ins whose outcome is remembered, some 200 bytes each. */
const MAX_REMEMBERED = 10_000;

/** A client sends its password with every request of a pull. */
const RIGHT_MS = 5 * 60 * 1000;

/** A client that is set up wrongly sends it again and again, and gets it right after somebody's change. */
const WRONG_MS = 10_000;

/** Computations at once: they share four threads with everything that reads and writes files. */
const AT_ONCE = 2;

/** Computations that wait, in all and for one address. A guess takes its turn like everybody's. */
const MAX_WAITING = 100;
const MAX_WAITING_OF_ADDRESS = 10;

/** Of bcrypt's own default, for names that nobody has where the file is empty. */
const DEFAULT_COST = 10;

export interface PasswordDeps {
  readonly file: Pick<Htpasswd, "entries">;
  readonly clock: Clock;
  /** Whether the password is the one that was hashed. */
  verify(password: string, hash: string): Promise<boolean>;
}

/** bcrypt, loaded when it is wanted first: most Weirs never do. */
export async function verifyBcrypt(password: string, hash: string): Promise<boolean> {
  const { default: bcrypt } = await import("bcrypt");
  // What htpasswd writes as 2y is what everybody else calls 2b.
  return await bcrypt.compare(password, hash.replace(/^\$2y\$/, "$2b$"));
}

/**
 * Holds names and passwords against an htpasswd file. bcrypt takes a tenth of a second by design, so outcomes are remembered for
 * a while, under a hash with a key that this process alone has; equal sign-ins at once are one; and only so many wait. A name
 * that nobody has costs what a wrong password does.
 */
export class Passwords {
  readonly #deps: PasswordDeps;
  readonly #key = randomBytes(32);
  readonly #outcomes: LRUCache<string, boolean>;
  readonly #flights = new SingleFlight<boolean>();
  readonly #turns = new FairSemaphore(AT_ONCE);
  readonly #waiting = new Map<string, number>();

  constructor(deps: PasswordDeps) {
    this.#deps = deps;
    this.#outcomes = new LRUCache({ ...atMost(MAX_REMEMBERED), ttl: RIGHT_MS, ttlResolution: 0, perf: deps.clock });
  }

  /**
   * What stands for the name's line of the file, and changes with it, where the password is right; undefined where it is not.
   * Rejects with an OciError UNAVAILABLE where too many wait.
   *
   * @param address where it comes from, so that nobody's guesses keep others out
   */
  async check(name: string, password: Secret, address: string, o: CallOptions): Promise<string | undefined> {
    const entries = await this.#deps.file.entries();
    const entry = entries.get(name);
    const { hash } = entry ?? { hash: decoy(entries) };
    const key = createHmac("sha256", this.#key).update(`${hash}\0${name}\0${password.reveal()}`).digest("base64");
    let right = this.#outcomes.get(key);
    if (right === undefined) {
      const { value } = await this.#flights.run(key, o, (signal) => this.#compute(password, hash, address, signal));
      right = value && entry !== undefined;
      this.#outcomes.set(key, right, { ttl: right ? RIGHT_MS : WRONG_MS });
    }
    return right && entry !== undefined ? markOf(entry) : undefined;
  }

  /** What {@link check} gave for the name, as the file is now; undefined for a name that it does not have. */
  async markOf(name: string): Promise<string | undefined> {
    const entry = (await this.#deps.file.entries()).get(name);
    return entry && markOf(entry);
  }

  async #compute(password: Secret, hash: string, address: string, signal: AbortSignal): Promise<boolean> {
    // Who has one address of IPv6 has 2^64 of them.
    const client = clientNetwork(address) ?? address;
    const own = this.#waiting.get(client) ?? 0;
    if (own >= MAX_WAITING_OF_ADDRESS || this.#turns.waiting >= MAX_WAITING) {
      throw new OciError("UNAVAILABLE", "too many clients sign in at once; try again in a moment", {
        headers: { "retry-after": "1" },
      });
    }
    this.#waiting.set(client, own + 1);
    try {
      const release = await this.#turns.acquire(client, { signal });
      try {
        return await this.#deps.verify(password.reveal(), hash);
      } finally {
        release();
      }
    } finally {
      const left = (this.#waiting.get(client) ?? 1) - 1;
      if (left === 0) this.#waiting.delete(client);
      else this.#waiting.set(client, left);
    }
  }
}

/** Of the whole line, so that a new password is another one; the hash itself must not travel in tokens. */
function markOf({ hash }: HtpasswdEntry): string {
  return createHash("sha256").update(hash).digest("base64url").slice(0, 22);
}

/** A hash that no password has, and that takes as long as the file's. */
function decoy(entries: ReadonlyMap<string, HtpasswdEntry>): string {
  const [first] = entries.values();
  const cost = first?.cost ?? DEFAULT_COST;
  return `$2b$${String(cost).padStart(2, "0")}$${".".repeat(53)}`;
}
