/**
 * A double of Docker Hub on loopback: registry, token server and CDN on three addresses of their own, shaped after what
 * is known of the real ones (auth, redirects, rate limits, error bodies). It keeps a ledger of every request and can be
 * told to fail. It shares no code with the product.
 */
import { createHmac, randomUUID } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import type { Content, Image } from "./images.ts";
import { hostNetwork, type Network } from "./network.ts";

export type HubRole = "registry" | "token" | "cdn";

export interface HubEntry {
  readonly role: HubRole;
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  /** Whether an Authorization header came along, and which scheme it named. */
  readonly authorization: "none" | "basic" | "bearer";
  readonly range: string | undefined;
  readonly accept: string | undefined;
  /** 0 while unanswered, and when the connection was ended instead. */
  readonly status: number;
  /** Bytes of body handed to the connection. */
  readonly bytes: number;
  /** Whether whoever asked still waits for an answer, or for the rest of it. */
  readonly open: boolean;
}

/** What goes wrong, with which of the requests that match. */
export interface HubFault {
  readonly role: HubRole;
  readonly method?: string;
  /** Searched in the path. */
  readonly path?: RegExp;
  /** Which matching requests, counted from 1; every one if left out. */
  readonly nth?: readonly number[];
  readonly effect: HubEffect;
}

export type HubEffect =
  /** The connection ends after so many bytes of the body (0: it is reset instead of answering). */
  | { readonly kind: "cut"; readonly afterBytes: number }
  /** Nothing more comes after so many bytes of the body, and the connection stays. */
  | { readonly kind: "stall"; readonly afterBytes: number }
  /** The byte at this position of the blob or manifest is another one. */
  | { readonly kind: "wrong-byte"; readonly at: number }
  | { readonly kind: "throttle"; readonly bytesPerSecond: number }
  /** Answered when the promise resolves. */
  | { readonly kind: "hold"; readonly until: Promise<void> }
  | {
      readonly kind: "status";
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
    };

export interface HubOptions {
  readonly network?: Network;
  /** PEM texts; makes all three speak HTTPS. The certificate must name 127.0.0.1, .2 and .3. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** The one account that may sign in. */
  readonly account?: { readonly username: string; readonly password: string };
  /** Milliseconds since the epoch; tokens and signed URLs expire by it. */
  readonly now?: () => number;
  /** What the token server says and keeps to; Docker Hub's 300 if left out. */
  readonly tokenLifetimeS?: number;
  /** 60 if left out. */
  readonly signatureLifetimeS?: number;
}

interface Repository {
  readonly tags: Map<string, string>;
  readonly manifests: Map<string, Content>;
  readonly blobs: Map<string, Content>;
  readonly private: boolean;
}

interface Token {
  readonly expiresAtMs: number;
  readonly account: string | undefined;
  /** Repositories that it may pull from. */
  readonly repositories: ReadonlySet<string>;
}

interface Exchange {
  readonly request: http.IncomingMessage;
  readonly response: http.ServerResponse;
  readonly url: URL;
  readonly entry: { -readonly [K in keyof HubEntry]: HubEntry[K] };
  readonly effects: readonly HubEffect[];
}

const SERVICE = "registry.docker.io";
const CHUNK_BYTES = 256 * 1024;
const ROUTE = /^\/v2\/(.+)\/(manifests|blobs|referrers)\/([^/]+)$/;
const TAGS_ROUTE = /^\/v2\/(.+)\/tags\/list$/;
const SCOPE = /^repository(?:\([^)]*\))?:([^:]+):([a-z*,]+)$/;

export async function startHubDouble(stack: AsyncDisposableStack, options: HubOptions = {}): Promise<HubDouble> {
  const hub = new HubDouble(options);
  stack.defer(() => hub.close());
  await hub.listen();
  return hub;
}

