import { LRUCache } from "lru-cache";
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { SingleFlight } from "../base/single-flight.ts";
import type { Adapter } from "./adapters/adapter.ts";
import { answerError, type ErrorContext } from "./answer-error.ts";
import type { Credential } from "./credentials/credential.ts";
import { parseJson, readDocument } from "./document.ts";
import { type Answer, type Ask, type Exchange, shownUrl } from "./exchange.ts";
import { faultOfRefusal } from "./fault.ts";
import type { FirstLogins } from "./first-logins.ts";
import type { QuotaSubject, Quotas } from "./quota.ts";
import { withRetries } from "./retry.ts";
import type { Side } from "./transport.ts";
import { UpstreamError } from "./upstream.ts";

/** Whom the token is for, as OAuth2 has it; token services log it and ask no more of it. */
const CLIENT_ID = "weir";

/** Tokens of registries with many access entries come near 8 KiB; a header could not carry more than this anyway. */
const TOKEN_BODY = { bytes: 64 * 1024, name: "what a token may take" };

/** Characters of all tokens kept, so that a registry with a token per repository cannot fill the memory. */
const MAX_CACHED_CHARACTERS = 8 * 1024 * 1024;

/** The token spec's lifetime for answers that name none, and its least. */
const DEFAULT_LIFETIME_S = 60;

/** A revoked token should not be tried for longer than this, whatever its issuer says. */
const MAX_LIFETIME_S = 24 * 3600;

/** Share of its lifetime after which a token is not used any more: clocks differ, and a request takes time. */
const USED_SHARE = 0.9;

/** What a token is for; the same values get the same token. */
export interface TokenRequest {
  readonly realm: URL;
  readonly service: string | undefined;
  readonly scopes: readonly string[];
  /** Undefined asks anonymously. */
  readonly credential: Credential | undefined;
  /** Which rule about addresses the realm falls under. */
  readonly side: Side;
}

export interface Token {
  readonly value: string;
  /** True where the token service was asked just now. */
  readonly fresh: boolean;
}

export interface TokenDeps {
  readonly upstream: string;
  readonly adapter: Adapter;
  readonly exchange: Exchange;
  readonly quotas: Quotas;
  readonly logins: FirstLogins;
  readonly clock: Clock;
  random(): number;
}

interface CachedToken {
  readonly value: string;
  readonly usedUntilMs: number;
}

/**
 * Gets bearer tokens and keeps them while they last: by the GET form of the distribution token spec, which every realm
 * knows, and for an identity token by the OAuth2 form, which alone takes one.
 */
export class TokenService {
  readonly #deps: TokenDeps;
  readonly #cache = new LRUCache<string, CachedToken>({
    maxSize: MAX_CACHED_CHARACTERS,
    sizeCalculation: (token, key) => token.value.length + key.length,
  });
  readonly #flights = new SingleFlight<string>();

  constructor(deps: TokenDeps) {
    this.#deps = deps;
  }

  /**
   * A token that was good a moment ago. Rejects with {@link UpstreamError}: `denied` (the realm gives none for this
   * repository), `credential` (it refuses the credential), or whatever trouble it is in.
   */
  async get(request: TokenRequest, o: CallOptions): Promise<Token> {
    const key = keyOf(request);
    const cached = this.#cache.get(key);
    if (cached !== undefined && this.#deps.clock.now() < cached.usedUntilMs) {
      return { value: cached.value, fresh: false };
    }
    const { realm, scopes } = request;
    const step = o.trail?.detail?.begin("token", { realm: shownUrl(realm), scopes: scopes.join(" ") });
    const asking = step === undefined ? o : { ...o, trail: step.trail };
    try {
      const { value, shared, begunIn } = await this.#flights.run(key, asking, (signal) =>
        withRetries(this.#deps, signal, () => this.#logIn(request, key, { ...asking, signal })),
      );
      if (shared) step?.joins(begunIn);
      step?.end({ shared });
      return { value, fresh: true };
    } catch (error) {
      step?.end({ fault: error instanceof UpstreamError ? error.fault : undefined });
      throw error;
    }
  }

  /** Forgets a token that the registry refused, unless a newer one has taken its place. */
  drop(request: TokenRequest, value: string): void {
    const key = keyOf(request);
    if (this.#cache.peek(key)?.value === value) {
      this.#cache.delete(key);
    }
  }

  async #logIn(request: TokenRequest, key: string, o: CallOptions): Promise<string> {
    const { credential } = request;
    const fetch = (): Promise<string> => this.#fetch(request, key, o);
    return await (credential === undefined ? fetch() : this.#deps.logins.run(credential, o, fetch, () => "accepted"));
  }

  async #fetch(request: TokenRequest, key: string, o: CallOptions): Promise<string> {
    const { upstream, exchange, clock, quotas } = this.#deps;
    const askedMs = clock.now();
    const subject: QuotaSubject = { credential: request.credential?.label, kind: "token", method: "GET" };
    quotas.check(subject);
    const answer = await exchange.ask(
      {
        ...tokenForm(request),
        kind: "token",
        side: request.side,
        lane: "documents",
        answered: ({ status, headers }) => {
          if (status !== 429) quotas.observe(subject, { status, headers, bodyText: undefined, realm: true });
        },
      },
      o,
    );
    try {
      if (answer.status !== 200) {
        throw await answerError(answer, this.#errorContext(answer, request, subject), o);
      }
      const { value, expiresIn } = readToken(
        upstream,
        answer,
        await readDocument(upstream, answer, TOKEN_BODY, clock, o),
      );
      const lifetimeMs = tokenLifetime(expiresIn, value, askedMs) * 1000;
      this.#cache.set(key, { value, usedUntilMs: askedMs + lifetimeMs * USED_SHARE });
      answer.settle();
      return value;
    } catch (error) {
      answer.settle(error instanceof UpstreamError ? error.fault : undefined);
      answer.discard();
      throw error;
    }
  }

  #errorContext(answer: Answer, { credential }: TokenRequest, subject: QuotaSubject): ErrorContext {
    const { upstream, adapter, clock, quotas } = this.#deps;
    const { status, headers, direct } = answer;
    const scheme = credential === undefined ? "none" : credential.form === "password" ? "basic" : "token";
    return {
      upstream,
      clock,
      faultOf: ({ code, message }) => {
        if (status === 429) return "quota";
        const refusal = { status, from: "realm", scheme, challengeError: undefined, code, message } as const;
        const fault = faultOfRefusal(adapter, refusal);
        return fault === "bad-answer" ? "status" : fault;
      },
      missing: "repository",
      credential: credential?.label,
      throttled: (bodyText) => {
        if (direct) quotas.observe(subject, { status, headers, bodyText, realm: true });
      },
    };
  }
}

