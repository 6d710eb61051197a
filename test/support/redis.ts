/** A redis-server of one's own, and a line to it (or to anything else) that can be slow or cut. For tests behind `toolTest(["redis-server"], …)`. */
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { freePort, ready, run, start, tempFolder } from "./processes.ts";

export interface RedisServer {
  readonly port: number;
  readonly url: string;
  /** Sends one command with redis-cli and gives what it prints. */
  command(...words: string[]): Promise<string>;
  /** Ends the process; what it held is lost. */
  kill(): Promise<void>;
  /** Starts it again on the same port, empty. */
  restart(): Promise<void>;
}

/** Keeps nothing on disk. Stopped with `stack`. */
export async function startRedis(stack: AsyncDisposableStack, options: readonly string[] = []): Promise<RedisServer> {
  const dir = await tempFolder(stack);
  const port = await freePort();
  const launch = async () => {
    const running = await start([
      ...["redis-server", "--port", String(port), "--bind", "127.0.0.1", "--dir", dir],
      ...["--save", "", "--appendonly", "no"],
      ...options,
    ]);
    await ready("redis-server", running, () => answers(port));
    return running;
  };
  let running = await launch();
  stack.defer(async () => {
    await running.stop();
  });
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    async command(...words) {
      const { stdout } = await run(["redis-cli", "-p", String(port), ...words]);
      return stdout.trim();
    },
    async kill() {
      running.kill("SIGKILL");
      await running.exited;
    },
    async restart() {
      running = await launch();
    },
  };
}

/** A sentinel that watches one master on 127.0.0.1. */
export async function startSentinel(
  stack: AsyncDisposableStack,
  master: { readonly name: string; readonly port: number },
): Promise<{ readonly port: number }> {
  const dir = await tempFolder(stack);
  const port = await freePort();
  const file = join(dir, "sentinel.conf");
  await writeFile(file, `port ${port}\nbind 127.0.0.1\nsentinel monitor ${master.name} 127.0.0.1 ${master.port} 1\n`);
  const running = await start(["redis-server", file, "--sentinel"]);
  stack.defer(async () => {
    await running.stop();
  });
  await ready("the sentinel", running, () => answers(port));
  return { port };
}

export interface SlowLine {
  readonly port: number;
  /** Milliseconds that everything the server says is kept back from now on. */
  delayMs: number;
  /** While it is, nothing passes either way, and nobody is told: what was sent arrives when it is mended. */
  cut: boolean;
}

/** A TCP line to a local port. */
export async function slowLine(stack: AsyncDisposableStack, target: number): Promise<SlowLine> {
  const sockets = new Set<Socket>();
  let cut = false;
  const line = {
    port: 0,
    delayMs: 0,
    get cut() {
      return cut;
    },
    set cut(now: boolean) {
      cut = now;
      for (const socket of sockets) now ? socket.pause() : socket.resume();
    },
  };
  const server = createServer((near) => {
    const far = connect(target, "127.0.0.1");
    let sent = Promise.resolve();
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        near.destroy();
        far.destroy();
        sockets.delete(socket);
      });
    }
    near.on("data", (data) => far.write(data));
    if (cut) for (const socket of [near, far]) socket.pause();
    far.on("data", (data) => {
      const ms = line.delayMs;
      sent = sent.then(async () => {
        if (ms > 0) await delay(ms);
        near.write(data);
      });
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  line.port = address.port;
  stack.defer(async () => {
    server.close();
    for (const socket of sockets) socket.destroy();
    await once(server, "close");
  });
  return line;
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    socket.write("PING\r\n");
    const [data] = (await once(socket, "data")) as [Buffer];
    return /^(\+PONG|-NOAUTH)/.test(data.toString("latin1"));
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
