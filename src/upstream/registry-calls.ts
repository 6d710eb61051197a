import { finished } from "node:stream";
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { FairSemaphore } from "../base/fair-semaphore.ts";
import type { Log } from "../base/log.ts";
import type { EndpointConfig, LimitsConfig, UpstreamConfig } from "../config/types.ts";
import type { Adapter } from "./adapters/adapter.ts";
import type { Access, Authenticator, Grant, Subject } from "./auth.ts";
import type { Credential, CredentialPool } from "./credentials/credential.ts";
import type { Answer, Exchange } from "./exchange.ts";
import type { FirstLogins } from "./first-logins.ts";
import type { QuotaSubject, Quotas } from "./quota.ts";
import { type Missing, RegistryReply } from "./registry-reply.ts";
import { withRetries } from "./retry.ts";
import type { Lane } from "./transport.ts";
import { UpstreamError, type UpstreamKind } from "./upstream.ts";

/** A stale token, then a bare request for an honest challenge: whoever refuses after that means it. */
const MAX_RENEWALS = 2;

/** Credentials that a call may be tried with: the one chosen first, and one more when that is refused or spent. */
const MAX_CREDENTIALS = 2;

/** A credential by its label; undefined is nobody. */
export interface Identity {
  readonly credential: string | undefined;
}

/** One request to the registry, before authorisation. */
export interface Call {
  readonly kind: UpstreamKind;
  readonly method: "GET" | "HEAD";
  /** The upstream's name for it, without the endpoint's prefix. */
  readonly repository: string;
  /** Behind `/v2/<repository>/`. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly access: Access;
  /** Asks as this one of the credentials, or as nobody, and not as whichever is best for the repository. */
  readonly as?: Identity;
  readonly lane: Lane;
  readonly redirects: "follow" | "hand-out";
  /** What a plain 404 means; undefined where it does not tell. */
  readonly missing: Missing | undefined;
  readonly retried: boolean;
  /** For registries that are known to think longer than `timeouts.headers`; milliseconds. */
  readonly headersMs?: number;
  /** The body goes to the caller, who owns it; otherwise what is left of it is thrown away. */
  readonly handsOutBody?: true;
}

export interface RegistryCallsDeps {
  readonly upstream: UpstreamConfig;
  readonly endpoint: EndpointConfig;
  readonly adapter: Adapter;
  readonly credentials: CredentialPool;
  readonly quotas: Quotas;
  readonly exchange: Exchange;
  readonly auth: Authenticator;
  readonly logins: FirstLogins;
  /**
   * Places for exchanges of the lane `bodies`, as many as connections: where the lane's own queue would serve whoever comes
   * first, here the repositories take turns.
   */
  readonly bodies: FairSemaphore;
  /** False where another endpoint is asked at once instead. */
  readonly retries: boolean;
  readonly clock: Clock;
  random(): number;
  readonly log: Log;
  readonly limits: LimitsConfig;
}

/** Puts calls to one registry: with a credential, within its limits, and again where that can help. */
export class RegistryCalls {
  readonly #deps: RegistryCallsDeps;

  constructor(deps: RegistryCallsDeps) {
    this.#deps = deps;
  }

  get upstream(): string {
    return this.#deps.upstream.name;
  }

  get adapter(): Adapter {
    return this.#deps.adapter;
  }

  get limits(): LimitsConfig {
    return this.#deps.limits;
  }

  /** Asks, with retries where the call may have them, and lets `read` make of the reply what it is worth. */
  async run<T>(call: Call, o: CallOptions, read: (reply: RegistryReply) => Promise<T>): Promise<T> {
    const { exchange, bodies, retries } = this.#deps;
    const attempt = async (): Promise<T> => {
      // Before waiting for a place or for a token, which would be for nothing.
      exchange.checkRegistry();
      if (call.lane !== "bodies") {
        return (await this.#rotated(call, o, read)).result;
      }
      const leave = await bodies.acquire(call.repository, o);
      try {
        const { result, answer } = await this.#rotated(call, o, read);
        finished(answer.body, leave);
        return result;
      } catch (error) {
        leave();
        throw error;
      }
    };
    try {
      return await (call.retried && retries ? withRetries(this.#deps, o.signal, attempt) : attempt());
    } catch (error) {
      o.signal.throwIfAborted();
      if (error instanceof UpstreamError && (error.fault === "credential" || error.fault === "refused")) {
        const { fault, credential } = error;
        this.#deps.log.warn({ upstream: this.upstream, fault, credential, requestId: o.requestId }, error.message);
      }
      throw error;
    }
  }

  /** Asks with the credential of the moment, and with another one where that is refused or has no quota left. */
  async #rotated<T>(
    call: Call,
    o: CallOptions,
    read: (reply: RegistryReply) => Promise<T>,
  ): Promise<{ result: T; answer: Answer }> {
    let credential = await this.#choose(call, o);
    for (let tried = 1; ; tried += 1) {
      try {
        return await this.#attempt(call, credential, o, read);
      } catch (error) {
        o.signal.throwIfAborted();
        const another = credential && (await this.#anotherThan(credential, error, call, o));
        if (another === undefined || tried === MAX_CREDENTIALS) {
          throw error;
        }
        credential = another;
      }
    }
  }

  async #choose(call: Call, o: CallOptions): Promise<Credential | undefined> {
    const { credentials } = this.#deps;
    if (call.as === undefined) {
      return await credentials.choose(call.repository, o);
    }
    return call.as.credential === undefined ? undefined : await credentials.resolve(call.as.credential, o);
  }

  /** Takes note of a refusal; undefined where no other credential would do better. */
  async #anotherThan(used: Credential, error: unknown, call: Call, o: CallOptions): Promise<Credential | undefined> {
    const fault = error instanceof UpstreamError ? error.fault : undefined;
    if (fault === "credential") {
      await this.#deps.credentials.refused(used, o);
    } else if (fault !== "quota") {
      return undefined;
    }
    try {
      const chosen = await this.#choose(call, o);
      return chosen?.fingerprint === used.fingerprint ? undefined : chosen;
    } catch (why) {
      o.signal.throwIfAborted();
      // None can be used: what the registry said of the one that was used tells more.
      if (why instanceof UpstreamError) return undefined;
      throw why;
    }
  }

  /** Asks once. The answer's body belongs to the caller where the call hands it out, and is thrown away otherwise. */
  async #attempt<T>(
    call: Call,
    credential: Credential | undefined,
    o: CallOptions,
    read: (reply: RegistryReply) => Promise<T>,
  ): Promise<{ result: T; answer: Answer }> {
    const { upstream, adapter, credentials, quotas, clock, limits } = this.#deps;
    const { answer, grant } = await this.#authorised(call, credential, o);
    const { status, headers } = answer;
    const reply = new RegistryReply(answer, {
      upstream: upstream.name,
      adapter,
      clock,
      limits,
      grant,
      credential: credential?.label,
      missing: call.missing,
      throttled: (bodyText) =>
        quotas.observe(quotaSubject(call, credential), { status, headers, bodyText, realm: false }),
    });
    const judged = (error: unknown): void => {
      if (credential !== undefined && letIn(grant, error)) credentials.accepted(credential);
    };
    try {
      const result = await read(reply);
      answer.settle();
      if (call.handsOutBody !== true) {
        answer.discard();
      }
      judged(undefined);
      return { result, answer };
    } catch (error) {
      judged(error);
      answer.settle(error instanceof UpstreamError ? error.fault : undefined);
      answer.discard();
      throw error;
    }
  }