export class HubDouble {
  /** Every request, in the order of arrival. */
  readonly ledger: HubEntry[] = [];
  /** Pulls allowed and left; undefined sends no headers, as for accounts without a limit. A GET of a manifest costs one. */
  quota: { readonly limit: number; readonly windowS: number; remaining: number } | undefined;
  /** Sent with a 429 for a spent quota. */
  retryAfterS: number | undefined;
  /** The limit on any requests at all: everything at the registry is refused, in plain text. */
  abuse = false;

  readonly #options: HubOptions;
  readonly #network: Network;
  readonly #repositories = new Map<string, Repository>();
  readonly #tokens = new Map<string, Token>();
  readonly #faults = new Set<{ readonly fault: HubFault; seen: number }>();
  readonly #servers: http.Server[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #signingKey = randomUUID();
  readonly #urls = new Map<HubRole, string>();
  #closing = new AbortController();

  constructor(options: HubOptions) {
    this.#options = options;
    this.#network = options.network ?? hostNetwork;
  }

  get registryUrl(): string {
    return this.#url("registry");
  }

  /** The realm, as the challenge names it. */
  get tokenUrl(): string {
    return `${this.#url("token")}/token`;
  }

  get cdnUrl(): string {
    return this.#url("cdn");
  }

  /** Repeatable after {@link close}: on the same ports. */
  async listen(): Promise<void> {
    await this.#serve("registry", "127.0.0.1", (x) => this.#registry(x));
    await this.#serve("token", "127.0.0.2", (x) => this.#token(x));
    await this.#serve("cdn", "127.0.0.3", (x) => this.#cdn(x));
  }

