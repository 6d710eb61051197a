import { LRUCache } from "lru-cache";
import { atMost } from "../base/at-most.ts";
import type { CallOptions } from "../base/call.ts";
import type { UpstreamConfig } from "../config/types.ts";
import { type Challenge, parseChallenges } from "../oci/challenge.ts";
import { formatScope, parseScope, repositoryScope } from "../oci/scope.ts";
import type { Adapter } from "./adapters/adapter.ts";
import type { Credential } from "./credentials/credential.ts";
import type { Answer } from "./exchange.ts";
import { shownUrl } from "./exchange.ts";
import { judgeRealm } from "./realm.ts";
import { basicAuthorization, type TokenRequest, type TokenService } from "./tokens.ts";
import { UpstreamError } from "./upstream.ts";

/** Repositories whose registry wants scopes that cannot be worked out from their name. */
const MAX_ODD_REPOSITORIES = 10_000;

/** Actions that Weir never needs; some registries challenge for them all the same (nvcr.io: `pull,push`). */
const UNWANTED_ACTIONS: ReadonlySet<string> = new Set(["push", "delete", "*"]);

/** What is to be done with the repository: registries may want another scope for tag lists (ACR: `metadata_read`). */
export type Access = "pull" | "tags";

/** On whose behalf a request is authorised. */
export interface Subject {
  /** As the registry has it: with the endpoint's prefix. */
  readonly repository: string;
  readonly access: Access;
  /** Undefined asks anonymously. */
  readonly credential: Credential | undefined;
}

/** How one request is authorised. */
export interface Grant {
  readonly scheme: "none" | "basic" | "bearer";
  /** The header's value; undefined sends none. */
  readonly authorization: string | undefined;
  readonly token: GrantedToken | undefined;
}

interface GrantedToken {
  readonly request: TokenRequest;
  readonly value: string;
  /** Fetched for this request, so that it cannot have gone stale. */
  readonly fresh: boolean;
  /** Asked for as a challenge to this very request said, and not as memory had it. */
  readonly challenged: boolean;
}

/** What a Bearer challenge asks for. */
interface Wanted {
  readonly realm: URL;
  readonly service: string | undefined;
  readonly scopes: readonly string[];
}

/** What a registry's challenges have taught: enough to authorise the next request before it is refused. */
type Known =
  | { readonly scheme: "basic" }
  | {
      readonly scheme: "bearer";
      readonly realm: URL;
      readonly service: string | undefined;
      readonly scopes: ReadonlyMap<Access, ScopeForm>;
    };

/** Actions on the repository asked for, or scopes that are the same for every repository (ECR Public: `aws`). */
type ScopeForm = { readonly actions: readonly string[] } | { readonly fixed: readonly string[] };

const NO_GRANT: Grant = { scheme: "none", authorization: undefined, token: undefined };

export interface AuthDeps {
  readonly upstream: Pick<UpstreamConfig, "name" | "realms">;
  /** The registry's own address. */
  readonly registry: URL;
  readonly adapter: Adapter;
  readonly tokens: TokenService;
}

/**
 * Authorises requests to one registry: remembers what its challenges said, so that a known registry costs no 401, and
 * sees to it that a credential goes to the registry's origin and to trusted realms only.
 */
export class Authenticator {
  readonly #deps: AuthDeps;
  #known: Known | undefined;
  readonly #oddScopes = new LRUCache<string, readonly string[]>(atMost(MAX_ODD_REPOSITORIES));

  constructor(deps: AuthDeps) {
    this.#deps = deps;
  }

