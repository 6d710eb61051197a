/** AWS ECR private as upstreams.md section 7 has it: Basic only, and a password of 12 hours from the AWS API. */
import type { Content } from "../images.ts";
import { type AuthorizationData, AwsDouble, type AwsOptions } from "./aws.ts";
import { pageAfter, type Repository } from "./content.ts";
import { type Exchange, type Headers, started } from "./double-server.ts";
import { type Caller, SPEC_TRAITS } from "./traits.ts";
import { basicOf, type Route } from "./wire.ts";

export interface EcrOptions extends AwsOptions {
  /** An expired password gets 401, or 403 "Your authorization token has expired"; the row is not sure. */
  readonly expiredStatus?: 401 | 403;
  /** Tags a page where `n` is left out. */
  readonly pageSize?: number;
}

const ACCOUNT = "123456789012";
const REGION = "eu-west-1";
const REGISTRY = `${ACCOUNT}.dkr.ecr.${REGION}.amazonaws.com`;
const MAX_PAGE = 1000;
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;

export function startEcrDouble(stack: AsyncDisposableStack, options: EcrOptions = {}): Promise<EcrDouble> {
  return started(stack, new EcrDouble(options));
}

export class EcrDouble extends AwsDouble {
  protected readonly signingName = "ecr";
  protected readonly region = REGION;
  readonly #options: EcrOptions;

  constructor(options: EcrOptions) {
    super(
      {
        ...SPEC_TRAITS,
        hosts: {
          registry: REGISTRY,
          cdn: `prod-${REGION}-starport-layer-bucket.s3.${REGION}.amazonaws.com`,
          api: `api.ecr.${REGION}.amazonaws.com`,
        },
        tokenPath: undefined,
        service: "ecr.amazonaws.com",
        anonymous: false,
        basic: true,
        etag: false,
      },
      options,
    );
    this.#options = options;
  }

  protected override authorizationData(data: AuthorizationData): unknown {
    return [{ ...data, proxyEndpoint: `https://${REGISTRY}` }];
  }

  protected override challenge(): string {
    return `Basic realm="${this.url}/",service="ecr.amazonaws.com"`;
  }

  protected override async unauthorized(x: Exchange): Promise<void> {
    const login = basicOf(x.request);
    if (this.#options.expiredStatus === 403 && login !== undefined && this.expired(login)) {
      const message = "Your authorization token has expired. Reauthenticate and try again.";
      return await this.sendError(x, 403, "DENIED", message);
    }
    await this.sendText(x, 401, "Not Authorized\n", { "www-authenticate": this.challenge() });
  }

  protected override async limited(x: Exchange): Promise<boolean> {
    if (!this.throttled || x.entry.role !== "registry") return false;
    await this.sendError(x, 429, "TOOMANYREQUESTS", "Rate exceeded");
    return true;
  }

  protected override async catalog(x: Exchange): Promise<void> {
    if (this.caller(x, undefined) === undefined) return await this.unauthorized(x);
    await this.sendJson(x, 200, { repositories: [...this.repositories.keys()].sort() });
  }

  protected override async refuse(
    x: Exchange,
    route: Route,
    _caller: Caller,
    repository: Repository | undefined,
  ): Promise<void> {
    if (repository === undefined) {
      const message = `The repository with name '${route.repository}' does not exist in the registry with id '${ACCOUNT}'`;
      return await this.sendError(x, 404, "NAME_UNKNOWN", message);
    }
    const message = `User is not authorized to perform: ecr:BatchGetImage on resource: arn:aws:ecr:${REGION}:${ACCOUNT}:repository/${route.repository}`;
    await this.sendError(x, 403, "DENIED", message);
  }

  protected override async missingManifest(x: Exchange, route: Route): Promise<void> {
    if (!route.reference.includes(":") && !TAG.test(route.reference)) {
      return await this.sendError(x, 400, "TAG_INVALID", "Invalid parameter at 'imageTag'");
    }
    await this.sendError(x, 404, "MANIFEST_UNKNOWN", "Requested image not found");
  }

  protected override negotiate(_x: Exchange, _repository: Repository, _route: Route, stored: Content) {
    return stored;
  }

  /** "absent on manifest **GET**, present on HEAD". */
  protected override manifestHeaders(x: Exchange, _caller: Caller, digest: string): Headers {
    return x.entry.method === "HEAD" ? { "docker-content-digest": digest } : {};
  }

  protected override async tags(x: Exchange, route: Route, repository: Repository): Promise<void> {
    const n = x.entry.query.get("n");
    if (Number(n) > MAX_PAGE) {
      const message = `Invalid parameter at 'maxResults' failed to satisfy constraint: 'Member must have value less than or equal to ${MAX_PAGE}'`;
      return await this.sendError(x, 405, "UNSUPPORTED", message);
    }
    const token = x.entry.query.get("last");
    const after = token === null ? undefined : Buffer.from(token, "base64url").toString();
    const size = n === null ? (this.#options.pageSize ?? MAX_PAGE) : Number(n);
    const page = pageAfter([...repository.tags.keys()].sort(), after, size);
    const last = page.last && Buffer.from(page.last).toString("base64url");
    await this.sendTags(x, route, page.items, last && `/v2/${route.repository}/tags/list?last=${last}&n=${size}`);
  }

  protected override async referrers(x: Exchange, route: Route, repository: Repository): Promise<void> {
    await this.sendReferrers(x, route, repository, { filters: true });
  }
}
