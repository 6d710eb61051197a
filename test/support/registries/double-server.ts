/**
 * The servers of a registry's double: one for each host that the real one has, on loopback addresses of their own, with a
 * ledger of every request and faults that can be switched on. What is answered is the business of registry-double.ts.
 */
import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { hostNetwork, type Network } from "../network.ts";
import { recorder, type WatchedDouble } from "../recorder/recorder.ts";

/** What a request is for: the registry itself, its tokens, blobs, the cloud's own API, or pages for people. */
export type Role = "registry" | "token" | "cdn" | "api" | "page";

export interface LedgerEntry {
  readonly role: Role;
  readonly method: string;
  /** As the Host header has it. */
  readonly host: string;
  /** Without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  /** Lower-case names; repeated headers joined by a comma. */
  readonly headers: Readonly<Record<string, string>>;
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
export interface Fault {
  readonly role: Role;
  readonly method?: string;
  /** Searched in the path. */
  readonly path?: RegExp;
  readonly authorization?: LedgerEntry["authorization"];
  /** Which matching requests, counted from 1; every one if left out. */
  readonly nth?: readonly number[];
  readonly effect: Effect;
}

export type Effect =
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

/** The DNS names in real life; a role without one of its own is served by the registry's host. */
export type Hosts = Readonly<Partial<Record<Role, string>> & { registry: string }>;

export interface ServerOptions {
  readonly network?: Network;
  /** PEM texts; makes every host speak HTTPS. The certificate must name all addresses, or names, in use. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Milliseconds since the epoch; tokens, passwords and signed URLs expire by it. */
  readonly now?: () => number;
  /** URLs carry the real DNS names (and the port); whoever asks resolves them by {@link DoubleServer.lookup}. */
  readonly named?: boolean;
  /** Instead of 127.0.0.1 for the registry, .2 for tokens, .3 for blobs, .4 for the cloud's API, .5 for pages. */
  readonly addresses?: Readonly<Partial<Record<Role, string>>>;
}

/** One request with the means to answer it. */
export interface Exchange {
  readonly request: http.IncomingMessage;
  readonly response: http.ServerResponse;
  readonly url: URL;
  readonly entry: { -readonly [K in keyof LedgerEntry]: LedgerEntry[K] };
  readonly effects: readonly Effect[];
}

export type Headers = Readonly<Record<string, string | readonly string[]>>;

export interface Match extends Partial<Pick<LedgerEntry, "role" | "method" | "status" | "authorization">> {
  readonly path?: RegExp;
}

const CHUNK_BYTES = 256 * 1024;

const ADDRESSES: Readonly<Record<Role, string>> = {
  registry: "127.0.0.1",
  token: "127.0.0.2",
  cdn: "127.0.0.3",
  api: "127.0.0.4",
  page: "127.0.0.5",
};

interface Listening {
  readonly name: string;
  readonly address: string;
  readonly port: number;
}

/** Makes a double listen until the stack ends. What it is sent meanwhile is watched. */
export async function started<T extends DoubleServer>(stack: AsyncDisposableStack, double: T): Promise<T> {
  stack.defer(async () => {
    recorder.doubleEnded(double);
    await double.close();
  });
  recorder.watchDouble(double);
  await double.listen();
  return double;
}

export abstract class DoubleServer implements WatchedDouble {
  /** Every request, in the order of arrival. */
  readonly ledger: LedgerEntry[] = [];
  readonly #hosts: Hosts;
  readonly #options: ServerOptions;
  readonly #network: Network;
  readonly #faults = new Set<{ readonly fault: Fault; seen: number }>();
  readonly #servers: http.Server[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #listening = new Map<Role, Listening>();
  #closing = new AbortController();

  constructor(hosts: Hosts, options: ServerOptions) {
    this.#hosts = hosts;
    this.#options = options;
    this.#network = options.network ?? hostNetwork;
  }

  /** Origin of the registry: the upstream's endpoint. */
  get url(): string {
    return this.urlOf("registry");
  }

  /** The registry's host and port, as in an image reference. */
  get host(): string {
    return new URL(this.url).host;
  }

  /** Origin of the host that serves this role. */
  urlOf(role: Role): string {
    const { name, address, port } = this.#at(role);
    return `${this.#scheme}://${this.#options.named === true ? name : address}:${port}`;
  }

  /** The loopback address of the host that serves this role. */
  addressOf(role: Role): string {
    return this.#at(role).address;
  }