  /** Sends the call, answering challenges until the registry has made up its mind. */
  async #authorised(
    call: Call,
    credential: Credential | undefined,
    o: CallOptions,
  ): Promise<{ answer: Answer; grant: Grant }> {
    const { auth, endpoint, quotas } = this.#deps;
    const repository = endpoint.prefix === "" ? call.repository : `${endpoint.prefix}/${call.repository}`;
    const subject: Subject = { repository, access: call.access, credential };
    // No token either for what will not be asked.
    quotas.check(quotaSubject(call, credential));
    let grant = await auth.prepare(subject, o);
    for (let renewals = 0; ; renewals += 1) {
      const { answer, renewal } = await this.#ask(call, subject, grant, { ...o, mayRenew: renewals < MAX_RENEWALS });
      if (renewal === undefined) {
        return { answer, grant };
      }
      answer.settle();
      answer.discard();
      grant = await renewal(o);
    }
  }

  /** Sends the call once; with what gets a better grant, where the registry refuses this one and there is something to try. */
  async #ask(
    call: Call,
    subject: Subject,
    grant: Grant,
    o: CallOptions & { readonly mayRenew: boolean },
  ): Promise<{ answer: Answer; renewal: ReturnType<Authenticator["renewal"]> }> {
    const { auth, logins } = this.#deps;
    const { credential } = subject;
    const ask = async (): Promise<{ answer: Answer; renewal: ReturnType<Authenticator["renewal"]> }> => {
      const answer = await this.#send(call, subject, grant, o);
      if (!refuses(answer) || !o.mayRenew) {
        return { answer, renewal: undefined };
      }
      try {
        return { answer, renewal: auth.renewal(answer, grant, subject) };
      } catch (error) {
        answer.settle(error instanceof UpstreamError ? error.fault : undefined);
        answer.discard();
        throw error;
      }
    };
    if (grant.scheme !== "basic" || credential === undefined) {
      return await ask();
    }
    return await logins.run(credential, o, ask, ({ answer, renewal }) => {
      // With something else to try, the registry has not said what it makes of the password.
      return renewal !== undefined ? undefined : refuses(answer) ? "refused" : "accepted";
    });
  }

  #send(call: Call, { repository, credential }: Subject, grant: Grant, o: CallOptions): Promise<Answer> {
    const { upstream, endpoint, exchange, quotas } = this.#deps;
    const url = new URL(`/v2/${repository}/${call.path}`, endpoint.url);
    for (const [name, value] of Object.entries(call.query ?? {})) {
      url.searchParams.set(name, value);
    }
    if (upstream.sendNs) {
      url.searchParams.set("ns", upstream.name);
    }
    const counted = quotaSubject(call, credential);
    quotas.check(counted);
    return exchange.ask(
      {
        kind: call.kind,
        method: call.method,
        url,
        side: "own",
        lane: call.lane,
        headers: { ...call.headers, "accept-encoding": "identity", "user-agent": "weir" },
        ...(call.headersMs === undefined ? {} : { headersMs: call.headersMs }),
        authorization: grant.authorization,
        redirects: call.redirects,
        // What a 429 means stands in its body, which has not come yet.
        answered: ({ status, headers }) => {
          if (status !== 429) quotas.observe(counted, { status, headers, bodyText: undefined, realm: false });
        },
      },
      o,
    );
  }
}

function refuses({ status, direct }: Answer): boolean {
  return status === 401 && direct;
}

/** Whether a credential was accepted, whatever became of the call: by a realm that gave a token for it just now, or by the registry. */
function letIn({ scheme, token }: Grant, error: unknown): boolean {
  if (scheme !== "basic") {
    return token?.fresh === true;
  }
  const fault = error instanceof UpstreamError ? error.fault : undefined;
  return error === undefined || fault === "absent" || fault === "denied";
}

function quotaSubject({ kind, method }: Call, credential: Credential | undefined): QuotaSubject {
  return { credential: credential?.label, kind, method };
}
