import { LRUCache } from "lru-cache";
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { SingleFlight } from "../base/single-flight.ts";
import type { CredentialConfig } from "../config/types.ts";
import { answerError } from "./answer-error.ts";
import { parseJson, readDocument } from "./document.ts";
import { type Answer, type Exchange, shownUrl } from "./exchange.ts";
import { withRetries } from "./retry.ts";
import type { Side } from "./transport.ts";
import { UpstreamError, type UpstreamFault } from "./upstream.ts";

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
  readonly credential: CredentialConfig | undefined;
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
  readonly exchange: Exchange;
  readonly clock: Clock;
  random(): number;
}

interface CachedToken {
  readonly value: string;
  readonly usedUntilMs: number;
}

/** Gets bearer tokens by the GET form of the distribution token spec and keeps them while they last. */
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
    const { value } = await this.#flights.run(key, o, (signal) =>
      withRetries(this.#deps, signal, () => this.#fetch(request, key, { ...o, signal })),
    );
    return { value, fresh: true };
  }

  /** Forgets a token that the registry refused, unless a newer one has taken its place. */
  drop(request: TokenRequest, value: string): void {
    const key = keyOf(request);
    if (this.#cache.peek(key)?.value === value) {
      this.#cache.delete(key);
    }
  }

  async #fetch(request: TokenRequest, key: string, o: CallOptions): Promise<string> {
    const { upstream, exchange, clock } = this.#deps;
    const { credential } = request;
    const askedMs = clock.now();
    const answer = await exchange.ask(
      {
        kind: "token",
        method: "GET",
        url: tokenUrl(request),
        side: request.side,
        lane: "documents",
        headers: { accept: "application/json", "accept-encoding": "identity", "user-agent": "weir" },
        authorization: credential === undefined ? undefined : basicAuthorization(credential),
        redirects: credential === undefined ? "follow" : "same-origin",
      },
      o,
    );
    try {
      if (answer.status !== 200) {
        const fault = tokenFault(answer.status, credential !== undefined);
        const context = { upstream, clock, fault, missing: "repository", credential: credential?.label } as const;
        throw await answerError(answer, context, o);
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
}

/** `Basic` credentials in UTF-8 (RFC 7617). */
export function basicAuthorization(credential: CredentialConfig): string {
  return `Basic ${Buffer.from(`${credential.username}:${credential.password.reveal()}`).toString("base64")}`;
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
  return JSON.stringify([realm.href, service ?? null, scopes.toSorted(), credential?.label ?? null]);
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

/** A token service that says no, says it about the repository (upstreams.md rule 7), or with 401 about the credential. */
function tokenFault(status: number, withCredential: boolean): UpstreamFault {
  switch (status) {
    case 401:
      return withCredential ? "credential" : "denied";
    case 403:
      return "denied";
    case 429:
      return "quota";
    default:
      return "status";
  }
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
