/**
 * The core of the doubles of registries: a plain registry behind the token spec (upstreams.md sections 13 and 14), which the
 * doubles of the single kinds change where theirs differ. Written from upstreams.md; shares no code with the product.
 *
 * Every double has the same interface: `await startXxx(stack, options)` gives a {@link RegistryDouble} with `url`, `host`,
 * `lookup`; content by `add`, `removeTag`, `removeRepository`; `accounts`; a `ledger` with `lines`, `count`, `leaks`; faults
 * by `fail`, `throttled`, `revokeTokens`, `expireSignatures`; and it ends with the stack.
 */
import { randomUUID } from "node:crypto";
import { type Content, type Image, sha256 } from "../images.ts";
import { AnsweringServer } from "./answers.ts";
import {
  accepts,
  addImage,
  manifestOf,
  newRepository,
  pageAfter,
  type Repository,
  type Visibility,
} from "./content.ts";
import type { Exchange, Headers, Role } from "./double-server.ts";
import type { Account, Caller, IssuedToken, RegistryOptions, Traits } from "./traits.ts";
import { basicOf, jwt, type Login, linkAfter, type Route, routeOf, type Scope, scopesOf } from "./wire.ts";

interface Token extends Caller {
  readonly expiresAtMs: number;
}

/** Of a UUID. */
const TICKET_CHARS = 36;

interface Ticket {
  readonly digest: string;
  readonly expiresAtMs: number;
}

export abstract class RegistryDouble extends AnsweringServer {
  /** Requests are refused as this kind refuses them when they are too many. */
  throttled = false;
  /** Read at every request. */
  readonly accounts: readonly Account[];
  protected readonly traits: Traits;
  protected readonly repositories = new Map<string, Repository>();
  readonly #options: RegistryOptions;
  readonly #tokens = new Map<string, Token>();
  readonly #tickets = new Map<string, Ticket>();
  /** Tokens, signatures and passwords that were given out, those that are not good any more too. */
  protected readonly handedOut = new Set<string>();

  constructor(traits: Traits, options: RegistryOptions) {
    super(traits.hosts, options);
    this.traits = traits;
    this.#options = options;
    this.accounts = options.accounts ?? [];
  }

  /** The realm, as the challenge names it. */
  get tokenUrl(): string {
    return `${this.urlOf("token")}${this.traits.tokenPath ?? ""}`;
  }

  /** Puts an image into a repository (made if it is new) under these tags; a tag that exists moves. */
  add(repository: string, image: Image, tags: readonly string[], visibility: Visibility = "public"): void {
    const held = this.repositories.get(repository) ?? newRepository(repository, visibility);
    this.repositories.set(repository, held);
    addImage(held, image, tags);
  }

  removeTag(repository: string, tag: string): void {
    this.repositories.get(repository)?.tags.delete(tag);
  }

  removeRepository(repository: string): void {
    this.repositories.delete(repository);
  }

  /** Every token given out so far is refused from now on. */
  revokeTokens(): void {
    this.#tokens.clear();
  }

  /** Every signed URL given out so far is refused from now on. */
  expireSignatures(): void {
    this.#tickets.clear();
  }

  /** What must stand in no log line, metric, trace or error: passwords, tokens and signatures, as sent and decoded. */
  secrets(): ReadonlySet<string> {
    const sent = this.ledger.flatMap(({ headers }) => headers.authorization?.split(" ").slice(1) ?? []);
    return new Set([...this.ownSecrets(), ...sent]);
  }

  /** Of these, what is for this registry only: its passwords, and what it has given out. */
  ownSecrets(): ReadonlySet<string> {
    return new Set([...this.passwords(), ...this.handedOut]);
  }

  passwords(): ReadonlySet<string> {
    return new Set(this.accounts.map(({ password }) => password));
  }

  protected roleOf(path: string): Role {
    return path === this.traits.tokenPath ? "token" : "registry";
  }

  protected async handle(x: Exchange): Promise<void> {
    if (await this.limited(x)) return;
    switch (x.entry.role) {
      case "registry":
        return await this.registry(x);
      case "token":
        return x.url.pathname === this.traits.tokenPath ? await this.token(x) : await this.notFound(x);
      case "cdn":
        return await this.store(x);
      default:
        return await this.beyond(x);
    }
  }

