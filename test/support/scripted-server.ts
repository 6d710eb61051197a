import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { text } from "node:stream/consumers";

/** What a request must look like for an entry to answer it; what is left out matches anything. */
export interface ScriptMatch {
  readonly method?: string;
  /** The path without its query: equal to the string, or found by the expression. */
  readonly path: string | RegExp;
  /** Parameters that the query must have with these values; a repeated parameter is an array. */
  readonly query?: Readonly<Record<string, string | readonly string[]>>;
  /** Headers (lower case) that must be so; `undefined` = must not be there. */
  readonly headers?: Readonly<Record<string, string | RegExp | undefined>>;
  /** Only while the server is in this state. */
  readonly state?: string;
}

export interface ScriptReply {
  /** 200 if left out. */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  /** Sent with its length; chunks of an iterable go out chunked unless `content-length` is given. */
  readonly body?: string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
  /** `"request"`: reset instead of answering; a number: reset after so many bytes of the body. */
  readonly cut?: "request" | number;
  /** Never answer; the connection stays open until the client or {@link ScriptedServer.close} ends it. */
  readonly hang?: boolean;
  /** Takes the socket over and writes what it likes. */
  readonly raw?: (socket: Socket) => void;
}

export interface ScriptEntry {
  readonly when: ScriptMatch;
  readonly reply: ScriptReply | ((request: LedgerEntry) => ScriptReply);
  /** Gone after its first use. */
  readonly once?: boolean;
  /** The server's state afterwards. */
  readonly then?: string;
}

/** One request as it arrived. */
export interface LedgerEntry {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  /** Lower-case names; repeated headers joined by a comma. */
  readonly headers: Readonly<Record<string, string>>;
  /** Of a POST; empty for others. */
  readonly body: string;
  /** Which connection it came on, counted from 0. */
  readonly connection: number;
}

export interface ScriptedServerOptions {
  /** 127.0.0.1 if left out. */
  readonly host?: string;
  /** PEM texts; makes it an HTTPS server. */
  readonly tls?: { readonly cert: string; readonly key: string };
  readonly state?: string;
}

export interface ScriptedServer {
  readonly url: URL;
  readonly port: number;
  /** Every request so far, in order of arrival, matched or not. */
  readonly ledger: readonly LedgerEntry[];
  /** The ledger as `METHOD /path` lines. */
  readonly lines: readonly string[];
  state: string;
  /** New entries are looked at before older ones. */
  add(...entries: readonly ScriptEntry[]): void;
  /** Ends every connection. Rejects when a request matched no entry, so that a test that awaits it fails. */
  close(): Promise<void>;
}

/**
 * A server on a free port that answers from a list: the first entry that matches answers. A request that matches none gets
 * 599 and makes {@link ScriptedServer.close} reject.
 */
