/** The front server on a free port with a scripted pull-through behind it, and clients that see the bytes on the wire. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { ClientAddresses, createAddressGate } from "../../../src/access/client-addresses.ts";
import type { DenialReason } from "../../../src/access/denied-error.ts";
import { anonymous } from "../../../src/access/identity.ts";
import { systemClock } from "../../../src/base/system-clock.ts";
import type { AccessConfig, ServerConfig } from "../../../src/config/types.ts";
import type { ClientGate } from "../../../src/http/clients.ts";
import { LISTENER_TIMEOUTS } from "../../../src/http/listener.ts";
import type { AnsweredRequest, ConnectionEnd } from "../../../src/http/observer.ts";
import { createRouteTable } from "../../../src/http/route.ts";
import { createFrontServer, type FrontServer, type FrontServerDeps } from "../../../src/http/server.ts";
import { digestOf } from "../../../src/oci/digest.ts";
import type {
  BlobAnswer,
  BlobCall,
  CacheInfo,
  CatalogAnswer,
  CatalogCall,
  ManifestAnswer,
  ManifestCall,
  PullThrough,
  ReadyAnswer,
  ReadyCall,
  ReferrersAnswer,
  ReferrersCall,
  TagsAnswer,
  TagsCall,
} from "../../../src/proxy/answers.ts";
import { createLog } from "../../../src/telemetry/log.ts";
import { createRecentRequests } from "../../../src/telemetry/recent-requests.ts";
import { normaliseRepository } from "../../../src/upstream/adapters/index.ts";

/** Longer than anything in order takes on a busy machine, for bounds that a test waits for. */
export const ORDINARY_MS = 1_500;

const UPSTREAMS = [
  { name: "docker.io", type: "dockerhub", aliases: ["registry-1.docker.io"] },
  { name: "quay.io", type: "generic", aliases: [] },
] as const;

/** A pull-through that answers as a test says, and keeps what it was asked. */
export class ScriptedProxy implements PullThrough {
  readonly calls: (ManifestCall | BlobCall | TagsCall | ReferrersCall | CatalogCall)[] = [];
  onManifest: (call: ManifestCall) => ManifestAnswer | Promise<ManifestAnswer> = unscripted;
  onBlob: (call: BlobCall) => BlobAnswer | Promise<BlobAnswer> = unscripted;
  onTags: (call: TagsCall) => TagsAnswer | Promise<TagsAnswer> = unscripted;
  onReferrers: (call: ReferrersCall) => ReferrersAnswer | Promise<ReferrersAnswer> = unscripted;
  onCatalog: (call: CatalogCall) => CatalogAnswer | Promise<CatalogAnswer> = unscripted;

  onReady: (call: ReadyCall) => ReadyAnswer | undefined = () => undefined;

  ready(call: ReadyCall): ReadyAnswer | undefined {
    return this.onReady(call);
  }

  async manifest(call: ManifestCall): Promise<ManifestAnswer> {
    this.calls.push(call);
    return await this.onManifest(call);
  }

  async blob(call: BlobCall): Promise<BlobAnswer> {
    this.calls.push(call);
    return await this.onBlob(call);
  }

  async tags(call: TagsCall): Promise<TagsAnswer> {
    this.calls.push(call);
    return await this.onTags(call);
  }

  async referrers(call: ReferrersCall): Promise<ReferrersAnswer> {
    this.calls.push(call);
    return await this.onReferrers(call);
  }

  async catalog(call: CatalogCall): Promise<CatalogAnswer> {
    this.calls.push(call);
    return await this.onCatalog(call);
  }
}

function unscripted(): never {
  throw new Error("this call is not scripted");
}

