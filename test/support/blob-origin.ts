/**
 * A registry of blobs, with manifests where a test adds some, and the CDN that it redirects to, on two addresses of loopback. It keeps a ledger, sends
 * as far as it is told, and can be told to answer wrongly. It asks for no credentials.
 */
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { BlobContent } from "./fill-sources.ts";
import type { Content } from "./images.ts";

/** One GET that reached the CDN. */
export interface OriginGet {
  /** Without the query, which is new with every redirect. */
  readonly path: string;
  readonly range: string | undefined;
  readonly status: number;
  /** Position of the first byte of the answer in the blob. */
  readonly start: number;
  /** Of the client's end of the connection. */
  readonly clientPort: number | undefined;
  /** Bytes of body handed to the connection so far. */
  sent: number;
  /** Answered, or left by who asked. */
  over: boolean;
}

/** How the CDN answers one GET; an empty object is a plain, right answer. Positions are those in the blob. */
export interface CdnAnswer {
  /** Only a status, without a body. */
  readonly status?: number;
  /** Laid over the usual ones. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The connection ends here. */
  readonly cutAt?: number;
  /** The byte here is another one. */
  readonly wrongByteAt?: number;
  /** The whole blob with status 200, whatever range was asked for. */
  readonly whole?: boolean;
  /** No length is told: HTTP/1.1 chunks. */
  readonly chunked?: boolean;
  /** Sends the bytes from here on, whatever `Content-Range` says. */
  readonly from?: number;
  /** The length that the whole blob is said to have; the connection ends where there is no more. */
  readonly total?: number;
}

const CHUNK_BYTES = 256 * 1024;
const ROUTE = /^\/v2\/(.+)\/blobs\/([^/]+)$/;
const MANIFEST_ROUTE = /^\/v2\/(.+)\/manifests\/([^/]+)$/;

export async function startBlobOrigin(stack: AsyncDisposableStack): Promise<BlobOrigin> {
  const origin = new BlobOrigin();
  stack.defer(() => origin.close());
  await origin.listen();
  return origin;
}

export class BlobOrigin {
  /** Every GET that reached the CDN, in the order of arrival. */
  readonly gets: OriginGet[] = [];
  /** Requests to the registry, `GET app/sha256:...`. */
  readonly asked: string[] = [];
  /** In front of every path at the CDN. */
  place = "/blobs";

  readonly #blobs = new Map<string, BlobContent>();
  readonly #repositories = new Map<string, Set<string>>();
  /** By `repository:tag` and `repository@digest`. */
  readonly #manifests = new Map<string, Content>();
  readonly #scripts = new Map<string, CdnAnswer[]>();
  readonly #servers: http.Server[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #waiting = new Set<() => void>();
  #registryUrl = "";
  #cdnUrl = "";
  #redirects = 0;
  #limit = Number.POSITIVE_INFINITY;

  get registryUrl(): string {
    return this.#registryUrl;
  }

