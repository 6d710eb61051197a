import { readFileSync } from "node:fs";
import type { RedisClientOptions } from "@redis/client";
import type { Clock } from "../base/clock.ts";
import { DeadlineError } from "../base/deadline.ts";
import type { Log } from "../base/log.ts";
import type { RedisConfig } from "../config/types.ts";

/** A Redis that has not answered in this time counts as absent (design, section 4). */
const ANSWER_MS = 250;

/** A timer that fires so late tells of this process, not of Redis. */
const LATE_MS = 25;

/** After a failure nobody waits for Redis for this long, doubled with each further one: a slow Redis must not slow each request. */
const FIRST_REST_MS = 500;
const LONGEST_REST_MS = 10_000;

const CONNECT_MS = 5_000;

/** So long a start waits for a Redis that has neither let this process in nor failed: until then nothing would be shared. */
const FIRST_CONNECT_MS = 1_000;
const LONGEST_RECONNECT_MS = 2_000;

/** Commands that wait for a Redis that reads slowly; more than a busy Weir sends in {@link ANSWER_MS}. */
const MAX_QUEUED = 10_000;

/** The part of node-redis that a client, a sentinel and a cluster have in common. */
export interface RedisClient {
  readonly isOpen: boolean;
  /** A cluster has none: it is ready when it is open. */
  readonly isReady?: boolean;
  on(event: "error", listener: (error: unknown) => void): unknown;
  connect(): Promise<unknown>;
  destroy(): void;
  eval(script: string, options: { readonly keys: string[]; readonly arguments: string[] }): Promise<unknown>;
}

export interface RedisDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly observer: StateObserver;
}

/** What the shared state reports; telemetry/ implements it. */
export interface StateObserver {
  /** Redis has answered a question. */
  stateAsked(durationMs: number): void;
  /** A question to Redis failed or was not answered in time. */
  stateFailed(): void;
}

/** One connection to Redis, to a sentinel's master or to a cluster, that may be down at any time. */
export interface RedisConnection {
  readonly client: RedisClient;
  /**
   * What `work` makes of the client. Undefined where Redis is down, has failed or has not answered in 250 ms; for a moment
   * after that nobody asks it at all. Never rejects.
   */
  run<T>(work: () => Promise<T>): Promise<{ readonly value: T } | undefined>;
  /** Repeatable. */
  close(): Promise<void>;
}

/**
 * Resolves when Redis has let this process in or has failed to, within a second in any case: Weir starts whether or not Redis
 * is there. Rejects when a TLS file that the configuration names cannot be read.
 */
export async function connectRedis(config: RedisConfig, deps: RedisDeps): Promise<RedisConnection> {
  const client = await createRedisClient(config);
  const connection = new GuardedRedis(client, deps);
  await connection.begun();
  return connection;
}

class GuardedRedis implements RedisConnection {
  readonly client: RedisClient;
  readonly #deps: RedisDeps;
  readonly #closed = new AbortController();
  #failures = 0;
  #restUntilMs = 0;
  /** Somebody finds out whether Redis is back; the others do not wait. */
  #probing = false;
  #down = false;
  readonly #begun = Promise.withResolvers<void>();

