/** nvcr.io as upstreams.md section 10 has it: a challenge without service, and another realm for a stale token. */
import type { Content } from "../images.ts";
import type { Repository } from "./content.ts";
import { type Exchange, started } from "./double-server.ts";
import { RegistryDouble } from "./registry-double.ts";
import { type RegistryOptions, SPEC_TRAITS } from "./traits.ts";
import { basicOf, type Route } from "./wire.ts";

/** The user name that goes with every API key. */
export const NGC_USER = "$oauthtoken";

export function startNvcrDouble(stack: AsyncDisposableStack, options: RegistryOptions = {}): Promise<NvcrDouble> {
  return started(stack, new NvcrDouble(options));
}

export class NvcrDouble extends RegistryDouble {
  constructor(options: RegistryOptions) {
    super(
      {
        ...SPEC_TRAITS,
        hosts: { registry: "nvcr.io", api: "authn.nvidia.com", cdn: "layers.nvcr.io" },
        tokenPath: "/proxy_auth",
        service: undefined,
        etag: false,
      },
      options,
    );
  }

  protected override challenge(route: Route | undefined, error: string | undefined): string {
    if (error === "invalid_token") {
      return `Bearer realm="${this.urlOf("api")}/token",service="registry",error="invalid_token"`;
    }
    const scope = route === undefined ? "" : `,scope="repository:${route.repository}:pull,push"`;
    return `Bearer realm="${this.tokenUrl}"${scope}`;
  }

  protected override negotiate(_x: Exchange, _repository: Repository, _route: Route, stored: Content) {
    return stored;
  }

  /** authn.nvidia.com, "which refuses anonymous callers". */
  protected override async beyond(x: Exchange): Promise<void> {
    const account = this.signIn(basicOf(x.request));
    await this.grant(x, x.entry.query, account ?? "wrong");
  }
}