  /** Breaks every connection; new ones are refused. Repeatable. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#closing = new AbortController();
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(
      this.#servers.splice(0).map(async (server) => {
        server.close();
        await once(server, "close");
      }),
    );
  }

  /** Puts an image into a repository (made if it is new) under these tags; a tag that exists moves. */
  add(repository: string, image: Image, tags: readonly string[], visibility: "public" | "private" = "public"): void {
    const held = this.#repositories.get(repository) ?? {
      tags: new Map(),
      manifests: new Map(),
      blobs: new Map(),
      private: visibility === "private",
    };
    this.#repositories.set(repository, held);
    for (const manifest of image.manifests) held.manifests.set(manifest.digest, manifest);
    for (const blob of image.blobs) held.blobs.set(blob.digest, blob);
    for (const tag of tags) held.tags.set(tag, image.root.digest);
  }

  removeTag(repository: string, tag: string): void {
    this.#repositories.get(repository)?.tags.delete(tag);
  }

  removeRepository(repository: string): void {
    this.#repositories.delete(repository);
  }

  /** Every token given out so far is refused from now on. */
  revokeTokens(): void {
    this.#tokens.clear();
  }

  /** Adds a fault; the function takes it away again. */
  fail(fault: HubFault): () => void {
    const entry = { fault, seen: 0 };
    this.#faults.add(entry);
    return () => {
      this.#faults.delete(entry);
    };
  }

  /** The ledger as lines, `registry GET /v2/library/x/manifests/1 bearer 200`, for whole comparisons. */
  lines(role?: HubRole): string[] {
    return this.ledger
      .filter((entry) => role === undefined || entry.role === role)
      .map((e) => `${e.role} ${e.method} ${e.path} ${e.authorization} ${e.status}`);
  }

  /** How many requests match. */
  count(match: Partial<Pick<HubEntry, "role" | "method" | "status" | "authorization">> & { path?: RegExp }): number {
    return this.ledger.filter(
      (entry) =>
        (match.role === undefined || entry.role === match.role) &&
        (match.method === undefined || entry.method === match.method) &&
        (match.status === undefined || entry.status === match.status) &&
        (match.authorization === undefined || entry.authorization === match.authorization) &&
        (match.path === undefined || match.path.test(entry.path)),
    ).length;
  }

  /** Bytes of bodies handed out. */
  bytes(role: HubRole): number {
    return this.ledger.reduce((sum, entry) => sum + (entry.role === role ? entry.bytes : 0), 0);
  }

  clearLedger(): void {
    this.ledger.length = 0;
  }

  #url(role: HubRole): string {
    const url = this.#urls.get(role);
    if (url === undefined) throw new Error("the double does not listen yet");
    return url;
  }

  #now(): number {
    return this.#options.now?.() ?? Date.now();
  }

  async #serve(role: HubRole, host: string, handle: (x: Exchange) => Promise<void>): Promise<void> {
    const { tls } = this.#options;
    const listener = (request: http.IncomingMessage, response: http.ServerResponse): void => {
      const x = this.#exchange(role, request, response);
      this.#answer(x, handle).catch(() => response.destroy());
    };
    const server = tls === undefined ? http.createServer(listener) : https.createServer(tls, listener);
    server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
    this.#servers.push(server);
    const before = this.#urls.get(role);
    const port = await this.#network.listen(server, host, before === undefined ? 0 : Number(new URL(before).port));
    this.#urls.set(role, `${tls === undefined ? "http" : "https"}://${host}:${port}`);
  }

  #exchange(role: HubRole, request: http.IncomingMessage, response: http.ServerResponse): Exchange {
    const url = new URL(request.url ?? "/", "http://double");
    const method = request.method ?? "GET";
    const scheme = request.headers.authorization?.split(" ")[0]?.toLowerCase();
    const entry: Exchange["entry"] = {
      role,
      method,
      path: url.pathname,
      query: url.searchParams,
      authorization: scheme === undefined ? "none" : scheme === "basic" ? "basic" : "bearer",
      range: request.headers.range,
      accept: request.headers.accept,
      status: 0,
      bytes: 0,
      open: true,
    };
    this.ledger.push(entry);
    response.once("close", () => {
      entry.open = false;
    });
    return { request, response, url, entry, effects: this.#effects(entry) };
  }

  #effects(entry: HubEntry): HubEffect[] {
    const effects: HubEffect[] = [];
    for (const held of this.#faults) {
      const { role, method, path, nth, effect } = held.fault;
      if (role !== entry.role || (method !== undefined && method !== entry.method)) continue;
      if (path !== undefined && !path.test(entry.path)) continue;
      held.seen += 1;
      if (nth === undefined || nth.includes(held.seen)) effects.push(effect);
    }
    return effects;
  }

  async #answer(x: Exchange, handle: (x: Exchange) => Promise<void>): Promise<void> {
    for (const effect of x.effects) {
      if (effect.kind === "hold") await effect.until;
      if (effect.kind === "status") return await this.#send(x, effect.status, effect.headers ?? {}, effect.body ?? "");
      if (effect.kind === "cut" && effect.afterBytes === 0) return void x.request.socket.resetAndDestroy();
      if (effect.kind === "stall" && effect.afterBytes === 0) return;
    }
    await handle(x);
  }

  async #registry(x: Exchange): Promise<void> {
    if (this.abuse) return await this.#send(x, 429, { "content-type": "text/plain" }, "Too Many Requests");
    const { pathname } = x.url;
    if (pathname === "/v2/") {
      if (this.#tokenOf(x) === undefined) return await this.#challenge(x, undefined);
      return await this.#sendJson(x, 200, {});
    }
    const tags = TAGS_ROUTE.exec(pathname);
    const route = ROUTE.exec(pathname);
    const name = tags?.[1] ?? route?.[1];
    if (pathname === "/v2/_catalog") return await this.#challenge(x, undefined);
    if (name === undefined) return await this.#sendText(x, 404, "404 page not found");
    const token = this.#tokenOf(x);
    if (token === undefined) return await this.#challenge(x, name);
    const repository = this.#repositories.get(name);
    if (repository === undefined || !token.repositories.has(name)) {
      return await this.#challenge(x, name, "insufficient_scope");
    }
    if (x.entry.method !== "GET" && x.entry.method !== "HEAD") {
      return await this.#challenge(x, name, "insufficient_scope", "push,pull");
    }
    if (tags !== null) return await this.#tags(x, name, repository);
    const reference = route?.[3] ?? "";
    if (route?.[2] === "manifests") return await this.#manifest(x, repository, reference, token);
    if (route?.[2] === "blobs") return await this.#blob(x, repository, reference);
    return await this.#sendText(x, 404, "404 page not found");
  }

  /** The token of the request; undefined when there is none, or it is not one of ours, or expired. */
  #tokenOf(x: Exchange): Token | undefined {
    const token = this.#tokens.get(x.request.headers.authorization?.replace(/^bearer /i, "") ?? "");
    return token !== undefined && token.expiresAtMs > this.#now() ? token : undefined;
  }

  async #challenge(
    x: Exchange,
    name: string | undefined,
    error?: "insufficient_scope",
    action = "pull",
  ): Promise<void> {
    const fault = error ?? (x.entry.authorization === "none" ? undefined : "invalid_token");
    const parameters = [
      `realm="${this.tokenUrl}"`,
      `service="${SERVICE}"`,
      ...(name === undefined ? [] : [`scope="repository:${name}:${action}"`]),
      ...(fault === undefined ? [] : [`error="${fault}"`]),
    ];
    const detail = name === undefined ? null : [{ Type: "repository", Class: "", Name: name, Action: action }];
    await this.#sendJson(
      x,
      401,
      { errors: [{ code: "UNAUTHORIZED", message: "authentication required", detail }] },
      { "www-authenticate": `Bearer ${parameters.join(",")}`, "docker-ratelimit-source": "203.0.113.7" },
    );
  }

  async #manifest(x: Exchange, repository: Repository, reference: string, token: Token): Promise<void> {
    const limits = this.#countPull(x, token);
    if (limits === undefined) {
      const message =
        "You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit";
      const retry = this.retryAfterS === undefined ? {} : { "retry-after": String(this.retryAfterS) };
      return await this.#sendJson(x, 429, { errors: [{ code: "TOOMANYREQUESTS", message }] }, retry);
    }
    const digest = reference.includes(":") ? reference : repository.tags.get(reference);
    const manifest = digest === undefined ? undefined : repository.manifests.get(digest);
    if (manifest === undefined || !accepts(x.entry.accept, manifest.mediaType)) {
      const error = { code: "MANIFEST_UNKNOWN", message: "manifest unknown", detail: `unknown tag=${reference}` };
      return await this.#sendJson(x, 404, { errors: [error] }, limits);
    }
    const headers = {
      ...limits,
      "content-type": manifest.mediaType,
      "docker-content-digest": manifest.digest,
      "docker-distribution-api-version": "registry/2.0",
      etag: `"${manifest.digest}"`,
      "strict-transport-security": "max-age=31536000",
    };
    if (x.request.headers["if-none-match"] === `"${manifest.digest}"`) return await this.#send(x, 304, headers, "");
    await this.#send(x, 200, headers, manifest.bytes);
  }

  /** Takes a pull off the quota; the headers to send, or undefined when there was none left. */
  #countPull(x: Exchange, token: Token): Record<string, string> | undefined {
    const { quota } = this;
    if (quota === undefined) return {};
    if (x.entry.method === "GET") {
      if (quota.remaining === 0) return undefined;
      quota.remaining -= 1;
    }
    return {
      "ratelimit-limit": `${quota.limit};w=${quota.windowS}`,
      "ratelimit-remaining": `${quota.remaining};w=${quota.windowS}`,
      "docker-ratelimit-source": token.account === undefined ? "203.0.113.7" : "5f1c2a4e-0000-4000-8000-000000000001",
    };
  }

  async #blob(x: Exchange, repository: Repository, digest: string): Promise<void> {
    if (!repository.blobs.has(digest)) {
      const error = { code: "BLOB_UNKNOWN", message: "blob unknown to registry", detail: digest };
      return await this.#sendJson(x, 404, { errors: [error] });
    }
    const hex = digest.slice("sha256:".length);
    const path = `/registry-v2/docker/registry/v2/blobs/sha256/${hex.slice(0, 2)}/${hex}/data`;
    const expires = Math.floor(this.#now() / 1000) + (this.#options.signatureLifetimeS ?? 60);
    const location = `${this.cdnUrl}${path}?expires=${expires}&signature=${this.#sign(path, expires)}`;
    await this.#send(x, 307, { location, "content-type": "application/octet-stream" }, "");
  }

  /** A signature covers the method too, and only GETs are signed. */
  #sign(path: string, expires: number): string {
    return createHmac("sha256", this.#signingKey).update(`GET\n${path}\n${expires}`).digest("base64url");
  }

  async #tags(x: Exchange, name: string, repository: Repository): Promise<void> {
    const all = [...repository.tags.keys()].sort();
    const last = x.entry.query.get("last");
    const left = last === null ? all : all.filter((tag) => tag > last);
    const n = x.entry.query.get("n");
    const page = n === null ? left : left.slice(0, Number(n));
    const more = page.length < left.length && page.length > 0;
    const next = `</v2/${name}/tags/list?last=${encodeURIComponent(page.at(-1) ?? "")}&n=${n}>; rel="next"`;
    await this.#sendJson(x, 200, { name, tags: page }, more ? { link: next } : {});
  }

  /** Always 200 for whoever may sign in, also without any rights; the registry is where a denial is seen. */
  async #token(x: Exchange): Promise<void> {
    if (x.url.pathname !== "/token") return await this.#sendText(x, 404, "404 page not found");
    const form = x.entry.method === "POST" ? new URLSearchParams(await bodyOf(x.request)) : undefined;
    const asked = form ?? x.entry.query;
    if (asked.get("service") !== SERVICE) return await this.#sendJson(x, 400, { details: "invalid service" });
    const login = form === undefined ? basicOf(x.request) : passwordOf(form);
    const { account } = this.#options;
    if (login !== undefined && (login.username !== account?.username || login.password !== account.password)) {
      return await this.#sendJson(x, 401, { details: "incorrect username or password" });
    }
    const names = asked.getAll("scope").flatMap((scope) => scope.split(" ").map((part) => SCOPE.exec(part)?.[1] ?? ""));
    const readable = names.filter((name) => {
      const repository = this.#repositories.get(name);
      return repository !== undefined && (!repository.private || login !== undefined);
    });
    const token = `token-${randomUUID()}`;
    const lifetimeS = this.#options.tokenLifetimeS ?? 300;
    this.#tokens.set(token, {
      expiresAtMs: this.#now() + lifetimeS * 1000,
      account: login?.username,
      repositories: new Set(readable),
    });
    await this.#sendJson(x, 200, {
      token,
      access_token: token,
      expires_in: lifetimeS,
      issued_at: new Date(this.#now()).toISOString(),
    });
  }

  async #cdn(x: Exchange): Promise<void> {
    const { searchParams, pathname } = x.url;
    if (x.request.headers.authorization !== undefined) {
      const xml = "<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message></Error>";
      return await this.#send(x, 400, { "content-type": "application/xml" }, xml);
    }
    const expires = Number(searchParams.get("expires"));
    const signed = searchParams.get("signature") === this.#sign(pathname, expires);
    if (!signed || x.entry.method !== "GET" || expires * 1000 <= this.#now()) {
      return await this.#send(
        x,
        403,
        { "content-type": "application/xml" },
        "<Error><Code>AccessDenied</Code></Error>",
      );
    }
    const digest = `sha256:${pathname.split("/").at(-2)}`;
    const blob = [...this.#repositories.values()]
      .map((held) => held.blobs.get(digest))
      .find((held) => held !== undefined);
    if (blob === undefined) return await this.#send(x, 404, { "content-type": "application/xml" }, "<Error/>");
    const headers = { "content-type": "application/octet-stream", "accept-ranges": "bytes" };
    const size = blob.bytes.length;
    const range = /^bytes=(\d+)-(\d*)$/.exec(x.entry.range ?? "");
    if (range === null) return await this.#send(x, 200, headers, blob.bytes);
    const start = Number(range[1]);
    const end = range[2] === "" ? size - 1 : Math.min(Number(range[2]), size - 1);
    if (start >= size || start > end) return await this.#send(x, 416, { "content-range": `bytes */${size}` }, "");
    const partial = { ...headers, "content-range": `bytes ${start}-${end}/${size}` };
    await this.#send(x, 206, partial, blob.bytes.subarray(start, end + 1), start);
  }

  async #sendJson(x: Exchange, status: number, body: unknown, headers: Record<string, string> = {}): Promise<void> {
    await this.#send(x, status, { "content-type": "application/json", ...headers }, JSON.stringify(body));
  }

  async #sendText(x: Exchange, status: number, body: string): Promise<void> {
    await this.#send(x, status, { "content-type": "text/plain; charset=utf-8" }, body);
  }

  /** Sends an answer, `offset` being the body's position in its blob, with the effects of the request's faults. */
  async #send(
    x: Exchange,
    status: number,
    headers: Readonly<Record<string, string>>,
    body: Uint8Array | string,
    offset = 0,
  ): Promise<void> {
    const bytes = typeof body === "string" ? Buffer.from(body) : body;
    const { response, entry } = x;
    entry.status = status;
    // A 304 or 204 has no body, and no length of one.
    response.writeHead(status, status === 304 ? headers : { ...headers, "content-length": bytes.length });
    if (entry.method === "HEAD" || status === 304) return void response.end();
    const throttle = x.effects.find((effect) => effect.kind === "throttle");
    const cut = x.effects.find((effect) => effect.kind === "cut" || effect.kind === "stall");
    const wrong = x.effects.find((effect) => effect.kind === "wrong-byte");
    const end = Math.min(bytes.length, cut?.afterBytes ?? bytes.length);
    const chunkBytes = throttle === undefined ? CHUNK_BYTES : Math.ceil(throttle.bytesPerSecond / 20);
    for (let at = 0; at < end && !response.destroyed; at += chunkBytes) {
      const chunk = bytes.subarray(at, Math.min(end, at + chunkBytes));
      if (throttle !== undefined) await delay(50, undefined, { signal: this.#closing.signal });
      await written(response, wrong === undefined ? chunk : spoilt(chunk, wrong.at - offset - at));
      entry.bytes += chunk.length;
    }
    if (end === bytes.length) return void response.end();
    // Not a reset: that would take back what is still in the kernel's buffers.
    if (cut?.kind === "cut") response.destroy();
  }
}

async function written(response: http.ServerResponse, chunk: Uint8Array): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    response.write(chunk, (error) => (error ? reject(error) : resolve()));
  });
}

function spoilt(chunk: Uint8Array, at: number): Uint8Array {
  const byte = chunk[at];
  if (byte === undefined) return chunk;
  const copy = Uint8Array.from(chunk);
  copy[at] = byte ^ 0xff;
  return copy;
}

/** Whether an Accept header names the type; like Hub today, a request without one gets what is stored. */
function accepts(accept: string | undefined, mediaType: string): boolean {
  if (accept === undefined) return true;
  const types = accept.split(",").map((part) => part.split(";")[0]?.trim());
  return types.includes(mediaType) || types.includes("*/*");
}

interface Login {
  readonly username: string;
  readonly password: string;
}

function basicOf(request: http.IncomingMessage): Login | undefined {
  const encoded = /^basic (.*)$/i.exec(request.headers.authorization ?? "")?.[1];
  if (encoded === undefined) return undefined;
  const [username = "", ...password] = Buffer.from(encoded, "base64").toString().split(":");
  return { username, password: password.join(":") };
}

function passwordOf(form: URLSearchParams): Login | undefined {
  if (form.get("grant_type") !== "password") return undefined;
  return { username: form.get("username") ?? "", password: form.get("password") ?? "" };
}

async function bodyOf(request: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}