  // What the kinds change.

  /** Answers, and says so, where the request is one too many. */
  protected async limited(x: Exchange): Promise<boolean> {
    if (!this.throttled || x.entry.role !== "registry") return false;
    await this.sendError(x, 429, "TOOMANYREQUESTS", "too many requests", { headers: { "retry-after": "7" } });
    return true;
  }

  /** What the cloud's API or a page for people answers. */
  protected async beyond(x: Exchange): Promise<void> {
    await this.notFound(x);
  }

  protected challenge(route: Route | undefined, error: string | undefined): string | readonly string[] {
    const { service } = this.traits;
    const parameters = [
      `realm="${this.tokenUrl}"`,
      ...(service === undefined ? [] : [`service="${service}"`]),
      ...(route === undefined ? [] : [`scope="repository:${route.repository}:${this.actionFor(route)}"`]),
      ...(error === undefined ? [] : [`error="${error}"`]),
    ];
    return `Bearer ${parameters.join(",")}`;
  }

  protected actionFor(_route: Route): string {
    return "pull";
  }

  /** A request without usable authorisation, or with too little of it. */
  protected async unauthorized(x: Exchange, route: Route | undefined, error?: string): Promise<void> {
    const fault = error ?? (x.entry.authorization === "bearer" ? "invalid_token" : undefined);
    await this.sendError(x, 401, "UNAUTHORIZED", "authentication required", {
      headers: { "www-authenticate": this.challenge(route, fault) },
    });
  }

  /** A caller that is known, and may not; `repository` is undefined where there is none of that name. */
  protected async refuse(
    x: Exchange,
    route: Route,
    _caller: Caller,
    _repository: Repository | undefined,
  ): Promise<void> {
    await this.unauthorized(x, route, "insufficient_scope");
  }

  protected async ping(x: Exchange): Promise<void> {
    if (this.caller(x, undefined) === undefined) return await this.unauthorized(x, undefined);
    await this.sendJson(x, 200, {});
  }

  protected async catalog(x: Exchange): Promise<void> {
    await this.unauthorized(x, undefined);
  }

  protected async missingManifest(x: Exchange, route: Route): Promise<void> {
    await this.sendError(x, 404, "MANIFEST_UNKNOWN", "manifest unknown", { detail: { Tag: route.reference } });
  }

  /** What is sent for a manifest that is there; undefined where the Accept header rules it out. */
  protected negotiate(
    x: Exchange,
    _repository: Repository,
    _route: Route,
    stored: Content,
  ): { mediaType: string; bytes: Uint8Array } | undefined {
    return accepts(x.entry.accept, stored.mediaType) ? stored : undefined;
  }

  protected async unacceptable(x: Exchange, route: Route, _stored: Content): Promise<void> {
    await this.missingManifest(x, route);
  }

  /** Headers of a manifest beyond those of every kind; `digest` is that of what is sent. */
  protected manifestHeaders(_x: Exchange, _caller: Caller, digest: string): Headers {
    return { "docker-content-digest": digest };
  }

  /** Where the blob can be had with this ticket. */
  protected location(ticket: string, digest: string, _route: Route): string {
    const hex = digest.slice("sha256:".length);
    const path = `/docker/registry/v2/blobs/sha256/${hex.slice(0, 2)}/${hex}/data`;
    return `${this.urlOf("cdn")}${path}?X-Amz-Expires=${this.#signatureLifetimeS}&X-Amz-Signature=${ticket}`;
  }

  protected redirectHeaders(): Headers {
    return { "content-type": "application/octet-stream" };
  }

  protected async tags(x: Exchange, route: Route, repository: Repository): Promise<void> {
    const all = [...repository.tags.keys()].sort();
    const n = x.entry.query.get("n");
    const page = pageAfter(all, x.entry.query.get("last") ?? undefined, n === null ? undefined : Number(n));
    await this.sendTags(x, route, page.items, page.last === undefined ? undefined : linkAfter(route, page.last, n));
  }

  protected async referrers(x: Exchange, _route: Route, _repository: Repository): Promise<void> {
    await this.notFound(x);
  }

  protected async wrongPassword(x: Exchange): Promise<void> {
    await this.sendError(x, 401, "UNAUTHORIZED", "incorrect username or password");
  }

