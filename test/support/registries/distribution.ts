/** A generic registry: distribution v2 and v3 as upstreams.md section 10 has them, with no, Basic or token authentication. */
import type { Content } from "../images.ts";
import { accepts, amd64Child, DOCKER_LIST, pageAfter, type Repository } from "./content.ts";
import { type Exchange, started } from "./double-server.ts";
import { RegistryDouble } from "./registry-double.ts";
import { type Caller, type RegistryOptions, SPEC_TRAITS, type Traits } from "./traits.ts";
import { bodyOf, linkAfter, type Route } from "./wire.ts";

export interface DistributionOptions extends RegistryOptions {
  /** `token` if left out. */
  readonly auth?: "none" | "basic" | "token";
  /** Sends the bytes of blobs itself (`redirect: disable`). */
  readonly servesBlobs?: boolean;
  /** Larger pages of tags than this are not given. */
  readonly maxPage?: number;
}

export function startDistributionDouble(
  stack: AsyncDisposableStack,
  options: DistributionOptions = {},
): Promise<DistributionDouble> {
  return started(stack, new DistributionDouble(options));
}

export class DistributionDouble extends RegistryDouble {
  readonly #options: DistributionOptions;

  constructor(options: DistributionOptions, traits: Traits = SPEC_TRAITS) {
    super({ ...traits, basic: options.auth === "basic" || traits.basic }, options);
    this.#options = options;
  }

  protected override challenge(route: Route | undefined, error: string | undefined): string | readonly string[] {
    return this.#options.auth === "basic" ? 'Basic realm="Registry Realm"' : super.challenge(route, error);
  }

  protected override caller(x: Exchange, route: Route | undefined): Caller | undefined {
    if (this.#options.auth === "none") return { account: undefined, grants: undefined };
    return super.caller(x, route);
  }

  protected override async refuse(
    x: Exchange,
    route: Route,
    caller: Caller,
    repository: Repository | undefined,
  ): Promise<void> {
    if (caller.grants !== undefined) return await super.refuse(x, route, caller, repository);
    if (repository !== undefined) return await this.sendError(x, 403, "DENIED", "requested access is denied");
    const detail = { name: route.repository };
    await this.sendError(x, 404, "NAME_UNKNOWN", "repository name not known to registry", { detail });
  }

  /** "OCI type not in Accept → 404 (`*\/*` does not count); list requested by tag without list types → linux/amd64 child". */
  protected override negotiate(x: Exchange, repository: Repository, route: Route, stored: Content) {
    const { accept } = x.entry;
    if (stored.mediaType.startsWith("application/vnd.oci.")) {
      return accepts(accept ?? "", stored.mediaType, false) ? stored : undefined;
    }
    const byTag = !route.reference.includes(":");
    if (byTag && stored.mediaType === DOCKER_LIST && accept !== undefined && !accepts(accept, DOCKER_LIST, false)) {
      return amd64Child(repository, stored) ?? stored;
    }
    return stored;
  }

  protected override async unacceptable(x: Exchange, route: Route, stored: Content): Promise<void> {
    const what = stored.mediaType.includes("index") ? "indexes" : "manifests";
    const message = `OCI ${what.slice(0, -1)} found, but accept header does not support OCI ${what}`;
    await this.sendError(x, 404, "MANIFEST_UNKNOWN", message, { detail: { Tag: route.reference } });
  }

  protected override async blob(x: Exchange, route: Route, repository: Repository): Promise<void> {
    const blob = repository.blobs.get(route.reference);
    if (this.#options.servesBlobs === true && blob !== undefined) {
      return await this.sendRange(x, blob.bytes, {
        "cache-control": "max-age=31536000",
        etag: `"${blob.digest}"`,
        "docker-content-digest": blob.digest,
      });
    }
    await super.blob(x, route, repository);
  }

  protected override async tags(x: Exchange, route: Route, repository: Repository): Promise<void> {
    const n = x.entry.query.get("n");
    if (n !== null && !/^\d+$/.test(n)) {
      return await this.sendError(x, 400, "PAGINATION_NUMBER_INVALID", "invalid number of results requested");
    }
    const size = n === null ? undefined : Math.min(Number(n), this.#options.maxPage ?? Number(n));
    const page = pageAfter([...repository.tags.keys()].sort(), x.entry.query.get("last") ?? undefined, size);
    const link = page.last === undefined ? undefined : linkAfter(route, page.last, size ?? null);
    await this.sendTags(x, route, page.items, link);
  }

  /** Password and refresh token grants of the token spec. */
  protected override async postToken(x: Exchange): Promise<void> {
    const form = new URLSearchParams(await bodyOf(x.request));
    const [username, password, refresh] = ["username", "password", "refresh_token"].map((key) => form.get(key) ?? "");
    const account =
      form.get("grant_type") === "refresh_token"
        ? (this.accounts.find((held) => this.refreshTokens.get(refresh ?? "") === held.username) ?? "wrong")
        : this.signIn({ username: username ?? "", password: password ?? "" });
    await this.grant(x, form, account);
  }

  /** User names by the refresh token (identity token) that stands for them. */
  readonly refreshTokens = new Map<string, string>();

  override passwords(): ReadonlySet<string> {
    return new Set([...super.passwords(), ...this.refreshTokens.keys()]);
  }
}