/** `Basic` credentials in UTF-8 (RFC 7617). */
export function basicAuthorization({ username, secret }: Credential): string {
  return `Basic ${Buffer.from(`${username}:${secret.reveal()}`).toString("base64")}`;
}

/** Seconds that a token lasts: what the answer says, else what the token says, else the spec's 60. */
export function tokenLifetime(expiresIn: unknown, token: string, nowMs: number): number {
  const told = typeof expiresIn === "number" ? expiresIn : lifetimeInJwt(token, nowMs);
  return told !== undefined && Number.isFinite(told)
    ? Math.min(Math.max(told, DEFAULT_LIFETIME_S), MAX_LIFETIME_S)
    : DEFAULT_LIFETIME_S;
}

/** By the issuer's own clock where it says when it issued the token: ours, or its, may be wrong. */
function lifetimeInJwt(token: string, nowMs: number): number | undefined {
  const claims = parseJson(Buffer.from(token.split(".")[1] ?? "", "base64url"));
  if (typeof claims !== "object" || claims === null || !("exp" in claims) || typeof claims.exp !== "number") {
    return undefined;
  }
  return claims.exp - ("iat" in claims && typeof claims.iat === "number" ? claims.iat : nowMs / 1000);
}

function keyOf({ realm, service, scopes, credential }: TokenRequest): string {
  return JSON.stringify([realm.href, service ?? null, scopes.toSorted(), credential?.fingerprint ?? null]);
}

/** The request's own part: a password goes into a header, a refresh token into the body, and neither into the URL. */
function tokenForm(
  request: TokenRequest,
): Pick<Ask, "method" | "url" | "headers" | "body" | "authorization" | "redirects"> {
  const { realm, credential } = request;
  const headers = { accept: "application/json", "accept-encoding": "identity", "user-agent": "weir" };
  if (credential?.form === "identity-token") {
    return {
      method: "POST",
      url: realm,
      headers: { ...headers, "content-type": "application/x-www-form-urlencoded" },
      body: refreshForm(request, credential).toString(),
      authorization: undefined,
      redirects: "hand-out",
    };
  }
  return {
    method: "GET",
    url: tokenUrl(request),
    headers,
    authorization: credential === undefined ? undefined : basicAuthorization(credential),
    redirects: credential === undefined ? "follow" : "same-origin",
  };
}

function tokenUrl({ realm, service, scopes, credential }: TokenRequest): URL {
  const url = new URL(realm);
  if (service !== undefined) {
    url.searchParams.set("service", service);
  }
  for (const scope of scopes) {
    url.searchParams.append("scope", scope);
  }
  if (credential !== undefined) {
    url.searchParams.set("account", credential.username);
  }
  return url;
}

/** The OAuth2 form of the distribution token spec; scopes stand in one value here. */
function refreshForm({ service, scopes }: TokenRequest, { secret }: Credential): URLSearchParams {
  return new URLSearchParams({
    grant_type: "refresh_token",
    client_id: CLIENT_ID,
    ...(service === undefined ? {} : { service }),
    ...(scopes.length === 0 ? {} : { scope: scopes.join(" ") }),
    refresh_token: secret.reveal(),
  });
}

function readToken(upstream: string, answer: Answer, bytes: Uint8Array): { value: string; expiresIn: unknown } {
  const body = parseJson(bytes);
  const { token, access_token, expires_in } = (typeof body === "object" && body !== null ? body : {}) as Readonly<
    Record<string, unknown>
  >;
  const value = typeof token === "string" && token !== "" ? token : access_token;
  // What is no visible ASCII cannot stand in a header, and would be an error far from its cause.
  if (typeof value !== "string" || !/^[\x21-\x7e]+$/.test(value)) {
    throw new UpstreamError(upstream, "bad-answer", `${upstream}: ${shownUrl(answer.url)} answered without a token`, {
      status: answer.status,
    });
  }
  return { value, expiresIn: expires_in };
}
