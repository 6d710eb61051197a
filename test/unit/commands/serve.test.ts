import { EventEmitter } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Running, type ServeTerminal, serve } from "../../../src/commands/serve.ts";
import { tempFolder } from "../../support/processes.ts";

/** A process that writes down what is done to it. */
class FakeTerminal extends EventEmitter implements ServeTerminal {
  readonly env: NodeJS.ProcessEnv;
  readonly errors: string[] = [];
  readonly exits: number[] = [];
  readonly stdout = { write: () => true };
  readonly stderr = { write: (text: string) => this.errors.push(text) };
  readonly #cwd: string;

  constructor(cwd: string, env: NodeJS.ProcessEnv = {}) {
    super();
    this.#cwd = cwd;
    this.env = env;
  }

  cwd(): string {
    return this.#cwd;
  }

  exit(code: number): void {
    this.exits.push(code);
  }
}

interface FakeWeir extends Running {
  readonly events: string[];
  /** Lets `stop` end. */
  release(): void;
}

function fakeWeir(): FakeWeir {
  const events: string[] = [];
  const stopped = Promise.withResolvers<void>();
  return {
    events,
    release: stopped.resolve,
    address: { host: "0.0.0.0", port: 5000 },
    adminAddress: { host: "::", port: 5001 },
    async stop() {
      events.push("stop");
      await stopped.promise;
    },
    async reload() {
      events.push("reload");
    },
  };
}

async function terminal(stack: AsyncDisposableStack, env: NodeJS.ProcessEnv = {}): Promise<FakeTerminal> {
  return new FakeTerminal(await tempFolder(stack), env);
}

/** Lets everything that is ready go on. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("signals", () => {
  test.each(["SIGTERM", "SIGINT"] as const)("O2 %s stops gracefully, and the exit code is 0", async (signal) => {
    await using stack = new AsyncDisposableStack();
    const fake = await terminal(stack);
    const weir = fakeWeir();
    const code = serve({}, fake, async () => weir);
    await until(() => fake.errors.length > 0);
    fake.emit(signal);
    await until(() => weir.events.includes("stop"));
    weir.release();
    expect(await code).toBe(0);
    expect(fake.exits).toEqual([]);
    expect(fake.eventNames()).toEqual([]);
  });

  test.each([
    ["SIGTERM", "SIGTERM", 143],
    ["SIGINT", "SIGINT", 130],
    ["SIGTERM", "SIGINT", 130],
  ] as const)("O2 %s and then %s ends at once with %i", async (first, second, expected) => {
    await using stack = new AsyncDisposableStack();
    const fake = await terminal(stack);
    const weir = fakeWeir();
    const code = serve({}, fake, async () => weir);
    await until(() => fake.errors.length > 0);
    fake.emit(first);
    fake.emit(second);
    expect(fake.exits).toEqual([expected]);
    weir.release();
    await code;
  });

  test("O2 a signal during the start stops what has just started", async () => {
    await using stack = new AsyncDisposableStack();
    const fake = await terminal(stack);
    const weir = fakeWeir();
    weir.release();
    const started = Promise.withResolvers<Running>();
    const code = serve({}, fake, () => started.promise);
    await until(() => fake.listenerCount("SIGTERM") > 0);
    fake.emit("SIGTERM");
    started.resolve(weir);
    expect(await code).toBe(0);
    expect(weir.events).toEqual(["stop"]);
  });

  test("O3 SIGHUP reloads, and during the start it does no harm", async () => {
    await using stack = new AsyncDisposableStack();
    const fake = await terminal(stack);
    const weir = fakeWeir();
    weir.release();
    const started = Promise.withResolvers<Running>();
    const code = serve({}, fake, () => started.promise);
    await until(() => fake.listenerCount("SIGHUP") > 0);
    fake.emit("SIGHUP");
    started.resolve(weir);
    await until(() => fake.errors.length > 0);
    fake.emit("SIGHUP");
    fake.emit("SIGHUP");
    fake.emit("SIGTERM");
    expect(await code).toBe(0);
    expect(weir.events).toEqual(["reload", "reload", "stop"]);
    expect(fake.eventNames()).toEqual([]);
  });

  test("O3 what is started gets what reads the same configuration again", async () => {
    await using stack = new AsyncDisposableStack();
    const fake = await terminal(stack, { WEIR_CONFIG: "w.yaml" });
    await writeFile(join(fake.cwd(), "w.yaml"), "shutdown: { grace: 1s }");
    const graces: number[] = [];
    const weir = fakeWeir();
    weir.release();
    const code = serve({}, fake, async (config, source) => {
      await writeFile(join(fake.cwd(), "w.yaml"), "shutdown: { grace: 2s }");
      graces.push(config.shutdown.graceMs, (await source.load()).config.shutdown.graceMs);
      return weir;
    });
    await until(() => fake.errors.length > 0);
    fake.emit("SIGTERM");
    await code;
    expect(graces).toEqual([1000, 2000]);
  });
});

describe("the start", () => {
  test("says what to try next", async () => {
    await using stack = new AsyncDisposableStack();
    const fake = await terminal(stack);
    const weir = fakeWeir();
    weir.release();
    const code = serve({}, fake, async () => weir);
    await until(() => fake.errors.length > 0);
    fake.emit("SIGTERM");
    await code;
    const message = fake.errors.join("");
    for (const part of [
      "is listening on http://0.0.0.0:5000",
      "the built-in default",
      `${fake.cwd()}/data`,
      "docker pull 127.0.0.1:5000/docker.io/library/alpine:latest",
      "skopeo inspect --tls-verify=false docker://127.0.0.1:5000/docker.io/library/alpine:latest",
      "http://[::1]:5001/metrics",
    ]) {
      expect(message).toContain(part);
    }
  });

  test("O1 that fails is told in a sentence, with exit code 1", async () => {
    await using stack = new AsyncDisposableStack();
    const fake = await terminal(stack);
    const code = await serve({}, fake, async () => {
      throw Object.assign(new Error("listen"), { code: "EADDRINUSE", syscall: "listen", port: 5001 });
    });
    expect(code).toBe(1);
    expect(fake.errors.join("")).toBe(
      "weir: cannot start: 127.0.0.1:5001 is taken by another process; stop that one, or set admin.listen to another address\n",
    );
    expect(fake.eventNames()).toEqual([]);
  });

  test("O1 is not tried with a wrong configuration", async () => {
    await using stack = new AsyncDisposableStack();
    const fake = await terminal(stack, { WEIR_SERVER_LISTEN: "x", WEIR_SHUTDOWN_GRACE: "y" });
    let started = false;
    const code = await serve({}, fake, async () => {
      started = true;
      return fakeWeir();
    });
    expect(code).toBe(1);
    expect(started).toBe(false);
    expect(fake.errors.join("").split("\n")[0]).toBe("weir: the configuration has 2 problems:");
  });
});

async function until(check: () => boolean): Promise<void> {
  while (!check()) {
    await settled();
  }
}