  protected async tokenDenied(x: Exchange, _account: Account | undefined, _repository: string): Promise<void> {
    await this.sendError(x, 403, "DENIED", "requested access to the resource is denied");
  }

  protected tokenBody({ value, lifetimeS }: IssuedToken): Record<string, unknown> {
    const issued_at = new Date(this.now()).toISOString();
    return { token: value, access_token: value, expires_in: lifetimeS, issued_at };
  }

  protected tokenHeaders(): Headers {
    return {};
  }

  /** A POST to the token realm. */
  protected async postToken(x: Exchange): Promise<void> {
    await this.sendText(x, 405, "Method Not Allowed");
  }

  // What they share.

  protected async registry(x: Exchange): Promise<void> {
    const { pathname } = x.url;
    if (pathname === "/v2/") return await this.ping(x);
    if (pathname === "/v2/_catalog") return await this.catalog(x);
    const route = routeOf(pathname);
    if (route === undefined) return await this.notFound(x);
    const caller = this.caller(x, route);
    if (caller === undefined) return await this.unauthorized(x, route);
    const repository = this.repositories.get(route.repository);
    if (repository === undefined || !this.mayUse(caller, route)) {
      return await this.refuse(x, route, caller, repository);
    }
    if (x.entry.method !== "GET" && x.entry.method !== "HEAD") return await this.write(x, route);
    switch (route.kind) {
      case "manifests":
        return await this.manifest(x, route, repository, caller);
      case "blobs":
        return await this.blob(x, route, repository);
      case "tags":
        return await this.tags(x, route, repository);
      case "referrers":
        return await this.referrers(x, route, repository);
    }
  }

  protected async write(x: Exchange, _route: Route): Promise<void> {
    await this.sendError(x, 405, "UNSUPPORTED", "The operation is unsupported.");
  }

  /** Who asks; undefined where the request must be challenged. */
  protected caller(x: Exchange, _route: Route | undefined): Caller | undefined {
    const { basic } = this.traits;
    if (x.entry.authorization === "bearer") return this.tokenOf(x);
    if (x.entry.authorization === "none" || !basic) return undefined;
    const account = this.signIn(basicOf(x.request));
    return account === "wrong" || account === undefined ? undefined : { account, grants: undefined };
  }

  /** The token of the request; undefined when it is not one of ours, or expired. */
  protected tokenOf(x: Exchange): Caller | undefined {
    const token = this.#tokens.get(x.request.headers.authorization?.replace(/^bearer /i, "") ?? "");
    return token !== undefined && token.expiresAtMs > this.now() ? token : undefined;
  }

  protected mayUse(caller: Caller, route: Route): boolean {
    if (caller.grants === undefined) return this.mayRead(caller.account, route.repository);
    return caller.grants.get(route.repository)?.has(this.actionFor(route)) ?? false;
  }

  /** False for what does not exist. */
  protected mayRead(account: Account | undefined, name: string): boolean {
    const repository = this.repositories.get(name);
    if (repository === undefined) return false;
    if (account === undefined) return this.traits.anonymous && !repository.private;
    return !repository.private || (account.repositories?.includes(name) ?? true);
  }

  protected signIn(login: Login | undefined): Account | undefined | "wrong" {
    if (login === undefined) return undefined;
    const { username, password } = login;
    return this.accounts.find((held) => held.username === username && held.password === password) ?? "wrong";
  }

  protected async manifest(x: Exchange, route: Route, repository: Repository, caller: Caller): Promise<void> {
    const stored = manifestOf(repository, route.reference);
    if (stored === undefined) return await this.missingManifest(x, route);
    const sent = this.negotiate(x, repository, route, stored);
    if (sent === undefined) return await this.unacceptable(x, route, stored);
    const digest = sent === stored ? stored.digest : sha256(sent.bytes);
    const etag = this.traits.etag ? `"${digest}"` : undefined;
    const headers = {
      ...this.manifestHeaders(x, caller, digest),
      "content-type": sent.mediaType,
      "docker-distribution-api-version": "registry/2.0",
      ...(etag === undefined ? {} : { etag }),
    };
    const condition = x.request.headers["if-none-match"];
    if (etag !== undefined && (condition === etag || condition === digest)) return await this.send(x, 304, headers, "");
    await this.send(x, 200, headers, sent.bytes);
  }

