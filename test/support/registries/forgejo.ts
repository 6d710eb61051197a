/** Codeberg, Forgejo and Gitea as upstreams.md section 10 has them: two schemes in one header, and the scope `*`. */
import type { Repository } from "./content.ts";
import { type Exchange, started } from "./double-server.ts";
import { RegistryDouble } from "./registry-double.ts";
import { type Account, type Caller, type RegistryOptions, SPEC_TRAITS } from "./traits.ts";
import type { Route } from "./wire.ts";

export function startForgejoDouble(stack: AsyncDisposableStack, options: RegistryOptions = {}): Promise<ForgejoDouble> {
  return started(stack, new ForgejoDouble(options));
}

export class ForgejoDouble extends RegistryDouble {
  constructor(options: RegistryOptions) {
    super(
      {
        ...SPEC_TRAITS,
        hosts: { registry: "codeberg.org", cdn: "packages.codeberg.example" },
        tokenPath: "/v2/token",
        service: "container_registry",
        basic: true,
        etag: false,
      },
      options,
    );
  }

  protected override challenge(): string {
    return `Bearer realm="${this.tokenUrl}",service="container_registry",scope="*",Basic realm="${this.url}/v2"`;
  }

  /** Its tokens are good for whatever their owner may read. */
  protected override async grant(
    x: Exchange,
    _asked: URLSearchParams,
    account: Account | undefined | "wrong",
  ): Promise<void> {
    if (account === "wrong") return await this.wrongPassword(x);
    await this.sendJson(x, 200, this.tokenBody(this.issue(account, undefined)));
  }

  protected override async refuse(
    x: Exchange,
    route: Route,
    _caller: Caller,
    repository: Repository | undefined,
  ): Promise<void> {
    if (repository !== undefined) return await this.unauthorized(x, route);
    await this.sendError(x, 404, "NAME_UNKNOWN", "repository name not known to registry");
  }
}
