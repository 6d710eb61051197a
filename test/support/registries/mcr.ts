/** mcr.microsoft.com as upstreams.md section 10 has it: no tokens, and static lists. */
import type { Content } from "../images.ts";
import type { Repository } from "./content.ts";
import { schema1Of } from "./content.ts";
import { type Exchange, started } from "./double-server.ts";
import { RegistryDouble } from "./registry-double.ts";
import { type Caller, type RegistryOptions, SPEC_TRAITS } from "./traits.ts";
import type { Route } from "./wire.ts";

export function startMcrDouble(stack: AsyncDisposableStack, options: RegistryOptions = {}): Promise<McrDouble> {
  return started(stack, new McrDouble(options));
}

export class McrDouble extends RegistryDouble {
  constructor(options: RegistryOptions) {
    super(
      {
        ...SPEC_TRAITS,
        hosts: { registry: "mcr.microsoft.com", cdn: "westeurope.data.mcr.microsoft.com" },
        tokenPath: undefined,
        service: undefined,
        etag: false,
      },
      options,
    );
  }

  protected override caller(): Caller {
    return { account: undefined, grants: undefined };
  }

  protected override async refuse(x: Exchange, route: Route): Promise<void> {
    await this.sendError(x, 404, "NAME_UNKNOWN", "repository name not known to registry", { detail: route.repository });
  }

  protected override async catalog(x: Exchange): Promise<void> {
    await this.sendJson(x, 200, { repositories: [...this.repositories.keys()].sort() });
  }

  protected override negotiate(x: Exchange, repository: Repository, route: Route, stored: Content) {
    return x.entry.accept === undefined ? schema1Of(repository, route.reference) : stored;
  }

  /** A static document: `n` and `last` do nothing. */
  protected override async tags(x: Exchange, route: Route, repository: Repository): Promise<void> {
    await this.sendTags(x, route, [...repository.tags.keys()].sort(), undefined);
  }
}
