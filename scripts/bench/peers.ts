import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { findProgram, freePort, startServer } from "./measure.ts";

/** A server under measurement. Whoever starts it stops it. */
export interface Peer {
  readonly base: string;
  readonly child: ChildProcess;
  /** Another server without which this one does nothing: what it uses counts too. */
  readonly behind?: Peer;
}

export interface Weir extends Peer {
  /** Where the admin listener is. */
  readonly admin: string;
  /** The storage's root. */
  readonly data: string;
}

const ROOT = new URL("../../", import.meta.url).pathname;

/** What `npm start` gives to Node, without the command line's own words. */
export function weirArguments(): string[] {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    readonly scripts: { readonly start: string };
  };
  const [node, ...args] = scripts.start.split(" ");
  if (node !== "node" || args.pop() !== "serve") throw new Error(`no start to measure: ${scripts.start}`);
  return args.map((arg) => (arg.includes("/") ? join(ROOT, arg) : arg));
}

/** The paths of the programs; ends the process with a sentence when one is missing. */
export function requirePrograms<N extends string>(...names: readonly N[]): Record<N, string> {
  const found = names.map((name) => [name, findProgram(name)] as const);
  const missing = found.filter(([, path]) => path === undefined).map(([name]) => name);
  if (missing.length > 0) {
    console.error(`this benchmark needs ${missing.join(", ")}; Debian's packages are in .ci/packages.txt`);
    process.exit(1);
  }
  return Object.fromEntries(found) as Record<N, string>;
}

/**
 * The built Weir in front of `origin`, which is its default upstream.
 *
 * @param o.main the program, with arguments that come before the command line's own; as `npm start` has it if left out
 * @param o.workers `server.workers`; the default if left out
 * @param o.server more of `server`
 * @param o.channel whether messages can be sent to it
 * @param o.upstream more of the origin's section
 * @param o.storage more of `storage`
 * @param o.data the storage's root; a folder of its own, empty, if left out
 * @param o.telemetry more of `telemetry`
 */
export async function startWeir(
  folder: string,
  origin: string,
  o: {
    readonly logLevel?: string;
    readonly main?: readonly string[];
    readonly workers?: number;
    readonly server?: Readonly<Record<string, unknown>>;
    readonly channel?: boolean;
    readonly upstream?: Readonly<Record<string, unknown>>;
    readonly storage?: Readonly<Record<string, unknown>>;
    readonly data?: string;
    readonly telemetry?: Readonly<Record<string, unknown>>;
  } = {},
): Promise<Weir> {
  const { logLevel = "warn", main = weirArguments(), workers, channel } = o;
  const root = await mkdtemp(join(folder, "weir-"));
  const data = o.data ?? join(root, "data");
  const [port, adminPort] = [await freePort(), await freePort()];
  const file = join(root, "weir.json");
  await writeFile(
    file,
    JSON.stringify({
      server: { listen: `127.0.0.1:${port}`, ...(workers === undefined ? {} : { workers }), ...o.server },
      admin: { listen: `127.0.0.1:${adminPort}` },
      routing: { default: "origin.test" },
      upstreams: { "origin.test": { type: "generic", endpoints: [origin], ...o.upstream } },
      storage: { driver: "filesystem", filesystem: { root: data }, ...o.storage },
      telemetry: { logLevel, ...o.telemetry },
    }),
  );
  const admin = `http://127.0.0.1:${adminPort}`;
  const args = [...main, "serve", "--config", file];
  const child = await startServer(process.execPath, args, `${admin}/readyz`, { channel, ok: true });
  return { base: `http://127.0.0.1:${port}`, child, admin, data };
}

/**
 * Debian's registry; a pull-through one where an origin is given.
 *
 * @param data the storage's root; a folder of its own, empty, if left out
 */
export async function startRegistry(folder: string, program: string, origin?: string, data?: string): Promise<Peer> {
  const root = await mkdtemp(join(folder, "registry-"));
  const port = await freePort();
  const file = join(root, "config.yml");
  await writeFile(
    file,
    `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {cache: {blobdescriptor: inmemory}, filesystem: {rootdirectory: ${data ?? join(root, "data")}}}
http: {addr: "127.0.0.1:${port}"}
${origin === undefined ? "" : `proxy: {remoteurl: "${origin}"}`}
`,
  );
  const base = `http://127.0.0.1:${port}`;
  return { base, child: await startServer(program, ["serve", file], `${base}/v2/`) };
}

/**
 * nginx with these directives in its `http` block, where `PORT` stands for the port that it listens on. Logs and temporary
 * files go to the folder.
 */
export async function startNginx(folder: string, program: string, workers: number, http: string): Promise<Peer> {
  const root = await mkdtemp(join(folder, "nginx-"));
  const port = await freePort();
  // Started by root, its workers would be somebody else, who may not look into the temporary folder.
  const user = process.getuid?.() === 0 ? "user root;" : "";
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((kind) => `${kind}_temp_path ${root}/${kind};`)
    .join(" ");
  await writeFile(
    join(root, "nginx.conf"),
    `${user} worker_processes ${workers}; daemon off; pid ${root}/nginx.pid; error_log ${root}/error.log;
events { worker_connections 1024; }
http { ${temporary} access_log off; sendfile on;
${http.replaceAll("PORT", String(port))}
}`,
  );
  const base = `http://127.0.0.1:${port}`;
  return { base, child: await startServer(program, ["-c", join(root, "nginx.conf"), "-p", root], `${base}/v2/`) };
}
