/** Harbor as upstreams.md section 10 has it. */
import type { Repository } from "./content.ts";
import { DistributionDouble, type DistributionOptions } from "./distribution.ts";
import { type Exchange, started } from "./double-server.ts";
import { type Caller, SPEC_TRAITS } from "./traits.ts";
import type { Route } from "./wire.ts";

export function startHarborDouble(
  stack: AsyncDisposableStack,
  options: DistributionOptions = {},
): Promise<HarborDouble> {
  return started(stack, new HarborDouble(options));
}

export class HarborDouble extends DistributionDouble {
  constructor(options: DistributionOptions) {
    super(options, {
      ...SPEC_TRAITS,
      hosts: { registry: "harbor.example", cdn: "s3.harbor.example" },
      tokenPath: "/service/token",
      service: "harbor-registry",
      jwt: true,
    });
  }

  /** "404 code `NOT_FOUND`/`UNKNOWN`", for repositories that whoever asks may know. */
  protected override async refuse(
    x: Exchange,
    route: Route,
    caller: Caller,
    repository: Repository | undefined,
  ): Promise<void> {
    if (repository !== undefined || caller.account === undefined) {
      return await super.refuse(x, route, caller, repository);
    }
    await this.sendError(x, 404, "NOT_FOUND", `repository ${route.repository} not found`);
  }

  protected override async missingManifest(x: Exchange, route: Route): Promise<void> {
    await this.sendError(x, 404, "NOT_FOUND", `artifact ${route.repository}:${route.reference} not found`);
  }

  protected override async postToken(x: Exchange): Promise<void> {
    await this.notFound(x);
  }
}
