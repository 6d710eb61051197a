/** ECR Public as upstreams.md section 8 has it: a scope that is no repository's, and no HEAD of blobs. */
import type { Content } from "../images.ts";
import { type AuthorizationData, AwsDouble, type AwsOptions } from "./aws.ts";
import { pageAfter, type Repository } from "./content.ts";
import { type Exchange, type Headers, started } from "./double-server.ts";
import { type Account, type Caller, type IssuedToken, SPEC_TRAITS } from "./traits.ts";
import { linkAfter, type Route } from "./wire.ts";

export interface EcrPublicOptions extends AwsOptions {
  /** The answer to HEAD of a blob; 403 if left out. */
  readonly blobHeadStatus?: 401 | 403;
}

const MAX_PAGE = 1000;

export function startEcrPublicDouble(
  stack: AsyncDisposableStack,
  options: EcrPublicOptions = {},
): Promise<EcrPublicDouble> {
  return started(stack, new EcrPublicDouble(options));
}

export class EcrPublicDouble extends AwsDouble {
  protected readonly signingName = "ecr-public";
  protected readonly region = "us-east-1";
  readonly #blobHeadStatus: 401 | 403;

  constructor(options: EcrPublicOptions) {
    super(
      {
        ...SPEC_TRAITS,
        hosts: {
          registry: "public.ecr.aws",
          cdn: "d2glxqk2uabbnd.cloudfront.net",
          api: "api.ecr-public.us-east-1.amazonaws.com",
        },
        tokenPath: "/token/",
        service: "public.ecr.aws",
        etag: false,
      },
      options,
    );
    this.#blobHeadStatus = options.blobHeadStatus ?? 403;
  }

  protected override authorizationData(data: AuthorizationData): unknown {
    return data;
  }

  protected override challenge(): string {
    return `Bearer realm="${this.tokenUrl}",service="public.ecr.aws",scope="aws"`;
  }

  /** The token is good for everything that its owner may read. */
  protected override async grant(
    x: Exchange,
    _asked: URLSearchParams,
    account: Account | undefined | "wrong",
  ): Promise<void> {
    if (account === "wrong") return await this.wrongPassword(x);
    await this.sendJson(x, 200, this.tokenBody(this.issue(account, undefined)));
  }

  protected override tokenBody({ value }: IssuedToken): Record<string, unknown> {
    return { token: value };
  }

  protected override async limited(x: Exchange): Promise<boolean> {
    if (!this.throttled || x.entry.role !== "registry") return false;
    await this.sendError(x, 429, "TOOMANYREQUESTS", "Rate exceeded");
    return true;
  }

  protected override async refuse(
    x: Exchange,
    route: Route,
    _caller: Caller,
    repository: Repository | undefined,
  ): Promise<void> {
    if (repository !== undefined) return await this.sendError(x, 403, "DENIED", "Not Authorized");
    await this.sendError(x, 404, "NAME_UNKNOWN", `The repository with name '${route.repository}' does not exist`);
  }

  protected override async missingManifest(x: Exchange): Promise<void> {
    await this.sendError(x, 404, "MANIFEST_UNKNOWN", "Requested image not found");
  }

  protected override negotiate(_x: Exchange, _repository: Repository, _route: Route, stored: Content) {
    return stored;
  }

  /** "DCD missing on GET". */
  protected override manifestHeaders(x: Exchange, _caller: Caller, digest: string): Headers {
    return x.entry.method === "HEAD" ? { "docker-content-digest": digest } : {};
  }

  /** "HEAD blob answers 401/403 while GET works". */
  protected override async blob(x: Exchange, route: Route, repository: Repository): Promise<void> {
    if (x.entry.method === "HEAD" && this.#blobHeadStatus === 401) return await this.unauthorized(x, route);
    if (x.entry.method === "HEAD") return await this.sendError(x, 403, "DENIED", "Not Authorized");
    await super.blob(x, route, repository);
  }

  protected override location(ticket: string, digest: string, route: Route): string {
    const expires = Math.floor(this.signedUntilMs() / 1000);
    const path = `/v2/${route.repository.split("/")[0]}/blobs/${digest}`;
    return `${this.urlOf("cdn")}${path}?Expires=${expires}&Signature=${ticket}&Key-Pair-Id=K2`;
  }

  protected override async tags(x: Exchange, route: Route, repository: Repository): Promise<void> {
    const n = x.entry.query.get("n");
    if (Number(n) > MAX_PAGE) {
      const message = `'Member must have value less than or equal to ${MAX_PAGE}'`;
      return await this.sendError(x, 405, "UNSUPPORTED", message);
    }
    const size = n === null ? MAX_PAGE : Number(n);
    const page = pageAfter([...repository.tags.keys()].sort(), x.entry.query.get("last") ?? undefined, size);
    await this.sendTags(x, route, page.items, page.last && linkAfter(route, page.last, n));
  }

  protected override async referrers(x: Exchange, route: Route, repository: Repository): Promise<void> {
    await this.sendReferrers(x, route, repository, { filters: true });
  }
}
