/** Azure's container registry as upstreams.md section 10 has it. */
import { randomUUID } from "node:crypto";
import type { Content } from "../images.ts";
import type { Repository } from "./content.ts";
import { type Exchange, type Headers, type Role, started } from "./double-server.ts";
import { RegistryDouble } from "./registry-double.ts";
import { type Account, type Caller, type IssuedToken, type RegistryOptions, SPEC_TRAITS } from "./traits.ts";
import { bodyOf, type Login, type Route } from "./wire.ts";

export interface AcrOptions extends RegistryOptions {
  /** Anonymous pull is switched on, as Standard and Premium can; it is, if left out. */
  readonly anonymousPull?: boolean;
}

/** The user name that stands for a refresh token. */
export const ACR_TOKEN_USER = "00000000-0000-0000-0000-000000000000";
const REGISTRY = "weirtest.azurecr.io";
const EXCHANGE = "/oauth2/exchange";

export function startAcrDouble(stack: AsyncDisposableStack, options: AcrOptions = {}): Promise<AcrDouble> {
  return started(stack, new AcrDouble(options));
}

export class AcrDouble extends RegistryDouble {
  protected override readonly offers: ReadonlySet<string> = new Set(["pull", "metadata_read"]);
  readonly #refreshTokens = new Map<string, Account>();
  readonly #aadTokens = new Map<string, Account>();

  constructor(options: AcrOptions) {
    super(
      {
        ...SPEC_TRAITS,
        hosts: { registry: REGISTRY, cdn: "weureplstore1.blob.core.windows.net" },
        tokenPath: "/oauth2/token",
        service: REGISTRY,
        tokenLifetimeS: 75 * 60,
        jwt: true,
        anonymous: options.anonymousPull ?? true,
        etag: false,
        storeRefusal: {
          status: 403,
          body: "<Error><Code>AuthenticationFailed</Code><Message>Authentication information is not given in the correct format. Check the value of Authorization header.</Message></Error>",
        },
      },
      options,
    );
  }

  /** What `az acr login` puts into a docker config, and what is the password of {@link ACR_TOKEN_USER}. */
  refreshTokenFor(account: Account): string {
    const token = `refresh-${randomUUID()}`;
    this.handedOut.add(token);
    this.#refreshTokens.set(token, account);
    return token;
  }

  /** An Entra access token, for the exchange. */
  aadTokenFor(account: Account): string {
    const token = `aad-${randomUUID()}`;
    this.handedOut.add(token);
    this.#aadTokens.set(token, account);
    return token;
  }

  revokeRefreshTokens(): void {
    this.#refreshTokens.clear();
  }

  protected override roleOf(path: string): Role {
    return path === EXCHANGE ? "token" : super.roleOf(path);
  }

  protected override async handle(x: Exchange): Promise<void> {
    if (x.url.pathname === EXCHANGE) return await this.#exchange(x);
    await super.handle(x);
  }

  /** "tags/list and other metadata need action `metadata_read`, not `pull`". */
  protected override actionFor(route: Route): string {
    return route.kind === "tags" ? "metadata_read" : "pull";
  }

  protected override signIn(login: Login | undefined): Account | undefined | "wrong" {
    if (login?.username !== ACR_TOKEN_USER) return super.signIn(login);
    return this.#refreshTokens.get(login.password) ?? "wrong";
  }

  /** "`POST` with `grant_type=password` → 400 (clients fall back to GET)". */
  protected override async postToken(x: Exchange): Promise<void> {
    const form = new URLSearchParams(await bodyOf(x.request));
    if (form.get("grant_type") !== "refresh_token" || form.get("service") === null) {
      return await this.sendError(x, 400, "UNSUPPORTED", "grant_type is not supported");
    }
    await this.grant(x, form, this.#refreshTokens.get(form.get("refresh_token") ?? "") ?? "wrong");
  }

  /** Nobody in particular is refused at once; whoever signed in learns it from the registry. */
  protected override async grant(
    x: Exchange,
    asked: URLSearchParams,
    account: Account | undefined | "wrong",
  ): Promise<void> {
    const scopes = asked.getAll("scope").filter((scope) => scope.startsWith("repository:"));
    const readable = scopes.every((scope) => this.mayRead(undefined, scope.split(":")[1] ?? ""));
    if (account === undefined && !readable) return await this.wrongPassword(x);
    await super.grant(x, asked, account);
  }

  protected override async wrongPassword(x: Exchange): Promise<void> {
    const message = "authentication required, visit https://aka.ms/acr/authorization for more information.";
    await this.sendError(x, 401, "UNAUTHORIZED", message);
  }

  protected override tokenBody({ value }: IssuedToken): Record<string, unknown> {
    return { access_token: value };
  }

  protected override async limited(x: Exchange): Promise<boolean> {
    if (!this.throttled || x.entry.role !== "registry") return false;
    const message = "too many requests, see https://aka.ms/acr/skus";
    await this.sendError(x, 429, "TOOMANYREQUESTS", message, { headers: { "retry-after": "5" } });
    return true;
  }

  protected override negotiate(_x: Exchange, _repository: Repository, _route: Route, stored: Content) {
    return stored;
  }

  protected override manifestHeaders(_x: Exchange, _caller: Caller, digest: string): Headers {
    return {
      "docker-content-digest": digest,
      "access-control-expose-headers": [
        "Docker-Content-Digest",
        "WWW-Authenticate",
        "Link",
        "X-Ms-Correlation-Request-Id",
      ],
      "x-ms-correlation-request-id": randomUUID(),
    };
  }

  protected override location(ticket: string, digest: string): string {
    const hex = digest.slice("sha256:".length);
    const expires = new Date(this.signedUntilMs()).toISOString().replace(/\.\d+Z$/, "Z");
    const query = `se=${encodeURIComponent(expires)}&sp=r&sr=b&sig=${ticket}`;
    return `${this.urlOf("cdn")}/docker/registry/v2/blobs/sha256/${hex.slice(0, 2)}/${hex}/data?${query}`;
  }

  protected override async referrers(x: Exchange, route: Route, repository: Repository): Promise<void> {
    await this.sendReferrers(x, route, repository, { filters: true });
  }

  async #exchange(x: Exchange): Promise<void> {
    const form = new URLSearchParams(await bodyOf(x.request));
    const account = this.#aadTokens.get(form.get("access_token") ?? "");
    if (form.get("grant_type") !== "access_token" || form.get("service") === null || account === undefined) {
      return await this.wrongPassword(x);
    }
    await this.sendJson(x, 200, { refresh_token: this.refreshTokenFor(account) });
  }
}
