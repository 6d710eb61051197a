import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createWriteStream, existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { createServer } from "node:net";
import { delimiter, join } from "node:path";

// Whatever way this process ends, what it started goes with it.
const alive = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of alive) child.kill("SIGKILL");
});

/** Sees to it that the process ends with this one. */
export function tracked(child: ChildProcess): ChildProcess {
  alive.add(child);
  child.once("exit", () => alive.delete(child));
  child.once("error", () => alive.delete(child));
  return child;
}

/** Ends everything that was started and still runs. */
export async function stopEverything(): Promise<void> {
  await Promise.all([...alive].map(stopServer));
}

/** More than any measurement takes: a client that waits for ever must not hold up the others. */
const LONGEST_TOOL_MS = 120_000;

/** Runs a program to its end, or until it was interrupted; gives what it printed. Throws where it fails. */
export async function spawnTool(
  command: string,
  args: readonly string[],
  { interruptAfterMs }: { readonly interruptAfterMs?: number } = {},
): Promise<string> {
  const child = tracked(
    spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], timeout: LONGEST_TOOL_MS, killSignal: "SIGKILL" }),
  );
  let [output, errors] = ["", ""];
  child.stdout?.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  child.stderr?.on("data", (chunk: Buffer) => {
    errors += chunk.toString();
  });
  const timer = interruptAfterMs === undefined ? undefined : setTimeout(() => child.kill("SIGINT"), interruptAfterMs);
  const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  clearTimeout(timer);
  if (code !== 0) throw new Error(`${command} ended with ${code ?? signal}: ${errors.trim() || output.trim()}`);
  return output;
}

/** The path of a program, also where Debian keeps daemons; undefined when it is not installed. */
export function findProgram(name: string): string | undefined {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"];
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no TCP port");
  return address.port;
}

/** Much more than any server takes on a machine that has something else to do. */
const LONGEST_START_MS = 30_000;

/** Starts a server and waits until `url` answers: at all, or with success where `ok` is asked for. The caller stops it. */
export async function startServer(
  command: string,
  args: readonly string[],
  url: string,
  { channel = false, ok = false }: { readonly channel?: boolean | undefined; readonly ok?: boolean } = {},
): Promise<ChildProcess> {
  const child = tracked(
    spawn(command, args, {
      stdio: ["ignore", "ignore", "pipe", ...(channel ? (["ipc"] as const) : [])],
    }),
  );
  let errors = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-2000);
  });
  for (const startedMs = performance.now(); performance.now() - startedMs < LONGEST_START_MS; ) {
    if (child.exitCode !== null) throw new Error(`${command} ended at once: ${errors}`);
    const up = await fetch(url).then(
      async (response) => {
        await response.arrayBuffer();
        return response.ok || !ok;
      },
      () => false,
    );
    if (up) return child;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await stopServer(child);
  throw new Error(`${command} does not answer at ${url}: ${errors}`);
}

export async function stopServer(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGTERM");
  const killer = setTimeout(() => child.kill("SIGKILL"), 5000);
  await once(child, "exit");
  clearTimeout(killer);
}

/** User and system seconds that the processes have used so far (fields 14 and 15 of /proc/PID/stat, in ticks of 10 ms). */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    // nginx has helpers that end by themselves.
    if (!existsSync(`/proc/${pid}/stat`)) continue;
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / 100;
}

/** The process and all below it (workers of nginx and of Weir). */
export function processTree(pid: number): number[] {
  let children: string[] = [];
  try {
    children = readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
      readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8").split(" ").filter(Boolean),
    );
  } catch {
    // It, or one of its threads, has ended meanwhile.
  }
  return [pid, ...children.flatMap((child) => processTree(Number(child)))];
}

/** Begins to look at what servers' processes use. */
export function watchProcesses(children: readonly ChildProcess[]): {
  /** User and system seconds since. */
  cpuSeconds(): number;
  /** The most memory that was resident since, of each process, added up. */
  peakBytes(): number;
} {
  const pids = children.flatMap(({ pid }) => (pid === undefined ? [] : processTree(pid)));
  const before = cpuSeconds(pids);
  for (const one of pids) {
    try {
      // proc(5): 5 makes the peak what is resident now.
      writeFileSync(`/proc/${one}/clear_refs`, "5");
    } catch {
      // It has ended meanwhile, or is somebody else's: then the peak is that of its whole life.
    }
  }
  return {
    cpuSeconds: () => cpuSeconds(pids) - before,
    peakBytes: () => memoryOf(pids, "VmHWM"),
  };
}

/** Resident now, of the process and all below it. */
export function residentBytes({ pid }: ChildProcess): number {
  return pid === undefined ? 0 : memoryOf(processTree(pid), "VmRSS");
}

function memoryOf(pids: readonly number[], field: "VmHWM" | "VmRSS"): number {
  let bytes = 0;
  for (const pid of pids) {
    if (!existsSync(`/proc/${pid}/status`)) continue;
    const kib = new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    bytes += Number(kib ?? 0) * 1024;
  }
  return bytes;
}

/** Sockets and files that a server's processes have open. */
export function openDescriptors({ pid }: ChildProcess): number {
  let count = 0;
  for (const one of pid === undefined ? [] : processTree(pid)) {
    for (const descriptor of readdirSync(`/proc/${one}/fd`)) {
      try {
        const target = readlinkSync(`/proc/${one}/fd/${descriptor}`);
        if (target.startsWith("/") || target.startsWith("socket:")) count += 1;
      } catch {
        // Closed meanwhile.
      }
    }
  }
  return count;
}

/** Writes `size` bytes that no compression or deduplication helps with; returns their sha256 in hex. */
export async function writeRandomFile(path: string, size: number): Promise<string> {
  const hash = createHash("sha256");
  const out = createWriteStream(path);
  for (let left = size; left > 0; ) {
    const chunk = randomBytes(Math.min(left, 1 << 20));
    hash.update(chunk);
    if (!out.write(chunk)) await once(out, "drain");
    left -= chunk.length;
  }
  out.end();
  await once(out, "close");
  return hash.digest("hex");
}

export interface Download {
  readonly firstByteMs: number;
  readonly totalMs: number;
  readonly bytes: number;
}

/** Downloads and throws the bytes away. */
export function download(url: string, headers: Readonly<Record<string, string>> = {}): Promise<Download> {
  const start = performance.now();
  return new Promise((resolve, reject) => {
    get(url, { agent: false, headers }, (response) => {
      if (response.statusCode !== 200) {
        response.resume();
        reject(new Error(`${response.statusCode} for ${url}`));
        return;
      }
      let bytes = 0;
      let firstByteMs = 0;
      response.on("data", (chunk: Buffer) => {
        if (bytes === 0) firstByteMs = performance.now() - start;
        bytes += chunk.length;
      });
      response.on("end", () => resolve({ firstByteMs, totalMs: performance.now() - start, bytes }));
      response.on("error", reject);
      response.on("aborted", () => reject(new Error(`cut after ${bytes} bytes: ${url}`)));
    }).on("error", reject);
  });
}

/** Prints rows as an aligned table. */
export function printTable(header: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => (row[column] ?? "").length)),
  );
  const line = (cells: readonly string[]) => cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ");
  console.log(line(header));
  for (const row of rows) console.log(line(row));
}