  /** What makes it an upstream: a section of `upstreams`. Bodies that are held back, and busy machines, take their time. */
  get upstream(): Readonly<Record<string, unknown>> {
    return {
      endpoints: [this.#registryUrl],
      redirects: { allow: ["127.0.0.0/8"] },
      timeouts: { connect: "1h", headers: "1h", body: "1h" },
    };
  }

  async listen(): Promise<void> {
    this.#registryUrl = await this.#serve("127.0.0.1", (request, response) => this.#registry(request, response));
    this.#cdnUrl = await this.#serve("127.0.0.2", (request, response) => this.#cdn(request, response));
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.sendUpTo(Number.POSITIVE_INFINITY);
    await Promise.all(
      this.#servers.map(async (server) => {
        server.close();
        await once(server, "close");
      }),
    );
  }

  add(repository: string, ...blobs: readonly BlobContent[]): void {
    const held = this.#repositories.get(repository) ?? new Set();
    this.#repositories.set(repository, held);
    for (const blob of blobs) {
      held.add(blob.digest);
      this.#blobs.set(blob.digest, blob);
    }
  }

  /** From now on the repository is without it. */
  remove(repository: string, { digest }: BlobContent): void {
    this.#repositories.get(repository)?.delete(digest);
  }

  addManifest(repository: string, tag: string, manifest: Content): void {
    this.#manifests.set(`${repository}:${tag}`, manifest);
    this.#manifests.set(`${repository}@${manifest.digest}`, manifest);
  }

  /** One answer for each GET of the blob at the CDN from now on; right ones when they are used up. */
  answer(blob: BlobContent, ...answers: readonly CdnAnswer[]): void {
    this.#scripts.set(blob.digest, [...answers]);
  }

  /** Bodies that go to the end of their blob stop before this position of it until it is moved; bounded ranges do not. */
  sendUpTo(position: number): void {
    this.#limit = position;
    for (const goOn of [...this.#waiting]) goOn();
  }

  /** What the CDN was asked for, as `[first byte asked for, bytes sent]`. */
  get ledger(): readonly (readonly [number, number])[] {
    return this.gets.map(({ range, sent }) => [Number(/^bytes=(\d+)-/.exec(range ?? "")?.[1] ?? 0), sent]);
  }

  /** Downloads that are under way. */
  get open(): number {
    return this.gets.filter(({ over }) => !over).length;
  }

  /** Bytes of bodies that the CDN has sent. */
  get sent(): number {
    return this.gets.reduce((sum, get) => sum + get.sent, 0);
  }

  forget(): void {
    this.gets.length = 0;
    this.asked.length = 0;
  }

  async #serve(
    host: string,
    handle: (request: http.IncomingMessage, response: http.ServerResponse) => Promise<void>,
  ): Promise<string> {
    const server = http.createServer((request, response) => {
      handle(request, response).catch(() => response.destroy());
    });
    server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
    this.#servers.push(server);
    server.listen(0, host);
    await once(server, "listening");
    return `http://${host}:${(server.address() as AddressInfo).port}`;
  }

  async #registry(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const [, where = "", reference] = MANIFEST_ROUTE.exec(request.url ?? "") ?? [];
    const manifest = reference && this.#manifests.get(`${where}${reference.includes(":") ? "@" : ":"}${reference}`);
    if (manifest) {
      this.asked.push(`${request.method} ${where}/${reference}`);
      const { mediaType, digest, bytes } = manifest;
      const headers = { "content-type": mediaType, "docker-content-digest": digest, "content-length": bytes.length };
      response.writeHead(200, headers).end(request.method === "HEAD" ? undefined : bytes);
      return;
    }
    const [, repository = "", digest = ""] = ROUTE.exec(request.url ?? "") ?? [];
    this.asked.push(`${request.method} ${repository}/${digest}`);
    if (this.#repositories.get(repository)?.has(digest) !== true) {
      const body = JSON.stringify({ errors: [{ code: "BLOB_UNKNOWN", message: "blob unknown to registry" }] });
      response.writeHead(404, { "content-type": "application/json", "content-length": body.length }).end(body);
      return;
    }
    this.#redirects += 1;
    const location = `${this.#cdnUrl}${this.place}/${repository}/${digest}?signature=${this.#redirects}`;
    response.writeHead(307, { location, "content-length": 0 }).end();
  }

  async #cdn(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const path = (request.url ?? "").replace(/\?.*/, "");
    const digest = path.slice(path.lastIndexOf("/") + 1);
    const blob = this.#blobs.get(digest);
    if (blob === undefined) throw new Error(`no blob at ${path}`);
    const script = this.#scripts.get(digest)?.shift() ?? {};
    const { range } = request.headers;
    const asked = script.whole === true ? null : /^bytes=(\d+)-(\d*)$/.exec(range ?? "");
    const total = script.total ?? blob.size;
    const start = Number(asked?.[1] ?? 0);
    const last = asked === null || asked[2] === "" ? total - 1 : Math.min(Number(asked[2]), total - 1);
    const empty = script.status ?? (asked !== null && start >= total ? 416 : undefined);
    const status = empty ?? (asked === null ? 200 : 206);
    const clientPort = request.socket.remotePort;
    const get: OriginGet = { path, range, status, start: script.from ?? start, clientPort, sent: 0, over: false };
    this.gets.push(get);
    response.once("close", () => {
      get.over = true;
    });
    if (empty !== undefined) {
      response.writeHead(empty, { "content-range": `bytes */${total}`, "content-length": 0, ...script.headers }).end();
      return;
    }
    response.writeHead(status, {
      "content-type": "application/octet-stream",
      ...(script.chunked === true ? {} : { "content-length": last + 1 - start }),
      ...(asked === null ? {} : { "content-range": `bytes ${start}-${last}/${total}` }),
      ...script.headers,
    });
    response.flushHeaders();
    await this.#send(response, blob, script, get, get.start + last + 1 - start);
  }

  async #send(
    response: http.ServerResponse,
    blob: BlobContent,
    script: CdnAnswer,
    get: OriginGet,
    promised: number,
  ): Promise<void> {
    const stop = Math.min(promised, blob.size, script.cutAt ?? Number.POSITIVE_INFINITY);
    for (let at = get.start; at < stop && !response.destroyed; ) {
      const limit = promised < blob.size ? promised : this.#limit;
      const to = Math.min(stop, limit, at + CHUNK_BYTES);
      if (to <= at) {
        await this.#moved(response);
        continue;
      }
      const chunk = spoilt(blob.read(at, to), (script.wrongByteAt ?? -1) - at);
      await new Promise<void>((resolve, reject) => {
        response.write(chunk, (error) => (error ? reject(error) : resolve()));
      });
      get.sent += chunk.length;
      at = to;
    }
    // Not a reset: that would take back what is still in the kernel's buffers.
    if (stop < promised) response.destroy();
    else response.end();
  }

  /** Resolves when the limit was moved, or the client has left. */
  async #moved(response: http.ServerResponse): Promise<void> {
    await new Promise<void>((resolve) => {
      const goOn = (): void => {
        this.#waiting.delete(goOn);
        response.off("close", goOn);
        resolve();
      };
      this.#waiting.add(goOn);
      response.once("close", goOn);
    });
  }
}

function spoilt(chunk: Buffer, at: number): Buffer {
  const byte = chunk[at];
  if (byte === undefined) return chunk;
  const copy = Buffer.from(chunk);
  copy[at] = byte ^ 0xff;
  return copy;
}
