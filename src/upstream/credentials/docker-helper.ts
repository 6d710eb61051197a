import { spawn } from "node:child_process";
import { toSecret } from "./docker-config-file.ts";
import type { Lessor } from "./renewed.ts";
import { NoSecretError, SourceError } from "./source.ts";

/** Helpers ask a cloud, a vault or a keyring; one that waits for somebody would wait for ever. */
const TIMEOUT_MS = 10_000;

/** How long an answer is used: what helpers give lasts for hours, and each answer costs a process. */
const LIFETIME_MS = 10 * 60_000;

/** Tokens of clouds come near 4 KiB. */
const MAX_OUTPUT_BYTES = 64 * 1024;

/** What all helpers say, with exit code 1, where they hold nothing for the server. */
const NOT_FOUND = /credentials not found/i;

/**
 * Asks `docker-credential-<helper>` for a server's credential by the protocol of docker-credential-helpers. It gets no
 * terminal, and its input ends behind the server's name, so that it cannot wait for anybody to type; when time is up it is
 * killed with everything that it has started.
 */
export function dockerHelper(helper: string, server: string): Lessor {
  const command = `docker-credential-${helper}`;
  const name = `the credential helper ${command}`;
  const advice = `try: echo ${server} | ${command} get`;
  return {
    name: `${name} (${advice})`,
    timeoutMs: TIMEOUT_MS,
    async lease(o) {
      const { code, output } = await run(command, server, o.signal);
      // What it wrote may hold the secret: it is never repeated.
      if (code !== 0 && !NOT_FOUND.test(output)) {
        throw new SourceError("credential", `${name} ended with ${code ?? "a signal"}; ${advice}`);
      }
      const answer = code === 0 ? readAnswer(output) : { username: "", secret: "" };
      if (answer === undefined) {
        throw new SourceError("credential", `${name} wrote something else than its JSON; ${advice}`);
      }
      if (answer.secret === "") {
        throw new NoSecretError("credential", `${name} has none for ${server}; ${advice}`);
      }
      return { ...toSecret(answer.username, answer.secret), lifetimeMs: LIFETIME_MS, expires: false };
    },
  };
}

function run(command: string, server: string, signal: AbortSignal): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    // In a session of its own: no terminal to ask at, and one signal reaches all that it has started.
    const child = spawn(command, ["get"], { stdio: ["pipe", "pipe", "ignore"], detached: true });
    const chunks: Buffer[] = [];
    let bytes = 0;
    const kill = (reason: unknown): void => {
      reject(reason);
      try {
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
      } catch {
        // It has ended already.
      }
    };
    const onAbort = (): void => kill(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    child.on("error", (error) => {
      signal.removeEventListener("abort", onAbort);
      const why = "code" in error ? String(error.code) : "an error";
      const what = why === "ENOENT" ? "is not in PATH; install it where Weir runs" : `cannot be started (${why})`;
      reject(new SourceError("credential", `the credential helper ${command} ${what}`));
    });
    child.on("close", (code) => {
      signal.removeEventListener("abort", onAbort);
      resolve({ code, output: Buffer.concat(chunks).toString("utf8") });
    });
    child.stdout.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= MAX_OUTPUT_BYTES) {
        chunks.push(chunk);
      } else {
        kill(
          new SourceError("credential", `the credential helper ${command} wrote more than ${MAX_OUTPUT_BYTES} bytes`),
        );
      }
    });
    // It may end without reading.
    child.stdin.on("error", () => {});
    child.stdin.end(server);
  });
}

function readAnswer(output: string): { readonly username: string; readonly secret: string } | undefined {
  try {
    const answer: unknown = JSON.parse(output);
    if (typeof answer === "object" && answer !== null && "Username" in answer && "Secret" in answer) {
      const { Username: username, Secret: secret } = answer;
      return typeof username === "string" && typeof secret === "string" ? { username, secret } : undefined;
    }
  } catch {
    // Not JSON, which the caller says.
  }
  return undefined;
}