  protected async blob(x: Exchange, route: Route, repository: Repository): Promise<void> {
    const blob = repository.blobs.get(route.reference);
    if (blob === undefined) {
      return await this.sendError(x, 404, "BLOB_UNKNOWN", "blob unknown to registry", { detail: route.reference });
    }
    if (x.entry.method === "HEAD" && this.traits.blobHead === "answer") {
      const headers = { "content-type": "application/octet-stream", "accept-ranges": "bytes" };
      return await this.send(x, 200, { ...headers, "docker-content-digest": blob.digest }, blob.bytes);
    }
    const location = this.location(this.#ticketFor(blob.digest), blob.digest, route);
    await this.send(x, this.traits.redirect, { ...this.redirectHeaders(), location }, "");
  }

  protected async token(x: Exchange): Promise<void> {
    if (x.entry.method === "POST") return await this.postToken(x);
    await this.grant(x, x.entry.query, this.signIn(basicOf(x.request)));
  }

  /** Issues a token for what was asked for, or refuses. */
  protected async grant(x: Exchange, asked: URLSearchParams, account: Account | undefined | "wrong"): Promise<void> {
    if (account === "wrong") return await this.wrongPassword(x);
    const wanted = scopesOf(asked);
    const grants = this.grantsFor(wanted, account);
    const refused = wanted.find(({ name }) => !grants.has(name));
    if (this.traits.refusesTokens && refused !== undefined) return await this.tokenDenied(x, account, refused.name);
    await this.sendJson(x, 200, this.tokenBody(this.issue(account, grants)), this.tokenHeaders());
  }

  protected grantsFor(wanted: readonly Scope[], account: Account | undefined): Map<string, ReadonlySet<string>> {
    return new Map(
      wanted
        .filter(({ name }) => this.mayRead(account, name))
        .map(({ name, actions }) => [name, new Set(actions.filter((action) => this.offers.has(action)))]),
    );
  }

  /** What a token can be good for. */
  protected readonly offers: ReadonlySet<string> = new Set(["pull"]);

  protected issue(account: Account | undefined, grants: Caller["grants"]): IssuedToken {
    const lifetimeS = this.#options.tokenLifetimeS ?? this.traits.tokenLifetimeS;
    const value = this.traits.jwt ? jwt(this.now(), lifetimeS) : `token-${randomUUID()}`;
    this.handedOut.add(value);
    this.#tokens.set(value, { account, grants, expiresAtMs: this.now() + lifetimeS * 1000 });
    return { value, lifetimeS, account };
  }

  /** The blob store: takes a ticket from the query or the end of the path; knows no credentials. */
  protected async store(x: Exchange): Promise<void> {
    const xml = { "content-type": "application/xml" };
    const { storeRefusal } = this.traits;
    if (x.request.headers.authorization !== undefined && storeRefusal !== undefined) {
      return await this.send(x, storeRefusal.status, xml, storeRefusal.body);
    }
    const keys = [...x.url.searchParams.values(), x.url.pathname.slice(-TICKET_CHARS)];
    const ticket = keys.map((key) => this.#tickets.get(key)).find((found) => found !== undefined);
    // A signature covers the method too, and only GETs are signed.
    if (ticket === undefined || x.entry.method !== "GET" || ticket.expiresAtMs <= this.now()) {
      return await this.send(x, 403, xml, "<Error><Code>AccessDenied</Code></Error>");
    }
    const blob = [...this.repositories.values()].map(({ blobs }) => blobs.get(ticket.digest)).find(Boolean);
    if (blob === undefined) return await this.send(x, 404, xml, "<Error/>");
    await this.sendRange(x, blob.bytes);
  }

  get #signatureLifetimeS(): number {
    return this.#options.signatureLifetimeS ?? 60;
  }

  /** When a URL that is signed now expires. */
  protected signedUntilMs(): number {
    return this.now() + this.#signatureLifetimeS * 1000;
  }

  #ticketFor(digest: string): string {
    const ticket = randomUUID();
    this.handedOut.add(ticket);
    this.#tickets.set(ticket, { digest, expiresAtMs: this.signedUntilMs() });
    return ticket;
  }
}