  /** The grant to send a request with in the first place. Rejects as {@link TokenService.get} does, or with `refused`. */
  async prepare(subject: Subject, o: CallOptions): Promise<Grant> {
    const known = this.#known;
    if (known === undefined) {
      return this.#deps.adapter.basicOnly ? this.#basic(subject) : NO_GRANT;
    }
    if (known.scheme === "basic") {
      return this.#basic(subject);
    }
    try {
      const wanted = { ...known, scopes: this.#scopesFor(subject) };
      return await this.#bearer(this.#tokenRequest(wanted, subject), false, o);
    } catch (error) {
      // The realm may have moved: the next request asks the registry again rather than a realm that is in trouble. What an
      // open breaker says is no news.
      const mayHaveMoved =
        error instanceof UpstreamError && !error.breakerOpen && (error.trouble || error.fault === "refused");
      if (mayHaveMoved && this.#known === known) {
        this.#known = undefined;
      }
      throw error;
    }
  }

  /**
   * What gets the grant to repeat a request with that was answered 401 (rejecting as {@link prepare} does), or undefined
   * when there is nothing left to try and the 401 stands. Throws `refused` where the challenge leads to a realm that may not
   * be asked.
   */
  renewal(answer: Answer, grant: Grant, subject: Subject): ((o: CallOptions) => Promise<Grant>) | undefined {
    const { token } = grant;
    const challenge = this.#choose(answer, subject);
    const compared =
      typeof challenge === "object" && token !== undefined ? compare(challenge, token.request) : undefined;
    // A token that only lacks another scope (ACR's tag lists) is still good for what it was issued for.
    if (token !== undefined && (compared !== "other-scopes" || token.challenged)) {
      this.#deps.tokens.drop(token.request, token.value);
    }
    if (challenge === undefined || (challenge === "basic" && grant.scheme === "basic")) {
      return undefined;
    }
    if (challenge === "basic") {
      this.#known = { scheme: "basic" };
      return async () => this.#basic(subject);
    }
    if (token !== undefined) {
      if (token.fresh && (token.challenged || compared === "same")) {
        return undefined;
      }
      if (token.challenged) {
        return (o) => this.#bearer(token.request, true, o);
      }
      if (compared === "other-realm") {
        // To a stale token nvcr.io names a realm that anonymous callers cannot use; asked bare, it names the right one.
        return async () => NO_GRANT;
      }
    }
    const request = this.#tokenRequest(challenge, subject);
    this.#learn(challenge, subject);
    return (o) => this.#bearer(request, true, o);
  }

  /** The challenge to answer: Bearer before Basic, as it is the one that can be limited to a repository. */
  #choose(answer: Answer, subject: Subject): "basic" | Wanted | undefined {
    const challenges = parseChallenges(answer.headers.lines("www-authenticate"));
    const bearer = challenges.find(({ scheme, parameters }) => scheme === "bearer" && hasRealm(parameters, answer.url));
    if (bearer !== undefined) {
      return {
        realm: new URL(bearer.parameters.get("realm") ?? "", answer.url),
        service: bearer.parameters.get("service"),
        scopes: this.#challengedScopes(bearer, subject),
      };
    }
    const basic = challenges.some(({ scheme }) => scheme === "basic");
    return basic && subject.credential !== undefined ? "basic" : undefined;
  }

