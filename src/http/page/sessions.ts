import { createHmac, hkdfSync, timingSafeEqual } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import type { Secret } from "../../base/secret.ts";

/** An operator's working day; after it the token has to be given again. */
const LIFETIME_MS = 12 * 3600 * 1000;

/** Sessions that were ended before their time and are remembered for it; the first are forgotten first. */
const MAX_ENDED = 1_000;

const ID_BYTES = 16;

export interface Session {
  readonly id: string;
  readonly expiresAtMs: number;
}

export interface SessionDeps {
  readonly token: Secret;
  readonly clock: Clock;
  random(bytes: number): Uint8Array;
}

/**
 * Who has signed in. A session is its cookie, signed with a key that comes of `admin.token`, so that it is good at every
 * replica and after a restart, takes no memory, and ends with the token. One that was signed out is refused by the process that
 * was told so.
 */
export class Sessions {
  readonly #deps: SessionDeps;
  readonly #cookieKey: Uint8Array;
  readonly #formKey: Uint8Array;
  readonly #ended = new Set<string>();

  constructor(deps: SessionDeps) {
    this.#deps = deps;
    this.#cookieKey = derived(deps.token, "session");
    this.#formKey = derived(deps.token, "form");
  }

  /** A new one, and what its cookie holds. */
  open(): { readonly session: Session; readonly value: string } {
    const { clock, random } = this.#deps;
    const id = Buffer.from(random(ID_BYTES)).toString("base64url");
    const expiresAtMs = clock.now() + LIFETIME_MS;
    const signed = `${expiresAtMs.toString(36)}.${id}`;
    return { session: { id, expiresAtMs }, value: `${signed}.${mac(this.#cookieKey, signed)}` };
  }

  /** The session of a cookie's value; undefined where it is none of ours, too old, or ended. */
  read(value: string): Session | undefined {
    const [expires = "", id = "", signature = "", ...more] = value.split(".");
    if (more.length > 0 || !equal(signature, mac(this.#cookieKey, `${expires}.${id}`))) {
      return undefined;
    }
    const session = { id, expiresAtMs: Number.parseInt(expires, 36) };
    return this.isOpen(session) ? session : undefined;
  }

  isOpen({ id, expiresAtMs }: Session): boolean {
    return this.#deps.clock.now() < expiresAtMs && !this.#ended.has(id);
  }

  end({ id }: Session): void {
    this.#ended.add(id);
    const [first] = this.#ended;
    if (this.#ended.size > MAX_ENDED && first !== undefined) {
      this.#ended.delete(first);
    }
  }

  /** What every form of the session has to bring along: nobody else's page can know it. */
  formToken({ id }: Session): string {
    return mac(this.#formKey, id);
  }

  isFormToken(session: Session, sent: string): boolean {
    return equal(sent, this.formToken(session));
  }
}

/** Seconds, for the cookie. */
export const SESSION_LIFETIME_S = LIFETIME_MS / 1000;

function derived(token: Secret, purpose: string): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", token.reveal(), "", `weir status page: ${purpose}`, 32));
}

function mac(key: Uint8Array, text: string): string {
  return createHmac("sha256", key).update(text).digest("base64url");
}

function equal(sent: string, expected: string): boolean {
  const [a, b] = [Buffer.from(sent), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}
