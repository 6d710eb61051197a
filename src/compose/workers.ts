import cluster, { type Worker } from "node:cluster";
import { once } from "node:events";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { Channel, type Port } from "../cluster/channel.ts";
import type { ListenAddress } from "../config/types.ts";

/** A worker that keeps ending is started again this late at most; the first time at once. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 30_000;

/** One that has served for so long has not ended at its start. */
const SETTLED_MS = 60_000;

/** After its answers' own grace, for what it still has to write. */
const STOP_MS = 60_000;

/** What a worker tells its parent. */
const READY = "worker.ready";
/** What a parent tells its workers. */
export const STOP = "worker.stop";
export const RELOAD = "worker.reload";

/** One worker, as its parent sees it. */
export interface WorkerLine {
  readonly channel: Channel;
  /** From 0; a worker that takes another's place has its number. */
  readonly slot: number;
}

export interface WorkersDeps {
  readonly count: number;
  /** Called for each worker before it begins: answers what it will ask. */
  attend(line: WorkerLine): void;
  /** A worker is gone, by itself or told to. */
  left(line: WorkerLine): void;
  readonly clock: Clock;
  readonly log: Log;
}

interface Running extends WorkerLine {
  readonly process: Worker;
  readonly startedAtMs: number;
  ready: boolean;
}

/** The processes that serve: as many as wanted, each replaced when it ends. */
export class Workers {
  readonly #deps: WorkersDeps;
  readonly #running = new Map<number, Running>();
  readonly #stopped = new AbortController();
  readonly #failures = new Map<number, number>();

  constructor(deps: WorkersDeps) {
    this.#deps = deps;
  }

  /** How many answer clients now. */
  get ready(): number {
    return [...this.#running.values()].filter(({ ready }) => ready).length;
  }

  get lines(): readonly WorkerLine[] {
    return [...this.#running.values()];
  }

  /** Starts all of them. Resolves with the address when every one serves; rejects when one cannot start. */
  async start(): Promise<ListenAddress> {
    const slots = Array.from({ length: this.#deps.count }, (_, slot) => slot);
    const addresses = await Promise.all(slots.map((slot) => this.#start(slot)));
    const [address] = addresses;
    if (address === undefined) throw new RangeError("there are no workers");
    return address;
  }

  tell(what: string, data: unknown): void {
    for (const { channel } of this.#running.values()) channel.tell(what, data);
  }

  /** Lets each end in order; one that has not within `graceMs` and a minute is killed. Repeatable. */
  async stop(graceMs: number): Promise<void> {
    this.#stopped.abort();
    await Promise.all(
      [...this.#running.values()].map(async ({ process, channel }) => {
        const exited = process.isDead() ? Promise.resolve() : once(process, "exit");
        channel.tell(STOP, null);
        const timer = setTimeout(() => process.process.kill("SIGKILL"), graceMs + STOP_MS);
        await exited;
        clearTimeout(timer);
      }),
    );
  }

  #start(slot: number): Promise<ListenAddress> {
    const { clock, log } = this.#deps;
    const process = cluster.fork();
    const channel = new Channel(portOf(process));
    const running: Running = { process, channel, slot, startedAtMs: clock.now(), ready: false };
    this.#running.set(slot, running);
    this.#deps.attend(running);
    const begun = Promise.withResolvers<ListenAddress>();
    channel.onTold(READY, (data) => {
      running.ready = true;
      begun.resolve(data as ListenAddress);
    });
    process.on("error", (err) => log.error({ err, worker: slot }, "a worker cannot be talked to"));
    process.once("exit", (code, signal) => {
      this.#running.delete(slot);
      this.#deps.left(running);
      const atStart = !running.ready;
      begun.reject(new WorkerStartError(`a worker ended at its start (${signal ?? `exit code ${code}`})`));
      if (this.#stopped.signal.aborted) return;
      log.error({ worker: slot, code, signal }, "a worker has ended: another one takes its place");
      this.#replace(running, atStart);
    });
    return begun.promise;
  }

  #replace({ slot, startedAtMs }: Running, atStart: boolean): void {
    const { clock, log } = this.#deps;
    const settled = !atStart && clock.now() - startedAtMs >= SETTLED_MS;
    const failures = settled ? 0 : (this.#failures.get(slot) ?? 0);
    this.#failures.set(slot, failures + 1);
    const pauseMs = failures === 0 ? 0 : Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (failures - 1));
    clock
      .sleep(pauseMs, this.#stopped.signal)
      .then(() => this.#start(slot))
      .catch((err: unknown) => {
        if (!this.#stopped.signal.aborted) log.error({ err, worker: slot }, "a worker could not be started");
      });
  }
}

/** Its own message is on standard error. */
export class WorkerStartError extends Error {
  override readonly name = "WorkerStartError";
}

/** True in a process that {@link Workers} has started. */
export function isWorker(): boolean {
  return cluster.isWorker;
}

/** A worker's line to its parent. */
export function parentLine(): Channel {
  return new Channel({
    send: (message) => {
      // The parent may be gone already: then everything ends soon.
      if (process.connected) process.send?.(message, undefined, undefined, () => {});
    },
    onMessage: (listener) => void process.on("message", listener),
    onClose: (listener) => void process.on("disconnect", listener),
  });
}

/** Tells the parent that this worker answers clients. */
export function tellReady(parent: Channel, address: ListenAddress): void {
  parent.tell(READY, address);
}

/** Resolves when the parent wants this worker to end, or is gone. */
export function wantedToStop(parent: Channel): Promise<void> {
  return new Promise((resolve) => {
    parent.onTold(STOP, () => resolve());
    parent.closed.addEventListener("abort", () => resolve(), { once: true });
  });
}

function portOf(worker: Worker): Port {
  return {
    send: (message) => {
      if (worker.isConnected()) worker.send(message as object, undefined, () => {});
    },
    onMessage: (listener) => void worker.on("message", listener),
    onClose: (listener) => void worker.once("exit", listener),
  };
}
