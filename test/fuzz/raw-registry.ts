/** A registry that says whatever a test wants, byte for byte, also what no HTTP server would send. */

import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createServer, type Socket } from "node:net";

export interface RawAnswer {
  readonly status: number;
  /** Written as they are. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Uint8Array;
}

export interface Asked {
  readonly method: string;
  readonly path: string;
}

export interface RawRegistry {
  readonly url: string;
  /** Answers every request from now on. */
  answer: (asked: Asked) => RawAnswer;
  /** Requests so far. */
  readonly asked: readonly Asked[];
}

/** Closed with `stack`. Each connection is for one request. */
export async function startRawRegistry(
  stack: AsyncDisposableStack,
  answer: RawRegistry["answer"],
): Promise<RawRegistry> {
  const sockets = new Set<Socket>();
  const asked: Asked[] = [];
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    socket.on("error", () => {});
    let head = "";
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => {
      head += text;
      if (!head.includes("\r\n\r\n")) return;
      const [method = "", path = ""] = head.split(" ", 2);
      head = "";
      asked.push({ method, path });
      const { status, headers, body } = registry.answer({ method, path });
      const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
      socket.write(
        `HTTP/1.1 ${status} Whatever\r\nConnection: close\r\nContent-Length: ${body.length}\r\n${lines}\r\n`,
        "latin1",
      );
      socket.end(method === "HEAD" ? "" : body);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stack.defer(async () => {
    server.close();
    for (const socket of sockets) socket.destroy();
    await once(server, "close");
  });
  const registry: RawRegistry = { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, answer, asked };
  return registry;
}
