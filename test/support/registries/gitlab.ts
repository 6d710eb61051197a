/** GitLab's registry and its dependency proxy as upstreams.md section 6 has them: the token realm is on the web host. */
import { DistributionDouble, type DistributionOptions } from "./distribution.ts";
import { type Exchange, type Headers, type Hosts, started } from "./double-server.ts";
import { type IssuedToken, SPEC_TRAITS } from "./traits.ts";

export interface GitlabOptions extends DistributionOptions {
  /** Failed sign-ins after which the address is banned; 30 as on a self-managed server. */
  readonly banAfter?: number;
  /** What somebody without rights gets from the realm: 403, or 200 with a token that is good for nothing. */
  readonly denial?: "refused" | "empty";
}

const BAN_WINDOW_MS = 3 * 60_000;
const BAN_MS = 3600_000;

/** `registry.<domain>` with its tokens from `<domain>`. */
export function startGitlabDouble(stack: AsyncDisposableStack, options: GitlabOptions = {}): Promise<GitlabDouble> {
  const hosts = { registry: "registry.gitlab.com", token: "gitlab.com", cdn: "cdn.registry.gitlab-static.net" };
  return started(stack, new GitlabDouble(options, hosts, "container_registry"));
}

/** Images of Docker Hub under `<group>/dependency_proxy/containers/`, all of it on the web host. */
export function startGitlabDependencyProxyDouble(
  stack: AsyncDisposableStack,
  options: GitlabOptions = {},
): Promise<GitlabDouble> {
  const hosts = { registry: "gitlab.com", cdn: "cdn.registry.gitlab-static.net" };
  return started(stack, new GitlabDouble(options, hosts, "dependency_proxy"));
}

export class GitlabDouble extends DistributionDouble {
  /** The Rails side's limit on requests a minute. */
  rateLimit = 500;
  readonly #banAfter: number;
  readonly #failuresMs: number[] = [];
  #bannedUntilMs = 0;
  #observed = 0;

  constructor(options: GitlabOptions, hosts: Hosts, service: string) {
    super(options, {
      ...SPEC_TRAITS,
      hosts,
      tokenPath: "/jwt/auth",
      service,
      tokenLifetimeS: 900,
      jwt: true,
      refusesTokens: options.denial !== "empty",
    });
    this.#banAfter = options.banAfter ?? 30;
  }

  /** Whether a password was wrong too often. */
  get banned(): boolean {
    return this.#bannedUntilMs > this.now();
  }

  /** Only the Rails side counts requests: the realm, and the dependency proxy, whose registry is on the web host. */
  protected override async limited(x: Exchange): Promise<boolean> {
    if (x.entry.role === "cdn" || (x.entry.role === "registry" && this.traits.service !== "dependency_proxy")) {
      return false;
    }
    if (this.banned) {
      await this.sendText(x, 403, "Forbidden\n");
      return true;
    }
    this.#observed += 1;
    for (const [name, value] of Object.entries(this.#rateHeaders())) x.response.setHeader(name, value);
    if (!this.throttled) return false;
    await this.sendText(x, 429, "Retry later\n", { "retry-after": "47" });
    return true;
  }

  protected override redirectHeaders(): Headers {
    return { "content-type": "application/octet-stream", "cache-control": "private, max-age=0" };
  }

  protected override location(ticket: string, digest: string): string {
    const hex = digest.slice("sha256:".length);
    const query = `X-Goog-Expires=60&X-Goog-Signature=${ticket}`;
    return `${this.urlOf("cdn")}/gitlab/docker/registry/v2/blobs/sha256/${hex.slice(0, 2)}/${hex}/data?${query}`;
  }

  protected override async tokenDenied(x: Exchange): Promise<void> {
    await this.sendError(x, 403, "DENIED", "access forbidden");
  }

  protected override async wrongPassword(x: Exchange): Promise<void> {
    const now = this.now();
    this.#failuresMs.push(now);
    if (this.#failuresMs.filter((at) => at > now - BAN_WINDOW_MS).length >= this.#banAfter) {
      this.#bannedUntilMs = now + BAN_MS;
    }
    await super.wrongPassword(x);
  }

  protected override async postToken(x: Exchange): Promise<void> {
    await this.notFound(x);
  }

  protected override tokenBody({ value }: IssuedToken): Record<string, unknown> {
    return { token: value };
  }

  #rateHeaders(): Record<string, string> {
    const minute = Math.floor(this.now() / 60_000);
    return {
      "ratelimit-limit": String(this.rateLimit),
      "ratelimit-name": "throttle_unauthenticated_web",
      "ratelimit-observed": String(this.#observed),
      "ratelimit-remaining": String(this.throttled ? 0 : Math.max(this.rateLimit - this.#observed, 0)),
      "ratelimit-reset": String((minute + 1) * 60),
    };
  }
}
