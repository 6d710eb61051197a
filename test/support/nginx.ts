/** Debian's nginx with the configurations that Weir ships, and what stands between it and Weir in tests. */
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import http from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { hostNetwork, type Network } from "./network.ts";
import { type RunningProcess, ready, run, start, tempFolder } from "./processes.ts";

const SHIPPED = new URL("../../config/nginx/", import.meta.url);

/** The text of a shipped configuration, with parts replaced of which each has to stand there exactly once. */
export async function shippedNginx(name: string, changes: Readonly<Record<string, string>>): Promise<string> {
  let text = await readFile(new URL(name, SHIPPED), "utf8");
  for (const [part, by] of Object.entries(changes)) {
    if (text.split(part).length !== 2) throw new Error(`config/nginx/${name} has to have once: ${part}`);
    text = text.replace(part, () => by);
  }
  return text;
}

export interface NginxOptions {
  /** Directives of the `http` block. */
  readonly http: string;
  /** That answers once it is up. */
  readonly port: number;
  /** Whom its workers run as where it is started by root; the temporary folders of tests are root's. */
  readonly user?: string;
  readonly network?: Network;
}

/** Tries the configuration (`nginx -t`), and starts it; stopped with `stack`. */
export async function startNginx(stack: AsyncDisposableStack, o: NginxOptions): Promise<RunningProcess> {
  const { network = hostNetwork, user = "root" } = o;
  const root = await tempFolder(stack);
  const file = join(root, "nginx.conf");
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  await writeFile(
    file,
    `${process.getuid?.() === 0 ? `user ${user};` : ""} worker_processes 1; daemon off; pid ${root}/pid; error_log stderr info;
events { worker_connections 256; }
http { access_log off; ${temporary.map((kind) => `${kind}_temp_path ${root}/${kind};`).join(" ")}
${o.http}
}`,
  );
  const argv = ["nginx", "-c", file, "-p", root, "-e", "stderr"];
  await run([...argv, "-t"]);
  const nginx = await start(network.command(argv));
  stack.defer(async () => {
    await nginx.stop();
  });
  await ready("nginx", nginx, async () => {
    try {
      (await network.connect("127.0.0.1", o.port)).destroy();
      return true;
    } catch {
      return false;
    }
  });
  return nginx;
}

/** Connections that come from another address of this machine, and perhaps speak TLS. */
export function from(localAddress: string, ca?: string): Network {
  return {
    ...hostNetwork,
    async connect(host, port) {
      if (ca === undefined) {
        const socket = connect({ host, port, localAddress });
        await once(socket, "connect");
        return socket;
      }
      const socket = connectTls({ host, port, ca, servername: "localhost", ...{ localAddress } });
      await once(socket, "secureConnect");
      return socket;
    },
  };
}

/** What nginx asked Weir, and what it was told. */
export interface Relayed {
  readonly method: string;
  readonly path: string;
  readonly sent: http.IncomingHttpHeaders;
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  /** Of the answer. */
  readonly bodyBytes: number;
}

export interface Relay {
  readonly host: string;
  readonly seen: readonly Relayed[];
  /** Done before an answer goes on to nginx. */
  before: (answer: http.IncomingMessage) => Promise<void>;
}

/** Stands between nginx and Weir, takes down what they say, and can do something in between. */
export async function startRelay(stack: AsyncDisposableStack, weirUrl: string): Promise<Relay> {
  const seen: Relayed[] = [];
  const server = http.createServer((req, res) => {
    const asked = http.request(weirUrl, { path: req.url, method: req.method, headers: req.headers, agent: false });
    asked.on("error", () => res.destroy());
    asked.on("response", async (answer) => {
      await relay.before(answer);
      res.writeHead(answer.statusCode ?? 0, answer.rawHeaders);
      let bodyBytes = 0;
      answer.on("data", (chunk: Buffer) => {
        bodyBytes += chunk.length;
        res.write(chunk);
      });
      answer.on("error", () => res.destroy());
      answer.on("end", () => {
        const { method = "", url: path = "", headers: sent } = req;
        seen.push({ method, path, sent, status: answer.statusCode ?? 0, headers: answer.headers, bodyBytes });
        res.end();
      });
    });
    req.pipe(asked);
  });
  const port = await hostNetwork.listen(server, "127.0.0.1", 0);
  stack.defer(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });
  const relay: Relay = { host: `127.0.0.1:${port}`, seen, before: async () => {} };
  return relay;
}
