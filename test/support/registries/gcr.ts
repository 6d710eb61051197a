/** gcr.io and Artifact Registry (`*-docker.pkg.dev`) as upstreams.md section 5 has them. */
import type { Content } from "../images.ts";
import type { Repository } from "./content.ts";
import { type Exchange, type Role, started } from "./double-server.ts";
import { RegistryDouble } from "./registry-double.ts";
import { type Account, type Caller, type RegistryOptions, SPEC_TRAITS } from "./traits.ts";
import type { Route } from "./wire.ts";

export interface GcrOptions extends RegistryOptions {
  /** `*-docker.pkg.dev` instead of the classic hosts. */
  readonly artifactRegistry?: boolean;
  /** Served without a token, what is public and what is absent: as the redirects of registry.k8s.io need it. */
  readonly open?: boolean;
}

const DOWNLOADS = "/artifacts-downloads/";

export function startGcrDouble(stack: AsyncDisposableStack, options: GcrOptions = {}): Promise<GcrDouble> {
  return started(stack, new GcrDouble(options));
}

export class GcrDouble extends RegistryDouble {
  readonly #options: GcrOptions;

  constructor(options: GcrOptions) {
    const host = options.artifactRegistry === true ? "europe-docker.pkg.dev" : "gcr.io";
    super(
      {
        ...SPEC_TRAITS,
        hosts:
          options.artifactRegistry === true ? { registry: host } : { registry: host, cdn: "storage.googleapis.com" },
        tokenPath: "/v2/token",
        service: host,
        tokenLifetimeS: 3600,
        refusesTokens: true,
        basic: true,
        etag: false,
        redirect: 302,
        // On the same host a header that Go's clients send along does no harm.
        storeRefusal: options.artifactRegistry === true ? undefined : SPEC_TRAITS.storeRefusal,
      },
      options,
    );
    this.#options = options;
  }

  protected override roleOf(path: string): Role {
    return path.startsWith(DOWNLOADS) ? "cdn" : super.roleOf(path);
  }

  protected override caller(x: Exchange, route: Route | undefined): Caller | undefined {
    const nobody = { account: undefined, grants: undefined };
    const open = this.#options.open === true && x.entry.authorization === "none" && route !== undefined;
    const known = open && (this.mayRead(undefined, route.repository) || !this.repositories.has(route.repository));
    return known ? nobody : super.caller(x, route);
  }

  protected override async limited(x: Exchange): Promise<boolean> {
    if (!this.throttled || x.entry.role !== "registry") return false;
    const error = { code: 429, message: "Quota exceeded for quota metric 'Requests'", status: "RESOURCE_EXHAUSTED" };
    await this.sendJson(x, 429, { error });
    return true;
  }

  /** "authenticated, missing repo 404 `NAME_UNKNOWN`": whoever has signed in may know what is not there. */
  protected override mayRead(account: Account | undefined, name: string): boolean {
    return super.mayRead(account, name) || (account !== undefined && !this.repositories.has(name));
  }

  protected override async refuse(
    x: Exchange,
    route: Route,
    caller: Caller,
    repository: Repository | undefined,
  ): Promise<void> {
    if (repository === undefined) {
      return await this.sendError(x, 404, "NAME_UNKNOWN", `Repository "${route.repository}" not found`);
    }
    await this.sendError(x, 403, "DENIED", denial(caller.account, route.repository));
  }

  protected override async missingManifest(x: Exchange, route: Route): Promise<void> {
    await this.sendError(x, 404, "MANIFEST_UNKNOWN", `Failed to fetch "${route.reference}"`);
  }

  /** "No Accept: returns the stored manifest/list as is". */
  protected override negotiate(_x: Exchange, _repository: Repository, _route: Route, stored: Content) {
    return stored;
  }

  protected override location(ticket: string, digest: string, route: Route): string {
    if (this.#options.artifactRegistry !== true) {
      const expires = Math.floor(this.signedUntilMs() / 1000);
      return `${this.urlOf("cdn")}/artifacts.p.appspot.com/containers/images/${digest}?Expires=${expires}&Signature=${ticket}`;
    }
    const [project = "", repository = ""] = route.repository.split("/");
    // The real ones are as long.
    const token = `${"A".repeat(960)}${ticket}`;
    return `${DOWNLOADS}namespaces/${project}/repositories/${repository}/downloads/${token}`;
  }

  /** Everything on one page, with extras whose numbers are strings. */
  protected override async tags(x: Exchange, route: Route, repository: Repository): Promise<void> {
    const tags = [...repository.tags.keys()].sort();
    const manifest = Object.fromEntries(
      [...repository.manifests.values()].map(({ digest, mediaType, bytes }) => [
        digest,
        {
          imageSizeBytes: String(bytes.length),
          layerId: "",
          mediaType,
          tag: tags.filter((tag) => repository.tags.get(tag) === digest),
          timeCreatedMs: "1767225600000",
          timeUploadedMs: "1767225600001",
        },
      ]),
    );
    await this.sendTags(x, route, tags, undefined, { child: [], manifest });
  }

  protected override async referrers(x: Exchange, route: Route, repository: Repository): Promise<void> {
    if (this.#options.artifactRegistry !== true) return await this.notFound(x);
    await this.sendReferrers(x, route, repository, { filters: false });
  }

  protected override async tokenDenied(x: Exchange, account: Account | undefined, name: string): Promise<void> {
    await this.sendError(x, 403, "DENIED", denial(account, name));
  }

  protected override async postToken(x: Exchange): Promise<void> {
    await this.notFound(x);
  }
}

function denial(account: Account | undefined, name: string): string {
  const [project = "", repository = ""] = name.split("/");
  const who = account === undefined ? "Unauthenticated request. Unauthenticated requests do not have" : "No";
  return `${who} permission "artifactregistry.repositories.downloadArtifacts" on resource "projects/${project}/locations/europe/repositories/${repository}" (or it may not exist)`;
}
