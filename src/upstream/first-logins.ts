import { LRUCache } from "lru-cache";
import { atMost } from "../base/at-most.ts";
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { waitFor } from "../base/wait-for.ts";
import type { Credential } from "./credentials/credential.ts";
import { UpstreamError } from "./upstream.ts";

/**
 * How long a refusal is told to those who had chosen the credential before it was refused. Shorter than its first park, so
 * that it never holds back who may try it again.
 */
const TOLD_MS = 30_000;

/** A docker config has a few secrets, and a renewed one is another each time. */
const MAX_KNOWN = 1_000;

/** What a login has shown: the credential is good, it is refused, or (undefined) neither. */
export type LoginVerdict = "accepted" | "refused" | undefined;

export interface FirstLoginsDeps {
  readonly upstream: string;
  readonly clock: Clock;
}

type Known =
  | { readonly accepted: true }
  | { readonly accepted: false; readonly error: UpstreamError; readonly atMs: number };

/**
 * Lets one login go ahead while nothing is known of a credential: many at once with a wrong password would be as many failed
 * logins, for which registries ban an address (GitLab: 30 in three minutes) or lock an account. Once it has been accepted,
 * nobody waits.
 */
export class FirstLogins {
  readonly #deps: FirstLoginsDeps;
  readonly #known = new LRUCache<string, Known>(atMost(MAX_KNOWN));
  /** Logins under way with credentials of which nothing is known; each resolves with what concerns those who wait for it. */
  readonly #running = new Map<string, Promise<UpstreamError | undefined>>();

  constructor(deps: FirstLoginsDeps) {
    this.#deps = deps;
  }

  /**
   * Runs `login`, after the one that shows what the credential is worth. Rejects as `login` does; with that one's error where
   * it was refused or in trouble; with the signal's reason when aborted while waiting.
   *
   * @param judge what a result says of the credential; of errors, `credential` is a refusal
   */
  async run<T>(
    credential: Credential,
    o: CallOptions,
    login: () => Promise<T>,
    judge: (result: T) => LoginVerdict,
  ): Promise<T> {
    const { fingerprint } = credential;
    for (;;) {
      const known = this.#known.get(fingerprint);
      if (known?.accepted === false && this.#deps.clock.now() - known.atMs < TOLD_MS) {
        throw known.error;
      }
      const running = known?.accepted === true ? undefined : this.#running.get(fingerprint);
      if (running === undefined) {
        return await this.#lead(credential, login, judge);
      }
      const error = await waitFor(running, o.signal);
      if (error !== undefined) {
        throw error;
      }
    }
  }

  async #lead<T>(credential: Credential, login: () => Promise<T>, judge: (result: T) => LoginVerdict): Promise<T> {
    const { fingerprint } = credential;
    const { promise, resolve } = Promise.withResolvers<UpstreamError | undefined>();
    if (this.#known.get(fingerprint)?.accepted !== true) {
      this.#running.set(fingerprint, promise);
    }
    let concerns: UpstreamError | undefined;
    try {
      const result = await login();
      const verdict = judge(result);
      concerns = verdict === "refused" ? this.#refusal(credential) : undefined;
      this.#note(fingerprint, verdict, concerns);
      return result;
    } catch (error) {
      if (error instanceof UpstreamError) {
        const refused = error.fault === "credential";
        concerns = refused || error.trouble ? error : undefined;
        // What is denied to it, it was asked for by name.
        this.#note(fingerprint, refused ? "refused" : error.fault === "denied" ? "accepted" : undefined, error);
      }
      throw error;
    } finally {
      if (this.#running.get(fingerprint) === promise) {
        this.#running.delete(fingerprint);
      }
      resolve(concerns);
    }
  }

  #note(fingerprint: string, verdict: LoginVerdict, error: UpstreamError | undefined): void {
    if (verdict === "accepted") {
      this.#known.set(fingerprint, { accepted: true });
    } else if (verdict === "refused" && error !== undefined) {
      this.#known.set(fingerprint, { accepted: false, error, atMs: this.#deps.clock.now() });
    }
  }

  #refusal({ label }: Credential): UpstreamError {
    const { upstream } = this.#deps;
    const message = `${upstream}: credential ${JSON.stringify(label)} has just been refused by the registry`;
    return new UpstreamError(upstream, "credential", message, { status: 401, credential: label });
  }
}
