/** Where servers, programs and requests of a test live: the machine's own loopback, or a namespace of its own (lab.ts). */
import { once } from "node:events";
import http from "node:http";
import { type AddressInfo, connect, type Server, type Socket } from "node:net";
import { freePort } from "./processes.ts";
import { recorder } from "./recorder/recorder.ts";

export interface Network {
  /** The command line that runs `argv` in this network. */
  command(argv: readonly string[]): readonly string[];
  /** Makes `server`, which belongs to the test's own process, listen here. Port 0 picks one. Resolves with the port. */
  listen(server: Server, host: string, port: number): Promise<number>;
  connect(host: string, port: number): Promise<Socket>;
  freePort(): Promise<number>;
}

export const hostNetwork: Network = {
  command: (argv) => argv,
  async listen(server, host, port) {
    server.listen(port, host);
    await once(server, "listening");
    return (server.address() as AddressInfo).port;
  },
  async connect(host, port) {
    const socket = connect(port, host);
    await once(socket, "connect");
    return socket;
  },
  freePort,
};

export interface HttpReply {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface HttpRequestOptions {
  readonly method?: string;
  readonly headers?: http.OutgoingHttpHeaders;
  readonly body?: Uint8Array | string;
  readonly network?: Network;
}

/**
 * One plain HTTP exchange on a connection of its own: the path goes out as written, redirects are not followed and
 * bodies not decoded. Rejects when the connection breaks before the body's end.
 */
export async function httpRequest(url: string, options: HttpRequestOptions = {}): Promise<HttpReply> {
  const { host, hostname, port } = new URL(url);
  const socket = await (options.network ?? hostNetwork).connect(hostname, Number(port));
  try {
    const request = http.request({
      createConnection: () => socket,
      path: url.slice(url.indexOf(host) + host.length) || "/",
      method: options.method ?? "GET",
      headers: { host, ...options.headers },
    });
    request.end(options.body);
    const [response] = (await once(request, "response")) as [http.IncomingMessage];
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    const reply = { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) };
    recorder.answered(host, reply);
    return reply;
  } finally {
    socket.destroy();
  }
}

/** True when the address answers a GET with that status; false when it does not answer, or otherwise. For {@link ready}. */
export async function answers(url: string, status: number, network: Network = hostNetwork): Promise<boolean> {
  try {
    return (await httpRequest(url, { network })).status === status;
  } catch {
    return false;
  }
}
