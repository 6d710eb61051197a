/** Programs that tests start, the ports they listen on and the folders they write to; everything ends with its test. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay, setImmediate as nextTurn } from "node:timers/promises";
import { requireTool } from "./tools.ts";

/** Output kept of one program, in characters: enough to see why it failed, bounded for those that log every request. */
const OUTPUT_LIMIT = 4 * 1024 * 1024;
const POLL_MS = 20;

/** What takes a second does so on a machine of its own: on one with twenty others at work it takes half a minute, and is right. */
export const PATIENCE_MS = 120_000;

/** For a whole command, within the time of a test. */
const RUN_MS = 200_000;

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export interface ProcessExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A running program: its output so far, and its end. */
export interface RunningProcess {
  readonly pid: number;
  readonly exited: Promise<ProcessExit>;
  readonly hasExited: boolean;
  /** Standard output and error as they came, interleaved; the oldest part is dropped past 4 Mi characters. */
  output(): string;
  /** Resident memory in bytes. */
  rss(): number;
  kill(signal: NodeJS.Signals): void;
  /** SIGTERM, and SIGKILL for one that has not left after `graceMs`. Resolves when it is gone. */
  stop(graceMs?: number): Promise<ProcessExit>;
}

// Whatever way the test process ends, what it started goes with it.
const alive = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of alive) child.kill("SIGKILL");
});

/** Starts `argv[0]` (looked for as {@link requireTool} does). Rejects when it cannot be started at all. */
export async function start(argv: readonly string[], options: RunOptions = {}): Promise<RunningProcess> {
  const [name, ...args] = argv;
  if (name === undefined) throw new Error("nothing to start");
  const child = spawn(name.includes("/") ? name : requireTool(name), args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  let output = "";
  let pieces = 0;
  const keep = (text: string): void => {
    output = (output + text).slice(-OUTPUT_LIMIT);
    pieces += 1;
  };
  /** What a process that has ended wrote last is in the pipes by then: two turns of the event loop without any of it tell that it is read. */
  const drained = async (): Promise<void> => {
    for (let [before, quiet] = [pieces, 0]; quiet < 2; quiet += 1) {
      await nextTurn();
      if (pieces !== before) quiet = -1;
      before = pieces;
    }
  };
  child.stdout.setEncoding("utf8").on("data", keep);
  child.stderr.setEncoding("utf8").on("data", keep);
  let gone = false;
  const exited = new Promise<ProcessExit>((resolve) => {
    // "exit", not "close": a grandchild that keeps the pipes open must not hold up the test.
    child.once("exit", (code, signal) => {
      gone = true;
      alive.delete(child);
      void drained().then(() => resolve({ code, signal }));
    });
  });
  await once(child, "spawn");
  alive.add(child);
  const pid = child.pid ?? 0;
  return {
    pid,
    exited,
    get hasExited() {
      return gone;
    },
    output: () => output,
    rss: () => residentBytes(pid),
    kill: (signal) => {
      child.kill(signal);
    },
    async stop(graceMs = 5_000) {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), graceMs);
      try {
        return await exited;
      } finally {
        clearTimeout(timer);
      }
    },
  };
}

export interface CommandResult extends ProcessExit {
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end; rejects with its output when it fails, unless `allowFailure`. */
export async function run(
  argv: readonly string[],
  options: RunOptions & { readonly allowFailure?: boolean; readonly timeoutMs?: number } = {},
): Promise<CommandResult> {
  const [name, ...args] = argv;
  if (name === undefined) throw new Error("nothing to run");
  const child = spawn(name.includes("/") ? name : requireTool(name), args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...options.env },
    timeout: options.timeoutMs ?? RUN_MS,
    killSignal: "SIGKILL",
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  alive.add(child);
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  alive.delete(child);
  if (code !== 0 && options.allowFailure !== true) {
    throw new Error(`${argv.join(" ")}: ended with ${code ?? signal}\n${stdout}${stderr}`);
  }
  return { code, signal, stdout, stderr };
}

/** Asks `check` until it says true. Rejects after `timeoutMs`, naming `what`. For programs that tell nobody when they are ready. */
export async function until(
  what: string,
  check: () => Promise<boolean> | boolean,
  timeoutMs = PATIENCE_MS,
): Promise<void> {
  const limit = AbortSignal.timeout(timeoutMs);
  while (!(await check())) {
    if (limit.aborted) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await delay(POLL_MS);
  }
}

/** Waits for a started program to become ready; when it ends instead, rejects at once with its output. */
export async function ready(
  name: string,
  running: RunningProcess,
  check: () => Promise<boolean>,
  timeoutMs?: number,
): Promise<void> {
  try {
    await until(
      `${name} to be ready`,
      async () => {
        if (running.hasExited) throw new Error(`${name} ended at its start`);
        return await check();
      },
      timeoutMs,
    );
  } catch (cause) {
    await running.stop();
    throw new Error(`${(cause as Error).message}\n${running.output()}`, { cause });
  }
}

/** Below those that the system gives to whoever asks for any: there nobody else takes one before it is used. */
const FIRST_PORT = 12_000;
const LAST_PORT = 31_999;

/** Of so many test processes that run at once each has ports of its own: between the look and the use another one looks. */
const SHARES = 4;
const SHARE_PORTS = Math.floor((LAST_PORT - FIRST_PORT + 1) / SHARES);

/** Those that this process has been given; they may not be in use yet. */
const given = new Set<number>();

/** A port of 127.0.0.1 that is free now, and another one each time. */
export async function freePort(): Promise<number> {
  const share = (Number(process.env.VITEST_POOL_ID ?? 1) - 1) % SHARES;
  for (;;) {
    const port = FIRST_PORT + share * SHARE_PORTS + Math.floor(Math.random() * SHARE_PORTS);
    if (given.has(port)) continue;
    given.add(port);
    const server = createServer();
    const listening = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!listening) continue;
    server.close();
    await once(server, "close");
    return port;
  }
}

/** Makes an empty folder, to be removed with `stack`. */
export async function tempFolder(stack: AsyncDisposableStack): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "weir-test-"));
  stack.defer(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** Resident memory of a process in bytes; 0 once it is gone. */
export function residentBytes(pid: number): number {
  let status: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return 0;
  }
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
}
