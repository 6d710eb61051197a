/** An HTTP proxy on loopback that tunnels (CONNECT) and forwards plain HTTP, and keeps a ledger of what it was asked. */
import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import { type AddressInfo, connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";

export interface ProxyEntry {
  readonly method: string;
  /** As asked: `host:port` of a CONNECT, else the whole URL. */
  readonly target: string;
  /** `Proxy-Authorization`, as it came. */
  readonly credentials: string | undefined;
  /** Every other header. */
  readonly headers: http.IncomingHttpHeaders;
}

export interface ConnectProxyOptions {
  /** PEM texts; the way to the proxy is then HTTPS. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** `user:password`; others get 407. */
  readonly account?: string;
  /** What a name means to the proxy; left out, everything is on 127.0.0.1. */
  readonly resolve?: (host: string) => string;
  /** Answers every CONNECT with this status instead. */
  readonly refuse?: number;
  /** Takes CONNECT and says nothing. */
  readonly hang?: boolean;
  /** Written behind the headers of a CONNECT's answer. */
  readonly chatter?: string;
}

export interface ConnectProxy {
  /** `http://127.0.0.1:PORT` */
  readonly url: URL;
  readonly ledger: readonly ProxyEntry[];
  /** `CONNECT host:port`, `GET http://…` */
  readonly lines: readonly string[];
  /** Open connections, on both sides of it. */
  readonly connections: number;
}

/** Started; closed with `stack`. */
export async function startConnectProxy(
  stack: AsyncDisposableStack,
  options: ConnectProxyOptions = {},
): Promise<ConnectProxy> {
  const { tls, account, resolve = () => "127.0.0.1" } = options;
  const ledger: ProxyEntry[] = [];
  const wanted = account === undefined ? undefined : `Basic ${Buffer.from(account).toString("base64")}`;
  const admit = (request: http.IncomingMessage): boolean => {
    const { "proxy-authorization": credentials, ...headers } = request.headers;
    ledger.push({ method: request.method ?? "", target: request.url ?? "", credentials, headers });
    return wanted === undefined || credentials === wanted;
  };

  const forward = (request: http.IncomingMessage, response: http.ServerResponse): void => {
    if (!admit(request)) {
      response.writeHead(407, { "proxy-authenticate": "Basic" }).end();
      return;
    }
    const url = new URL(request.url ?? "");
    const { "proxy-authorization": _, ...headers } = request.headers;
    const { method } = request;
    const onward = http.request({
      host: resolve(url.hostname),
      port: url.port || 80,
      path: url.pathname + url.search,
      method,
      headers,
    });
    onward.on("response", (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    onward.on("error", () => response.writeHead(502).end());
    request.pipe(onward);
  };
  const server = tls === undefined ? http.createServer(forward) : https.createServer(tls, forward);

  const sockets = new Set<Duplex>();
  const keep = (socket: Duplex): void => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
  };
  server.on("connection", keep);
  server.on("connect", (request: http.IncomingMessage, socket: Duplex, head: Buffer) => {
    if (!admit(request)) {
      socket.end("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n");
      return;
    }
    if (options.hang === true) return;
    if (options.refuse !== undefined) {
      socket.end(`HTTP/1.1 ${options.refuse} No\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    const [, host = "", port] = /^\[?(.*?)\]?:(\d+)$/.exec(request.url ?? "") ?? [];
    const onward: Socket = connect(Number(port), resolve(host), () => {
      socket.write(`HTTP/1.1 200 Connection established\r\n\r\n${options.chatter ?? ""}`);
      onward.write(head);
      socket.pipe(onward).pipe(socket);
    });
    keep(onward);
    onward.once("close", () => socket.destroy());
    socket.once("close", () => onward.destroy());
  });

  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stack.defer(async () => {
    const closed = once(server, "close");
    server.close();
    for (const socket of sockets) socket.destroy();
    await closed;
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: new URL(`${tls === undefined ? "http" : "https"}://127.0.0.1:${port}`),
    ledger,
    get lines() {
      return ledger.map(({ method, target }) => `${method} ${target}`);
    },
    get connections() {
      return sockets.size;
    },
  };
}