  #challengedScopes(challenge: Challenge, subject: Subject): readonly string[] {
    const scopes = (challenge.parameters.get("scope") ?? "").split(" ").filter((scope) => scope !== "");
    return scopes.length === 0 ? this.#scopesFor(subject) : scopes.map(withoutUnwanted);
  }

  #scopesFor(subject: Subject): readonly string[] {
    const forms = this.#known?.scheme === "bearer" ? this.#known.scopes : undefined;
    const form = forms?.get(subject.access) ??
      this.#expected(subject.access) ??
      forms?.get("pull") ?? { actions: ["pull"] };
    const usual = "fixed" in form ? form.fixed : [formatScope(repositoryScope(subject.repository, form.actions))];
    return this.#oddScopes.get(oddKey(subject)) ?? usual;
  }

  /** What the registry wants without having said so yet. */
  #expected(access: Access): ScopeForm | undefined {
    const { tagActions } = this.#deps.adapter;
    return access === "tags" && tagActions !== undefined ? { actions: tagActions } : undefined;
  }

  #learn(challenge: Wanted, subject: Subject): void {
    const { realm, service, scopes } = challenge;
    const parsed = scopes.map(parseScope);
    const [only] = parsed;
    const forms = new Map(this.#known?.scheme === "bearer" ? this.#known.scopes : []);
    this.#oddScopes.delete(oddKey(subject));
    if (parsed.length === 1 && only?.type === "repository" && only.name === subject.repository) {
      forms.set(subject.access, { actions: only.actions });
    } else if (parsed.some((scope) => scope?.type === "repository")) {
      this.#oddScopes.set(oddKey(subject), scopes);
    } else {
      forms.set(subject.access, { fixed: scopes });
    }
    this.#known = { scheme: "bearer", realm, service, scopes: forms };
  }

  /** Throws `refused` where the realm may not be asked on this subject's behalf. */
  #tokenRequest(wanted: Wanted, subject: Subject): TokenRequest {
    const { upstream, registry, adapter } = this.#deps;
    const { credential } = subject;
    const trust = judgeRealm(wanted.realm, {
      endpoint: registry,
      pinned: adapter.realms,
      listed: upstream.realms,
      trustsSiblings: adapter.trustsSiblingRealms,
    });
    const refuse = (why: string): UpstreamError =>
      new UpstreamError(
        upstream.name,
        "refused",
        `${upstream.name}: the token realm ${shownUrl(wanted.realm)} is not asked: ${why}`,
        credential === undefined ? {} : { credential: credential.label },
      );
    if (trust === "refused") {
      throw refuse("it must be https like the registry");
    }
    if (trust === "foreign" && credential !== undefined) {
      throw refuse(
        `credential ${JSON.stringify(credential.label)} does not go to a foreign host unless it is listed under upstreams.${upstream.name}.realms`,
      );
    }
    const { realm, service, scopes } = wanted;
    return { realm, service, scopes, credential, side: trust === "own" ? "own" : "foreign" };
  }

  /** Throws `refused` for an identity token, which is good for a realm only. */
  #basic({ credential }: Subject): Grant {
    if (credential === undefined) {
      return NO_GRANT;
    }
    if (credential.form === "identity-token") {
      const { name } = this.#deps.upstream;
      const label = JSON.stringify(credential.label);
      throw new UpstreamError(
        name,
        "refused",
        `${name}: credential ${label} is an identity token, but the registry takes a user name and password only`,
        { credential: credential.label },
      );
    }
    return { scheme: "basic", authorization: basicAuthorization(credential), token: undefined };
  }

  async #bearer(request: TokenRequest, challenged: boolean, o: CallOptions): Promise<Grant> {
    const { value, fresh } = await this.#deps.tokens.get(request, o);
    return { scheme: "bearer", authorization: `Bearer ${value}`, token: { request, value, fresh, challenged } };
  }
}

function hasRealm(parameters: ReadonlyMap<string, string>, base: URL): boolean {
  const realm = parameters.get("realm");
  return realm !== undefined && realm !== "" && URL.canParse(realm, base.href);
}

function withoutUnwanted(text: string): string {
  const scope = parseScope(text);
  if (scope?.type !== "repository") {
    return text;
  }
  const wanted = scope.actions.filter((action) => !UNWANTED_ACTIONS.has(action));
  return formatScope({ ...scope, actions: wanted.length === 0 ? ["pull"] : wanted });
}

/** How a challenge relates to the token that it was the answer to. */
function compare(challenge: Wanted, token: Wanted): "same" | "other-scopes" | "other-realm" {
  if (challenge.realm.href !== token.realm.href || challenge.service !== token.service) {
    return "other-realm";
  }
  const list = (scopes: readonly string[]): string => scopes.toSorted().join(" ");
  return list(challenge.scopes) === list(token.scopes) ? "same" : "other-scopes";
}

function oddKey(subject: Subject): string {
  return `${subject.access} ${subject.repository}`;
}