  constructor(client: RedisClient, deps: RedisDeps) {
    this.client = client;
    this.#deps = deps;
    // Without a listener a lost connection would end the process.
    client.on("error", (error) => this.#failed(error));
    client.connect().then(
      () => this.#begun.resolve(),
      (error: unknown) => this.#failed(error),
    );
  }

  /** Resolves when Redis has let this process in or has failed to; a silent one is not waited for. */
  async begun(): Promise<void> {
    const waited = new AbortController();
    const silent = this.#deps.clock.sleep(FIRST_CONNECT_MS, waited.signal).catch(() => {});
    await Promise.race([this.#begun.promise, silent]);
    waited.abort();
  }

  async run<T>(work: () => Promise<T>): Promise<{ readonly value: T } | undefined> {
    if (!(this.client.isReady ?? this.client.isOpen) || this.#resting()) {
      return undefined;
    }
    const probe = this.#failures > 0;
    this.#probing ||= probe;
    const { clock, observer } = this.#deps;
    const askedMs = clock.now();
    const settled = new AbortController();
    try {
      const value = await Promise.race([
        work(),
        unanswered(AbortSignal.any([this.#closed.signal, settled.signal]), clock),
      ]);
      this.#answered();
      observer.stateAsked(clock.now() - askedMs);
      return { value };
    } catch (error) {
      this.#failed(error);
      return undefined;
    } finally {
      settled.abort();
      if (probe) {
        this.#probing = false;
      }
    }
  }

  async close(): Promise<void> {
    if (!this.#closed.signal.aborted) {
      this.#closed.abort(new Error("Weir is stopping"));
      this.client.destroy();
    }
  }

  #resting(): boolean {
    return this.#failures > 0 && (this.#probing || this.#deps.clock.now() < this.#restUntilMs);
  }

  #answered(): void {
    this.#failures = 0;
    if (this.#down) {
      this.#down = false;
      this.#deps.log.info({}, "Redis answers again");
    }
  }

  #failed(error: unknown): void {
    if (this.#closed.signal.aborted) {
      return;
    }
    const { clock, log, observer } = this.#deps;
    this.#begun.resolve();
    observer.stateFailed();
    const now = clock.now();
    if (now >= this.#restUntilMs) {
      this.#restUntilMs = now + Math.min(LONGEST_REST_MS, FIRST_REST_MS * 2 ** this.#failures);
      this.#failures += 1;
    }
    if (!this.#down) {
      this.#down = true;
      log.warn({ err: error }, "Redis is in trouble: until it answers, what replicas share counts as unknown");
    }
  }
}

/** Rejects when Redis has had its time, and with the reason of `signal`. */
async function unanswered(signal: AbortSignal, clock: Clock): Promise<never> {
  const dueMs = clock.now() + ANSWER_MS;
  await clock.sleep(ANSWER_MS, signal);
  if (clock.now() - dueMs > LATE_MS) {
    // This process was too busy or frozen: the question may not even have been sent.
    await clock.sleep(ANSWER_MS, signal);
  }
  // What has come lies there still, and is read first.
  await new Promise((resolve) => setImmediate(resolve));
  throw new DeadlineError(`no answer within ${ANSWER_MS} ms`);
}

async function createRedisClient(config: RedisConfig): Promise<RedisClient> {
  const redis = await import("@redis/client");
  const options = clientOptions(config);
  const { username: _, password: __, ...withoutLogin } = options;
  const { at } = config;
  switch (at.kind) {
    case "url":
      return redis.createClient({ ...options, url: at.url.href });
    case "sentinel":
      return redis.createSentinel({
        name: at.name,
        sentinelRootNodes: [...at.nodes],
        nodeClientOptions: options,
        sentinelClientOptions: withoutLogin,
      });
    case "cluster":
      return redis.createCluster({ rootNodes: at.nodes.map((url) => ({ url: url.href })), defaults: options });
  }
}

/** What is asked while there is no connection fails at once instead of waiting for one. */
function clientOptions({ username, password, tls }: RedisConfig): RedisClientOptions {
  return {
    disableOfflineQueue: true,
    commandsQueueMaxLength: MAX_QUEUED,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password: password.reveal() }),
    socket: {
      connectTimeout: CONNECT_MS,
      reconnectStrategy: (retries: number) => Math.min(LONGEST_RECONNECT_MS, 50 * 2 ** Math.min(retries, 10)),
      ...(tls === undefined
        ? {}
        : {
            tls: true,
            ...(tls.ca === undefined ? {} : { ca: readFileSync(tls.ca, "utf8") }),
            ...(tls.cert === undefined ? {} : { cert: readFileSync(tls.cert, "utf8") }),
            ...(tls.key === undefined ? {} : { key: readFileSync(tls.key, "utf8") }),
          }),
    },
  };
}
