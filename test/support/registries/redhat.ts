/** registry.redhat.io and registry.access.redhat.com as upstreams.md section 10 has them. */
import type { Content } from "../images.ts";
import { pageAfter, type Repository, schema1Of } from "./content.ts";
import { type Exchange, started } from "./double-server.ts";
import { RegistryDouble } from "./registry-double.ts";
import { type Account, type Caller, type RegistryOptions, SPEC_TRAITS } from "./traits.ts";
import { linkAfter, type Route } from "./wire.ts";

export interface RedhatOptions extends RegistryOptions {
  /** `registry.access.redhat.com`: the same content for everybody, without tokens. */
  readonly access?: boolean;
}

const PAGE = 100;

export function startRedhatDouble(stack: AsyncDisposableStack, options: RedhatOptions = {}): Promise<RedhatDouble> {
  return started(stack, new RedhatDouble(options));
}

export class RedhatDouble extends RegistryDouble {
  readonly #access: boolean;

  constructor(options: RedhatOptions) {
    const access = options.access ?? false;
    super(
      {
        ...SPEC_TRAITS,
        hosts: {
          registry: access ? "registry.access.redhat.com" : "registry.redhat.io",
          cdn: "cdn01.quay.io",
        },
        tokenPath: access ? undefined : "/auth/realms/rhcc/protocol/redhat-docker-v2/auth",
        service: "docker-registry",
        anonymous: access,
        etag: false,
        redirect: 302,
      },
      options,
    );
    this.#access = access;
  }

  protected override caller(x: Exchange, route: Route | undefined): Caller | undefined {
    return this.#access ? { account: undefined, grants: undefined } : super.caller(x, route);
  }

  /** "anonymous → 401 with a 'please login' text". */
  protected override async grant(
    x: Exchange,
    asked: URLSearchParams,
    account: Account | undefined | "wrong",
  ): Promise<void> {
    if (account !== undefined) return await super.grant(x, asked, account);
    const text = "Please login to the Red Hat Registry using your Customer Portal credentials.";
    await this.sendText(x, 401, text);
  }

  protected override async refuse(x: Exchange, route: Route): Promise<void> {
    if (this.#access) return await this.sendError(x, 404, "NAME_UNKNOWN", "Not Found");
    await this.unauthorized(x, route, "insufficient_scope");
  }

  /** "404, code may be `UNKNOWN`". */
  protected override async missingManifest(x: Exchange): Promise<void> {
    await this.sendError(x, 404, "UNKNOWN", "Not Found");
  }

  protected override negotiate(x: Exchange, repository: Repository, route: Route, stored: Content) {
    return x.entry.accept === undefined ? schema1Of(repository, route.reference) : stored;
  }

  protected override async tags(x: Exchange, route: Route, repository: Repository): Promise<void> {
    const size = Math.min(Number(x.entry.query.get("n") ?? PAGE), PAGE);
    const page = pageAfter([...repository.tags.keys()].sort(), x.entry.query.get("last") ?? undefined, size);
    await this.sendTags(x, route, page.items, page.last && linkAfter(route, page.last, size));
  }
}
