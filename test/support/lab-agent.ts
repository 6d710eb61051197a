/**
 * Runs inside the laboratory's network namespace and makes sockets there for the test process outside: a socket stays
 * in the namespace in which it was made, whoever holds it.
 */
import { connect, createServer, type Server, type Socket } from "node:net";

export interface AgentRequest {
  readonly id: number;
  readonly kind: "listen" | "connect";
  readonly host: string;
  readonly port: number;
}

export interface AgentReply {
  readonly id: number;
  readonly port?: number;
  readonly error?: string;
}

process.on("message", (request: AgentRequest) => {
  if (request.kind === "listen") listen(request);
  else open(request);
});

function listen({ id, host, port }: AgentRequest): void {
  const server = createServer();
  server.once("error", (error) => reply({ id, error: error.message }));
  server.listen(port, host, () => {
    const address = server.address();
    if (address === null || typeof address === "string") return reply({ id, error: "no port" });
    // This process lets go of its copy at once; the one that was sent goes on listening.
    reply({ id, port: address.port }, server, () => server.close());
  });
}

function open({ id, host, port }: AgentRequest): void {
  const socket = connect(port, host);
  socket.once("error", (error) => reply({ id, error: error.message }));
  socket.once("connect", () => reply({ id }, socket));
}

function reply(message: AgentReply, handle?: Server | Socket, sent?: () => void): void {
  process.send?.(message, handle, undefined, () => sent?.());
}
