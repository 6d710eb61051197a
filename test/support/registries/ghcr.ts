/** GitHub's container registry as upstreams.md section 9 has it. */
import type { Content } from "../images.ts";
import { accepts, OCI_INDEX, pageAfter, type Repository } from "./content.ts";
import { type Exchange, started } from "./double-server.ts";
import { RegistryDouble } from "./registry-double.ts";
import { type Account, type Caller, type IssuedToken, type RegistryOptions, SPEC_TRAITS } from "./traits.ts";
import { linkAfter, type Route } from "./wire.ts";

export interface GhcrOptions extends RegistryOptions {
  /** What the token endpoint answers for the private or absent: 403 (2021 to 2024), or 401 (2026-09). */
  readonly denial?: 401 | 403;
  /** The answer to a request for referrers: a page of github.com (2026-04), or 404 as before. */
  readonly referrers?: "page" | "none";
}

const PAGE = 100;
const MAX_PAGE = 1000;

export function startGhcrDouble(stack: AsyncDisposableStack, options: GhcrOptions = {}): Promise<GhcrDouble> {
  return started(stack, new GhcrDouble(options));
}

export class GhcrDouble extends RegistryDouble {
  /** The Go duration in the message of a 429. */
  retryAfter = "880.092µs";
  readonly #options: GhcrOptions;

  constructor(options: GhcrOptions) {
    super(
      {
        ...SPEC_TRAITS,
        hosts: { registry: "ghcr.io", cdn: "pkg-containers.githubusercontent.com", page: "github.com" },
        service: "ghcr.io",
        refusesTokens: true,
        etag: false,
      },
      options,
    );
    this.#options = options;
  }

  /** "`/v2/` shows the placeholder scope `repository:user/image:pull` literally". */
  protected override challenge(route: Route | undefined, error: string | undefined): string | readonly string[] {
    return super.challenge(route ?? { repository: "user/image", kind: "tags", reference: "" }, error);
  }

  protected override async limited(x: Exchange): Promise<boolean> {
    if (!this.throttled || x.entry.role !== "registry") return false;
    await this.sendError(x, 429, "TOOMANYREQUESTS", `retry-after: ${this.retryAfter}, allowed: 44000/minute`);
    return true;
  }

  protected override async catalog(x: Exchange): Promise<void> {
    await this.notFound(x);
  }

  /** Whoever signed in gets a token for what exists; that it may not read it shows later. */
  protected override mayRead(account: Account | undefined, name: string): boolean {
    return super.mayRead(account, name) || (account !== undefined && this.repositories.has(name));
  }

  protected override mayUse(caller: Caller, route: Route): boolean {
    return super.mayUse(caller, route) && super.mayRead(caller.account, route.repository);
  }

  protected override async refuse(x: Exchange): Promise<void> {
    await this.sendError(x, 403, "DENIED", "permission_denied: read_package");
  }

  protected override async tokenDenied(x: Exchange): Promise<void> {
    await this.sendError(x, this.#options.denial ?? 403, "DENIED", "requested access to the resource is denied");
  }

  protected override tokenBody({ value }: IssuedToken): Record<string, unknown> {
    return { token: value };
  }

  /** The stored type must be named, by tag and by digest; a wildcard does not count. */
  protected override negotiate(x: Exchange, _repository: Repository, _route: Route, stored: Content) {
    return accepts(x.entry.accept ?? "", stored.mediaType, false) ? stored : undefined;
  }

  protected override async unacceptable(x: Exchange, _route: Route, stored: Content): Promise<void> {
    const [one, many] =
      stored.mediaType === OCI_INDEX ? ["OCI index", "OCI indexes"] : ["OCI manifest", "OCI manifests"];
    await this.sendError(x, 404, "MANIFEST_UNKNOWN", `${one} found, but Accept header does not support ${many}`);
  }

  protected override location(ticket: string, digest: string): string {
    const expires = new Date(this.signedUntilMs()).toISOString();
    return `${this.urlOf("cdn")}/ghcrblobs12/blobs/${digest}?se=${encodeURIComponent(expires)}&sig=${ticket}`;
  }

  /** Oldest first. */
  protected override async tags(x: Exchange, route: Route, repository: Repository): Promise<void> {
    const size = Math.min(Number(x.entry.query.get("n") ?? PAGE), MAX_PAGE);
    const page = pageAfter([...repository.tags.keys()], x.entry.query.get("last") ?? undefined, size, "creation");
    await this.sendTags(x, route, page.items, page.last && linkAfter(route, page.last, size));
  }

  protected override async referrers(x: Exchange, route: Route): Promise<void> {
    if (this.#options.referrers === "none") return await this.notFound(x);
    const location = `${this.urlOf("page")}/${route.repository}/referrers/${route.reference}`;
    await this.send(x, 303, { location, "content-type": "text/html" }, "");
  }

  protected override async beyond(x: Exchange): Promise<void> {
    await this.send(x, 200, { "content-type": "text/html; charset=utf-8" }, "<!DOCTYPE html><title>GitHub</title>");
  }
}
