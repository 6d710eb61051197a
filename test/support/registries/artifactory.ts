/** Artifactory as upstreams.md section 10 has it: Basic with a realm that is no URL, and a virtual repository's oddities. */
import type { Repository } from "./content.ts";
import { pageAfter } from "./content.ts";
import { type Exchange, started } from "./double-server.ts";
import { RegistryDouble } from "./registry-double.ts";
import { type Caller, type RegistryOptions, SPEC_TRAITS } from "./traits.ts";
import { linkAfter, type Route } from "./wire.ts";

export function startArtifactoryDouble(
  stack: AsyncDisposableStack,
  options: RegistryOptions = {},
): Promise<ArtifactoryDouble> {
  return started(stack, new ArtifactoryDouble(options));
}

/** Images are under `<virtual repository>/`. */
export class ArtifactoryDouble extends RegistryDouble {
  constructor(options: RegistryOptions) {
    super(
      {
        ...SPEC_TRAITS,
        hosts: { registry: "docker.artifactory.example", cdn: "s3.artifactory.example" },
        tokenPath: "/v2/token",
        basic: true,
        etag: false,
      },
      options,
    );
  }

  protected override challenge(): string {
    return 'Basic realm="Artifactory Realm"';
  }

  protected override caller(x: Exchange, route: Route | undefined): Caller | undefined {
    const nobody = { account: undefined, grants: undefined };
    const open = route !== undefined && this.mayRead(undefined, route.repository);
    return x.entry.authorization === "none" && open ? nobody : super.caller(x, route);
  }

  protected override async refuse(
    x: Exchange,
    _route: Route,
    _caller: Caller,
    repository: Repository | undefined,
  ): Promise<void> {
    if (repository !== undefined) return await this.sendError(x, 403, "DENIED", "The requested action is denied");
    await this.sendError(x, 404, "NAME_UNKNOWN", "Repository name not known to registry.");
  }

  /** "virtual repo may answer **403 for a missing tag**". */
  protected override async missingManifest(x: Exchange): Promise<void> {
    await this.sendError(x, 403, "DENIED", "The client does not have permission for manifest");
  }

  /** "`Link` lacks the virtual-repo prefix". */
  protected override async tags(x: Exchange, route: Route, repository: Repository): Promise<void> {
    const n = x.entry.query.get("n");
    const size = n === null ? undefined : Number(n);
    const page = pageAfter([...repository.tags.keys()].sort(), x.entry.query.get("last") ?? undefined, size);
    const bare = { ...route, repository: route.repository.split("/").slice(1).join("/") };
    await this.sendTags(x, route, page.items, page.last && linkAfter(bare, page.last, n));
  }

  /** "POST token → 401". */
  protected override async postToken(x: Exchange): Promise<void> {
    await this.wrongPassword(x);
  }
}
