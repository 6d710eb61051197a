/** Docker Hub as upstreams.md sections 3 and 12 have it: registry, token server and CDN on three hosts. */
import { smallImage } from "../images.ts";
import type { Repository } from "./content.ts";
import { type Exchange, type Headers, started } from "./double-server.ts";
import { RegistryDouble } from "./registry-double.ts";
import { type Account, type Caller, type RegistryOptions, SPEC_TRAITS } from "./traits.ts";
import { bodyOf, type Route } from "./wire.ts";

/** Pulls allowed and left. */
export interface PullQuota {
  readonly limit: number;
  readonly windowS: number;
  remaining: number;
}

const SERVICE = "registry.docker.io";

export function startHubDouble(stack: AsyncDisposableStack, options: RegistryOptions = {}): Promise<HubDouble> {
  return started(stack, new HubDouble(options));
}

export class HubDouble extends RegistryDouble {
  /**
   * Of anonymous callers, and of accounts that {@link quotas} does not name; undefined sends no headers, as for accounts
   * without a limit. A GET of a manifest costs one.
   */
  quota: PullQuota | undefined;
  /** By user name. */
  readonly quotas = new Map<string, PullQuota>();
  /** Sent with a 429 for a spent quota. */
  retryAfterS: number | undefined;
  /** The limit on any requests at all: everything at the registry is refused, in plain text. */
  abuse = false;

  constructor(options: RegistryOptions) {
    super(
      {
        ...SPEC_TRAITS,
        hosts: { registry: "registry-1.docker.io", token: "auth.docker.io", cdn: "production.cloudflare.docker.com" },
        service: SERVICE,
      },
      options,
    );
    this.add("ratelimitpreview/test", smallImage("ratelimitpreview"), ["latest"]);
  }

  protected override async limited(x: Exchange): Promise<boolean> {
    if (!this.abuse || x.entry.role !== "registry") return false;
    await this.send(x, 429, { "content-type": "text/plain" }, "Too Many Requests");
    return true;
  }

  protected override async unauthorized(
    x: Exchange,
    route: Route | undefined,
    error?: string,
    actions = "pull",
  ): Promise<void> {
    const fault = error ?? (x.entry.authorization === "none" ? undefined : "invalid_token");
    const parameters = [
      `realm="${this.tokenUrl}"`,
      `service="${SERVICE}"`,
      ...(route === undefined ? [] : [`scope="repository:${route.repository}:${actions}"`]),
      ...(fault === undefined ? [] : [`error="${fault}"`]),
    ];
    const detail = route && [{ Type: "repository", Class: "", Name: route.repository, Action: actions }];
    await this.sendError(x, 401, "UNAUTHORIZED", "authentication required", {
      detail: detail ?? null,
      headers: { "www-authenticate": `Bearer ${parameters.join(",")}`, "docker-ratelimit-source": "203.0.113.7" },
    });
  }

  protected override async write(x: Exchange, route: Route): Promise<void> {
    await this.unauthorized(x, route, "insufficient_scope", "push,pull");
  }

  protected override async manifest(x: Exchange, route: Route, repository: Repository, caller: Caller): Promise<void> {
    const quota = this.#quotaOf(caller);
    if (x.entry.method === "GET" && (this.throttled || quota?.remaining === 0)) {
      const message =
        "You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit";
      const headers: Headers = this.retryAfterS === undefined ? {} : { "retry-after": String(this.retryAfterS) };
      return await this.sendError(x, 429, "TOOMANYREQUESTS", message, { headers });
    }
    if (x.entry.method === "GET" && quota !== undefined) quota.remaining -= 1;
    await super.manifest(x, route, repository, caller);
  }

  protected override manifestHeaders(_x: Exchange, caller: Caller, digest: string): Headers {
    const quota = this.#quotaOf(caller);
    const limits =
      quota === undefined
        ? {}
        : {
            "ratelimit-limit": `${quota.limit};w=${quota.windowS}`,
            "ratelimit-remaining": `${quota.remaining};w=${quota.windowS}`,
            "docker-ratelimit-source": sourceOf(caller.account),
          };
    return { ...limits, "docker-content-digest": digest, "strict-transport-security": "max-age=31536000" };
  }

  protected override location(ticket: string, digest: string): string {
    const hex = digest.slice("sha256:".length);
    const path = `/registry-v2/docker/registry/v2/blobs/sha256/${hex.slice(0, 2)}/${hex}/data`;
    return `${this.urlOf("cdn")}${path}?expires=${Math.floor(this.signedUntilMs() / 1000)}&signature=${ticket}`;
  }

  /** Always 200 for whoever may sign in, also without any rights; the registry is where a denial is seen. */
  protected override async token(x: Exchange): Promise<void> {
    if (x.entry.method !== "POST" && x.entry.query.get("service") !== SERVICE) return await this.#badService(x);
    await super.token(x);
  }

  /** "POST form OAuth2 is accepted in practice". */
  protected override async postToken(x: Exchange): Promise<void> {
    const form = new URLSearchParams(await bodyOf(x.request));
    if (form.get("service") !== SERVICE) return await this.#badService(x);
    const login = { username: form.get("username") ?? "", password: form.get("password") ?? "" };
    await this.grant(x, form, form.get("grant_type") === "password" ? this.signIn(login) : "wrong");
  }

  protected override async wrongPassword(x: Exchange): Promise<void> {
    await this.sendJson(x, 401, { details: "incorrect username or password" });
  }

  #quotaOf({ account }: Caller): PullQuota | undefined {
    return (account === undefined ? undefined : this.quotas.get(account.username)) ?? this.quota;
  }

  async #badService(x: Exchange): Promise<void> {
    await this.sendJson(x, 400, { details: "invalid service" });
  }
}

/** The address of anonymous callers, the identity of others. */
function sourceOf(account: Account | undefined): string {
  if (account === undefined) return "203.0.113.7";
  return `5f1c2a4e-0000-4000-8000-${Buffer.from(account.username).toString("hex").padStart(12, "0").slice(-12)}`;
}