export async function startScriptedServer(
  entries: readonly ScriptEntry[],
  options: ScriptedServerOptions = {},
): Promise<ScriptedServer> {
  const script = [...entries];
  const ledger: LedgerEntry[] = [];
  const unmatched: string[] = [];
  const connections = new Map<Duplex, number>();
  let accepted = 0;
  let state = options.state ?? "";

  const handle = (request: http.IncomingMessage, response: http.ServerResponse): void => {
    if (request.method !== "POST") {
      request.resume();
      respond(request, response, "");
      return;
    }
    text(request).then(
      (body) => respond(request, response, body),
      () => response.destroy(),
    );
  };

  const respond = (request: http.IncomingMessage, response: http.ServerResponse, body: string): void => {
    const entry = ledgerEntry(request, body, connections.get(request.socket) ?? -1);
    ledger.push(entry);
    const index = script.findIndex((candidate) => matches(candidate.when, entry, state));
    const found = script[index];
    if (found === undefined) {
      unmatched.push(`${entry.method} ${request.url ?? ""}`);
      response.writeHead(599).end();
      return;
    }
    if (found.once === true) script.splice(index, 1);
    if (found.then !== undefined) state = found.then;
    answer(typeof found.reply === "function" ? found.reply(entry) : found.reply, request, response).catch(() => {
      // The client has left in mid-body, which is the client's business.
      response.destroy();
    });
  };

  const server =
    options.tls === undefined
      ? http.createServer({ maxHeaderSize: 1 << 20 }, handle)
      : https.createServer({ ...options.tls, maxHeaderSize: 1 << 20 }, handle);
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
  });
  server.on(options.tls === undefined ? "connection" : "secureConnection", (socket: Duplex) => {
    connections.set(socket, accepted++);
    socket.on("error", () => socket.destroy());
  });
  server.listen(0, options.host ?? "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;

  return {
    url: new URL(`${options.tls === undefined ? "http" : "https"}://${options.host ?? "127.0.0.1"}:${port}`),
    port,
    ledger,
    get lines() {
      return ledger.map((entry) => `${entry.method} ${entry.path}`);
    },
    get state() {
      return state;
    },
    set state(value) {
      state = value;
    },
    add(...more) {
      script.unshift(...more);
    },
    async close() {
      if (server.listening) {
        const closed = once(server, "close");
        server.close();
        for (const socket of sockets) socket.destroy();
        await closed;
      }
      if (unmatched.length > 0) throw new Error(`requests that no entry matches: ${unmatched.join(", ")}`);
    },
  };
}

function ledgerEntry(request: http.IncomingMessage, body: string, connection: number): LedgerEntry {
  const target = request.url ?? "";
  const mark = target.indexOf("?");
  return {
    method: request.method ?? "",
    path: mark < 0 ? target : target.slice(0, mark),
    query: new URLSearchParams(mark < 0 ? "" : target.slice(mark + 1)),
    headers: Object.fromEntries(
      Object.entries(request.headersDistinct).map(([name, values]) => [name, (values ?? []).join(", ")]),
    ),
    body,
    connection,
  };
}

function matches(when: ScriptMatch, entry: LedgerEntry, state: string): boolean {
  if (when.method !== undefined && when.method !== entry.method) return false;
  if (when.state !== undefined && when.state !== state) return false;
  if (typeof when.path === "string" ? when.path !== entry.path : !when.path.test(entry.path)) return false;
  for (const [name, value] of Object.entries(when.query ?? {})) {
    const wanted = typeof value === "string" ? [value] : value;
    if (entry.query.getAll(name).join("\n") !== wanted.join("\n")) return false;
  }
  for (const [name, value] of Object.entries(when.headers ?? {})) {
    const actual = entry.headers[name];
    if (value instanceof RegExp ? actual === undefined || !value.test(actual) : value !== actual) return false;
  }
  return true;
}

async function answer(reply: ScriptReply, request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
  if (reply.hang === true) return;
  if (reply.raw !== undefined) {
    reply.raw(request.socket);
    return;
  }
  if (reply.cut === "request") {
    request.socket.resetAndDestroy();
    return;
  }
  const whole = typeof reply.body === "string" ? Buffer.from(reply.body) : reply.body;
  response.statusCode = reply.status ?? 200;
  if (whole === undefined) response.setHeader("content-length", 0);
  if (whole instanceof Uint8Array) response.setHeader("content-length", whole.byteLength);
  for (const [name, value] of Object.entries(reply.headers ?? {})) response.setHeader(name, value);
  let left = reply.cut ?? Number.POSITIVE_INFINITY;
  for await (const chunk of whole === undefined || whole instanceof Uint8Array ? [whole ?? new Uint8Array()] : whole) {
    if (response.destroyed) return;
    const part = chunk.subarray(0, left);
    left -= part.byteLength;
    if (!response.write(part)) await Promise.race([once(response, "drain"), once(response, "close")]);
    if (left === 0) {
      // What was written must have left the process before the reset, which throws away what the kernel holds back.
      await new Promise((resolve) => response.write("", resolve));
      setImmediate(() => request.socket.resetAndDestroy());
      return;
    }
  }
  response.end();
}