  /** Resolves the names of this double and no others; for the upstream client's `lookup`. */
  async lookup(hostname: string): Promise<readonly { address: string; family: number }[]> {
    const found = [...this.#listening.values()].find(({ name }) => name === hostname);
    if (found === undefined) throw Object.assign(new Error(`getaddrinfo ENOTFOUND ${hostname}`), { code: "ENOTFOUND" });
    return [{ address: found.address, family: 4 }];
  }

  /** Repeatable after {@link close}: on the same ports. */
  async listen(): Promise<void> {
    for (const [role, name] of Object.entries(this.#hosts) as [Role, string][]) await this.#serve(role, name);
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

  /** Adds a fault; the function takes it away again. */
  fail(fault: Fault): () => void {
    const entry = { fault, seen: 0 };
    this.#faults.add(entry);
    return () => {
      this.#faults.delete(entry);
    };
  }

  /** The ledger as lines, `registry GET /v2/library/x/manifests/1 bearer 200`, for whole comparisons. */
  lines(role?: Role): string[] {
    return this.ledger
      .filter((entry) => role === undefined || entry.role === role)
      .map((e) => `${e.role} ${e.method} ${e.path} ${e.authorization} ${e.status}`);
  }

  /** How many requests match. */
  count(match: Match): number {
    return this.ledger.filter(
      (entry) =>
        (match.role === undefined || entry.role === match.role) &&
        (match.method === undefined || entry.method === match.method) &&
        (match.status === undefined || entry.status === match.status) &&
        (match.authorization === undefined || entry.authorization === match.authorization) &&
        (match.path === undefined || match.path.test(entry.path)),
    ).length;
  }

  /** Requests that brought credentials or cookies to where they do not belong: a blob store or a page. */
  leaks(): readonly LedgerEntry[] {
    return this.ledger.filter(
      ({ role, host, headers }) =>
        (role === "cdn" || role === "page") &&
        host !== this.host &&
        (headers.authorization !== undefined || headers.cookie !== undefined),
    );
  }

  abstract secrets(): ReadonlySet<string>;
  abstract ownSecrets(): ReadonlySet<string>;
  abstract passwords(): ReadonlySet<string>;

  /** Bytes of bodies handed out. */
  bytes(role: Role): number {
    return this.ledger.reduce((sum, entry) => sum + (entry.role === role ? entry.bytes : 0), 0);
  }

  clearLedger(): void {
    this.ledger.length = 0;
  }

  /** The role of a request to the registry's host, which may serve several. */
  protected abstract roleOf(path: string): Role;

  protected abstract handle(x: Exchange): Promise<void>;

  protected now(): number {
    return this.#options.now?.() ?? Date.now();
  }

  /** Sends an answer, `offset` being the body's position in its blob, with the effects of the request's faults. */
  protected async send(
    x: Exchange,
    status: number,
    headers: Headers,
    body: Uint8Array | string,
    offset = 0,
  ): Promise<void> {
    const bytes = typeof body === "string" ? Buffer.from(body) : body;
    const { response, entry } = x;
    entry.status = status;
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    // A 304 or 204 has no body, and no length of one.
    if (status !== 304) response.setHeader("content-length", bytes.length);
    response.writeHead(status);
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

  get #scheme(): "http" | "https" {
    return this.#options.tls === undefined ? "http" : "https";
  }

  #at(role: Role): Listening {
    const at = this.#listening.get(role) ?? this.#listening.get("registry");
    if (at === undefined) throw new Error("the double does not listen yet");
    return at;
  }

  async #serve(role: Role, name: string): Promise<void> {
    const { tls, addresses } = this.#options;
    const listener = (request: http.IncomingMessage, response: http.ServerResponse): void => {
      this.#answer(this.#exchange(role, request, response)).catch(() => response.destroy());
    };
    const server = tls === undefined ? http.createServer(listener) : https.createServer(tls, listener);
    server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
    this.#servers.push(server);
    const address = addresses?.[role] ?? ADDRESSES[role];
    const port = await this.#network.listen(server, address, this.#listening.get(role)?.port ?? 0);
    this.#listening.set(role, { name, address, port });
  }

  #exchange(role: Role, request: http.IncomingMessage, response: http.ServerResponse): Exchange {
    const url = new URL(request.url ?? "/", "http://double");
    const scheme = request.headers.authorization?.split(" ")[0]?.toLowerCase();
    const entry: Exchange["entry"] = {
      role: role === "registry" ? this.roleOf(url.pathname) : role,
      method: request.method ?? "GET",
      host: request.headers.host ?? "",
      path: url.pathname,
      query: url.searchParams,
      headers: Object.fromEntries(
        Object.entries(request.headersDistinct).map(([name, values]) => [name, (values ?? []).join(", ")]),
      ),
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

  #effects(entry: LedgerEntry): Effect[] {
    const effects: Effect[] = [];
    for (const held of this.#faults) {
      const { role, method, path, authorization, nth, effect } = held.fault;
      if (role !== entry.role || (method !== undefined && method !== entry.method)) continue;
      if (authorization !== undefined && authorization !== entry.authorization) continue;
      if (path !== undefined && !path.test(entry.path)) continue;
      held.seen += 1;
      if (nth === undefined || nth.includes(held.seen)) effects.push(effect);
    }
    return effects;
  }

  async #answer(x: Exchange): Promise<void> {
    for (const effect of x.effects) {
      if (effect.kind === "hold") await effect.until;
      if (effect.kind === "status") return await this.send(x, effect.status, effect.headers ?? {}, effect.body ?? "");
      if (effect.kind === "cut" && effect.afterBytes === 0) return void x.request.socket.resetAndDestroy();
      if (effect.kind === "stall" && effect.afterBytes === 0) return;
    }
    await this.handle(x);
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
