/** quay.io and self-hosted Quay as upstreams.md section 4 has them. */
import type { Content } from "../images.ts";
import { accepts, amd64Child, DOCKER_LIST, OCI_INDEX, pageAfter, type Repository, schema1Of } from "./content.ts";
import { type Exchange, type Headers, started } from "./double-server.ts";
import { RegistryDouble } from "./registry-double.ts";
import { type Account, type Caller, type IssuedToken, type RegistryOptions, SPEC_TRAITS } from "./traits.ts";
import type { Route } from "./wire.ts";

export interface QuayOptions extends RegistryOptions {
  /** Absolute `Link` with an opaque `next_page`, 50 a page, and no effect of `last`. */
  readonly oldPaging?: boolean;
}

const PAGE = 100;
const OLD_PAGE = 50;

export function startQuayDouble(stack: AsyncDisposableStack, options: QuayOptions = {}): Promise<QuayDouble> {
  return started(stack, new QuayDouble(options));
}

export class QuayDouble extends RegistryDouble {
  /** Namespaces that are switched off. */
  readonly disabled = new Set<string>();
  readonly #oldPaging: boolean;
  readonly #expiredTags = new Set<string>();

  constructor(options: QuayOptions) {
    super(
      {
        ...SPEC_TRAITS,
        hosts: { registry: "quay.io", cdn: "cdn01.quay.io" },
        tokenPath: "/v2/auth",
        service: "quay.io",
        tokenLifetimeS: 3600,
        jwt: true,
        etag: false,
        redirect: 302,
        blobHead: "answer",
      },
      options,
    );
    this.#oldPaging = options.oldPaging ?? false;
  }

  override removeTag(repository: string, tag: string): void {
    super.removeTag(repository, tag);
    this.#expiredTags.add(`${repository}:${tag}`);
  }

  protected override async limited(x: Exchange): Promise<boolean> {
    if (!this.throttled || x.entry.role !== "registry") return false;
    const page =
      "<html>\r\n<head><title>429 Too Many Requests</title></head>\r\n<body>\r\n<center><h1>429 Too Many Requests</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";
    await this.send(x, 429, { "content-type": "text/html" }, page);
    return true;
  }

  /** "`/v2/` without token: 401, body `true`"; the challenge is present on a 200 too. */
  protected override async ping(x: Exchange): Promise<void> {
    const status = this.caller(x, undefined) === undefined ? 401 : 200;
    const headers = { "content-type": "text/html; charset=utf-8", "www-authenticate": this.challenge(undefined) };
    await this.send(x, status, headers, "true");
  }

  protected override challenge(route: Route | undefined): string | readonly string[] {
    return super.challenge(route, undefined);
  }

  protected override async catalog(x: Exchange): Promise<void> {
    await this.sendJson(x, 200, { repositories: [] });
  }

  protected override async refuse(
    x: Exchange,
    route: Route,
    caller: Caller,
    repository: Repository | undefined,
  ): Promise<void> {
    if (repository === undefined && this.mayUse(caller, route)) {
      return await this.sendError(x, 404, "NAME_UNKNOWN", "repository name not known to registry");
    }
    await this.unauthorized(x, route);
  }

  protected override async manifest(x: Exchange, route: Route, repository: Repository, caller: Caller): Promise<void> {
    if (this.disabled.has(route.repository.split("/")[0] ?? "")) {
      return await this.sendError(x, 405, "DENIED", "Pulls are disabled for this namespace");
    }
    await super.manifest(x, route, repository, caller);
  }

  protected override async missingManifest(x: Exchange, route: Route): Promise<void> {
    if (this.#expiredTags.has(`${route.repository}:${route.reference}`)) {
      return await this.sendError(x, 404, "TAG_EXPIRED", `Tag ${route.reference} was deleted or has expired`);
    }
    await super.missingManifest(x, route);
  }

  /** By tag it converts what Accept does not name; by digest it ignores Accept. */
  protected override negotiate(x: Exchange, repository: Repository, route: Route, stored: Content) {
    const byTag = !route.reference.includes(":");
    if (!byTag || accepts(x.entry.accept ?? "", stored.mediaType, false)) return stored;
    const child =
      stored.mediaType === OCI_INDEX || stored.mediaType === DOCKER_LIST ? amd64Child(repository, stored) : undefined;
    if (child !== undefined && accepts(x.entry.accept ?? "", child.mediaType, false)) return child;
    return schema1Of(repository, route.reference);
  }

  protected override redirectHeaders(): Headers {
    return { "content-type": "text/html; charset=utf-8", "cache-control": "max-age=31536000" };
  }

  protected override location(ticket: string, digest: string): string {
    const hex = digest.slice("sha256:".length);
    const expires = Math.floor(this.signedUntilMs() / 1000);
    return `${this.urlOf("cdn")}/sha256/${hex.slice(0, 2)}/${hex}?Expires=${expires}&Signature=${ticket}&Key-Pair-Id=K1`;
  }

  protected override async tags(x: Exchange, route: Route, repository: Repository): Promise<void> {
    const { query } = x.entry;
    const all = [...repository.tags.keys()].sort();
    if (this.#oldPaging) {
      const token = query.get("next_page");
      const after = token === null ? undefined : Buffer.from(token, "base64url").toString();
      const page = pageAfter(all, after, Math.min(Number(query.get("n") ?? OLD_PAGE), OLD_PAGE));
      const next = page.last && Buffer.from(page.last).toString("base64url");
      const path = `/v2/${route.repository}/tags/list`;
      return await this.sendTags(x, route, page.items, next && `${this.url}${path}?next_page=${next}`);
    }
    const n = Math.min(Number(query.get("n") ?? PAGE), PAGE);
    const page = pageAfter(all, query.get("last") ?? undefined, n);
    const link = page.last && `/v2/${route.repository}/tags/list?n=${n}&last=${encodeURIComponent(page.last)}`;
    await this.sendTags(x, route, page.items, link);
  }

  protected override async referrers(x: Exchange, route: Route, repository: Repository): Promise<void> {
    if (!repository.manifests.has(route.reference)) {
      return await this.sendError(x, 400, "MANIFEST_INVALID", "manifest invalid");
    }
    await this.sendReferrers(x, route, repository, { filters: true });
  }

  protected override async grant(
    x: Exchange,
    asked: URLSearchParams,
    account: Account | undefined | "wrong",
  ): Promise<void> {
    const scopes = asked.getAll("scope");
    if (scopes.length === 0 && account === undefined) return await this.wrongPassword(x);
    if (scopes.some((scope) => !scope.startsWith("repository:"))) {
      return await this.sendError(x, 400, "INVALID_REQUEST", "Unable to decode repository and actions");
    }
    await super.grant(x, asked, account);
  }

  protected override tokenBody({ value }: IssuedToken): Record<string, unknown> {
    return { token: value };
  }
}
