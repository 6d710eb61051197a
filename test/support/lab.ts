/**
 * A network namespace in which real clients run: clients fall back to the public registries when a mirror fails, and
 * here the public registries' names lead to a double that fails the test when it is asked. No packet can leave.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import https from "node:https";
import type { Server, Socket } from "node:net";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import { createAuthority } from "./certificates.ts";
import type { AgentReply, AgentRequest } from "./lab-agent.ts";
import type { Network } from "./network.ts";
import { run, tempFolder, until } from "./processes.ts";
import { requireTool } from "./tools.ts";

/** What a test must ask for (toolTest) to use a laboratory. */
export const LAB_TOOLS = ["root", "netns", "mount", "ip", "nsenter", "unshare", "openssl"];

const PUBLIC_NAMES = [
  "docker.io",
  "index.docker.io",
  "registry-1.docker.io",
  "auth.docker.io",
  "production.cloudflare.docker.com",
  "quay.io",
  "gcr.io",
  "ghcr.io",
  "registry.gitlab.com",
  "registry.k8s.io",
  "mcr.microsoft.com",
  "public.ecr.aws",
];

const AGENT = new URL("./lab-agent.ts", import.meta.url).pathname;
/** Ports inside are all free; these stand apart from the kernel's own choice (32768 and up). */
const FIRST_PORT = 20_000;

export interface Lab extends Network {
  readonly name: string;
  /** Makes Go programs trust the fallback double, so that a fallback is seen as a request and not as a TLS error. */
  readonly env: Readonly<Record<string, string>>;
  /** What the public registries' names were asked for so far. */
  readonly fallbacks: readonly string[];
}

/**
 * Builds a namespace with its fallback double. When `stack` is disposed of, whatever still runs inside is killed, the
 * namespace goes, and disposal fails if a client had fallen back: clean up what was started inside first, by the order
 * of the stack.
 */
export async function createLab(stack: AsyncDisposableStack): Promise<Lab> {
  const folder = await tempFolder(stack);
  const name = `weir-${process.pid}-${randomBytes(3).toString("hex")}`;
  const hosts = join(folder, "hosts");
  await writeFile(hosts, `127.0.0.1 localhost ${PUBLIC_NAMES.join(" ")}\n`);
  await run(["ip", "netns", "add", name]);
  stack.defer(async () => {
    await run(["ip", "netns", "del", name]);
  });
  await run(["ip", "-n", name, "link", "set", "lo", "up"]);
  stack.defer(() => killAll(name));

  const nsenter = requireTool("nsenter");
  // Not `ip netns exec`: that mounts /sys anew, and dockerd then misses its cgroups. Proxies of the machine are out of reach inside.
  const enter = `unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy
mount --bind '${hosts}' /etc/hosts && exec "$@"`;
  const command = (argv: readonly string[]): readonly string[] => [
    ...[nsenter, `--net=/run/netns/${name}`, requireTool("unshare"), "--mount", "sh", "-c", enter, "sh"],
    ...argv,
  ];
  const agent = await startAgent(command([process.execPath, AGENT]));
  stack.defer(() => agent.close());

  let port = FIRST_PORT;
  const authority = await createAuthority(stack);
  const fallbacks: string[] = [];
  const lab: Lab = {
    name,
    fallbacks,
    env: { SSL_CERT_FILE: authority.caFile },
    command,
    async listen(server, host, wanted) {
      const { message, handle } = await agent.ask({ kind: "listen", host, port: wanted });
      server.listen(handle);
      await once(server, "listening");
      return message.port ?? 0;
    },
    async connect(host, to) {
      return (await agent.ask({ kind: "connect", host, port: to })).handle as Socket;
    },
    async freePort() {
      port += 1;
      return port;
    },
  };
  const double = fallbackDouble(await authority.issue(PUBLIC_NAMES), fallbacks);
  await lab.listen(double, "127.0.0.1", 443);
  stack.defer(async () => {
    double.closeAllConnections();
    double.close();
    if (fallbacks.length > 0) throw new Error(`a client went past the cache:\n${fallbacks.join("\n")}`);
  });
  return lab;
}

/** Plays every public registry, refuses everything and writes it down. */
function fallbackDouble(tls: { readonly cert: string; readonly key: string }, asked: string[]): https.Server {
  const server = https.createServer({ cert: tls.cert, key: tls.key }, (request, response) => {
    asked.push(`${request.method} https://${request.headers.host}${request.url}`);
    response.writeHead(503).end();
  });
  server.on("tlsClientError", (error: Error, socket: TLSSocket) => {
    asked.push(`TLS to ${String(socket.servername)}: ${error.message}`);
  });
  return server;
}

interface Agent {
  ask(request: Omit<AgentRequest, "id">): Promise<{ message: AgentReply; handle: Server | Socket | undefined }>;
  close(): Promise<void>;
}

async function startAgent(argv: readonly string[]): Promise<Agent> {
  const [program = "", ...args] = argv;
  const child: ChildProcess = spawn(program, args, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  await once(child, "spawn");
  const waiting = new Map<number, (reply: { message: AgentReply; handle: Server | Socket | undefined }) => void>();
  child.on("message", (message, handle) => {
    const reply = message as AgentReply;
    waiting.get(reply.id)?.({ message: reply, handle: handle as Server | Socket | undefined });
    waiting.delete(reply.id);
  });
  child.on("exit", () => {
    for (const [id, answer] of waiting) answer({ message: { id, error: "the agent is gone" }, handle: undefined });
    waiting.clear();
  });
  let lastId = 0;
  return {
    async ask(request) {
      if (!child.connected) throw new Error("the agent is gone");
      lastId += 1;
      const id = lastId;
      const reply = await new Promise<{ message: AgentReply; handle: Server | Socket | undefined }>((resolve) => {
        waiting.set(id, resolve);
        child.send({ ...request, id });
      });
      if (reply.message.error !== undefined) throw new Error(`${request.kind}: ${reply.message.error}`);
      return reply;
    },
    async close() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.disconnect();
      await once(child, "exit");
    },
  };
}

/** Ends what an engine left behind in the namespace, such as a daemon of a killed daemon. */
async function killAll(name: string): Promise<void> {
  await until(`namespace ${name} to be empty`, async () => {
    const pids = (await run(["ip", "netns", "pids", name])).stdout.split("\n").filter((line) => line !== "");
    for (const pid of pids) {
      try {
        process.kill(Number(pid), "SIGKILL");
      } catch {
        // It left by itself.
      }
    }
    return pids.length === 0;
  });
}