export interface Front {
  readonly server: FrontServer;
  readonly proxy: ScriptedProxy;
  readonly port: number;
  readonly url: string;
  /** What the observer was told. */
  readonly answered: readonly AnsweredRequest[];
  readonly denied: readonly DenialReason[];
  /** An entry for each that failed. */
  readonly failedSignIns: readonly string[];
  readonly ended: readonly ConnectionEnd[];
  /** The log's lines, access lines included. */
  readonly lines: readonly Record<string, unknown>[];
  /** Resolves with the first access line that fits, past or to come. */
  accessLine(fits: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>>;
}

type Changes = Partial<Omit<FrontServerDeps, "config" | "proxy" | "clients" | "routes" | "observer" | "log">> & {
  readonly tls?: ServerConfig["tls"];
  readonly trustedProxies?: readonly string[];
  readonly accelRedirect?: string;
  readonly access?: Partial<Pick<AccessConfig, "allow" | "deny">>;
};

/** Started; stopped without grace at the end of `stack`. */
export async function startFront(stack: AsyncDisposableStack, changes: Changes = {}): Promise<Front> {
  const { tls, trustedProxies = [], accelRedirect, access = {}, ...others } = changes;
  const addresses = new ClientAddresses(trustedProxies);
  const gate = createAddressGate("access", { allow: [], deny: [], ...access });
  const clients: ClientGate = {
    addressOf: (peer, forwardedFor) => addresses.of(peer, forwardedFor),
    admit: (client) => gate.admit(client),
    mayRedirect: () => true,
    accelRedirect: (peer) => (addresses.isProxy(peer) ? accelRedirect : undefined),
    rules: () => gate,
  };
  const proxy = new ScriptedProxy();
  const answered: AnsweredRequest[] = [];
  const denied: DenialReason[] = [];
  const failedSignIns: string[] = [];
  const ended: ConnectionEnd[] = [];
  const lines: Record<string, unknown>[] = [];
  const waiting = new Set<() => void>();
  const destination = {
    write(line: string): void {
      lines.push(JSON.parse(line));
      for (const look of waiting) look();
    },
  };
  let ids = 0;
  const routes = createRouteTable(
    { default: "docker.io", hosts: new Map([["hub.example", "docker.io"]]), dynamic: { allow: [] } },
    UPSTREAMS,
    normaliseRepository,
  );
  const server = createFrontServer({
    config: { listen: { host: "127.0.0.1", port: 0 }, tls },
    limits: { requestHeaders: 16 * 1024, connections: 1000, connectionsPerClient: 1000 },
    connectionClientOf: (address) => (addresses.isProxy(address) ? undefined : address),
    proxy,
    routes: () => routes,
    clients,
    signIn: { access: () => undefined, anonymous, publicOrigin: undefined },
    observer: {
      answered: (request) => answered.push(request),
      denied: (reason) => denied.push(reason),
      signInFailed: () => failedSignIns.push("one"),
      connectionOpened() {},
      connectionClosed() {},
      connectionEnded: (why) => ended.push(why),
    },
    trails: createRecentRequests(systemClock),
    budgetStatusOf: () => 503,
    log: createLog({ level: "debug", destination }),
    clock: systemClock,
    monotonicMs: () => performance.now(),
    newRequestId: () => {
      ids += 1;
      return `made-${ids}`;
    },
    timeouts: LISTENER_TIMEOUTS,
    ...others,
  });
  const { port } = await server.listen();
  stack.defer(() => server.stop(0));
  return {
    server,
    proxy,
    port,
    url: `${tls === undefined ? "http" : "https"}://127.0.0.1:${port}`,
    answered,
    denied,
    failedSignIns,
    ended,
    lines,
    accessLine: (fits) =>
      new Promise((resolve) => {
        const look = (): void => {
          const found = lines.find((line) => line.msg === "request" && fits(line));
          if (found !== undefined) {
            waiting.delete(look);
            resolve(found);
          }
        };
        waiting.add(look);
        look();
      }),
  };
}

export const MANIFEST = Buffer.from('{"schemaVersion":2, "config":{}}\n');
export const MANIFEST_DIGEST = digestOf(MANIFEST);
export const BLOB = Buffer.from("0123456789abcdefghij");
export const BLOB_DIGEST = digestOf(BLOB);
export const BLOB_PATH = `/v2/library/nginx/blobs/${BLOB_DIGEST}`;

const HIT: CacheInfo = { outcome: "hit" };

export function manifestAnswer(changes: Partial<ManifestAnswer> = {}): ManifestAnswer {
  return {
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    digest: MANIFEST_DIGEST,
    size: MANIFEST.length,
    bytes: MANIFEST,
    visibility: "public",
    cache: HIT,
    ...changes,
  };
}

export function blobAnswer(changes: Partial<BlobAnswer> = {}): BlobAnswer {
  return {
    digest: BLOB_DIGEST,
    size: BLOB.length,
    visibility: "public",
    cache: HIT,
    part: undefined,
    body: bytesOf(BLOB),
    async release() {},
    ...changes,
  };
}

/** The chunks, and then the error if one is given. */
export async function* bytesOf(...chunks: readonly (Uint8Array | Error)[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) {
    if (chunk instanceof Error) throw chunk;
    yield chunk;
  }
}

/** How a connection ended: `end` is the orderly end of the stream, `reset` is not. */
export interface RawReply {
  readonly text: string;
  readonly ended: "end" | "reset";
}

/** Everything that comes back on a connection until it ends. */
export async function readToEnd(socket: Socket): Promise<RawReply> {
  let text = "";
  let ended: RawReply["ended"] = "reset";
  socket.setEncoding("latin1");
  socket.on("data", (chunk: string) => {
    text += chunk;
  });
  socket.on("end", () => {
    ended = "end";
  });
  socket.on("error", () => {
    ended = "reset";
  });
  await new Promise((resolve) => socket.once("close", resolve));
  return { text, ended };
}

/** Sends bytes as they are and reads until the server ends the connection. */
export async function sendRaw(port: number, bytes: string | Uint8Array): Promise<RawReply> {
  const socket = await open(port);
  socket.write(bytes);
  return await readToEnd(socket);
}

export async function open(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  return socket;
}

/** Resolves when `text` has arrived. The socket's encoding is set. */
export async function waitFor(socket: Socket, text: string): Promise<void> {
  let seen = "";
  socket.setEncoding("latin1");
  for (;;) {
    const [chunk] = await once(socket, "data");
    seen += String(chunk);
    if (seen.includes(text)) return;
  }
}
