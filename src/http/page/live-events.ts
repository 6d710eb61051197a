import type { ServerResponse } from "node:http";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Html } from "./html.ts";

/** How often what is shown is looked at, for all listeners together. */
const POLL_MS = 1_000;

/** Open pages that follow what happens; others show what was when they were loaded. */
const MAX_LISTENERS = 32;

/** Looks without news after which a listener gets a sign of life: proxies take a quiet connection for a dead one after a minute. */
const QUIET_LOOKS = 15;

export interface LiveEventsDeps {
  /** What is shown, by the id of its element. */
  look(signal: AbortSignal): Promise<ReadonlyMap<string, Html>>;
  readonly clock: Clock;
  readonly log: Log;
}

interface Listener {
  readonly res: ServerResponse;
  /** What it was sent last, by id. */
  readonly sent: Map<string, string>;
  /** Whether it may still listen. */
  isOpen(): boolean;
  quietLooks: number;
}

/**
 * Server-sent events (HTML, section 9.2) with the parts of the page that have changed. One look serves all listeners, and nobody
 * looks while nobody listens.
 */
export class LiveEvents {
  readonly #deps: LiveEventsDeps;
  readonly #listeners = new Set<Listener>();
  readonly #stopped = new AbortController();
  #following: Promise<void> | undefined;

  constructor(deps: LiveEventsDeps) {
    this.#deps = deps;
  }

  /** No more fit, or it is over. */
  get full(): boolean {
    return this.#listeners.size >= MAX_LISTENERS || this.#stopped.signal.aborted;
  }

  /** @param res whose headers have been sent; it is ended here when `isOpen` says no, and at the stop */
  add(res: ServerResponse, isOpen: () => boolean): void {
    const listener: Listener = { res, sent: new Map(), isOpen, quietLooks: 0 };
    this.#listeners.add(listener);
    res.once("close", () => this.#listeners.delete(listener));
    // A quiet connection is no broken one; what is not taken is dropped by `#send`.
    res.on("timeout", () => {});
    this.#following ??= this.#follow().finally(() => {
      this.#following = undefined;
    });
  }

  /** Ends all streams. Resolves when nothing looks any more. */
  async stop(): Promise<void> {
    this.#stopped.abort(new Error("Weir is stopping"));
    for (const { res } of this.#listeners) {
      res.end();
    }
    await this.#following;
  }

  async #follow(): Promise<void> {
    const { look, clock, log } = this.#deps;
    const { signal } = this.#stopped;
    while (this.#listeners.size > 0 && !signal.aborted) {
      try {
        const parts = await look(signal);
        const texts = new Map([...parts].map(([id, part]) => [id, part.toString()]));
        for (const listener of this.#listeners) {
          this.#send(listener, texts);
        }
      } catch (err) {
        if (!signal.aborted) {
          log.warn({ err }, "the status page could not be brought up to date");
        }
      }
      await clock.sleep(POLL_MS, signal).catch(() => {}); // the loop looks at the signal
    }
  }

  #send(listener: Listener, texts: ReadonlyMap<string, string>): void {
    const { res, sent } = listener;
    if (!listener.isOpen()) {
      res.end();
      return;
    }
    // Who does not read gets what is new once it does.
    if (res.writableNeedDrain) {
      return;
    }
    let events = "";
    for (const [id, html] of texts) {
      if (sent.get(id) !== html) {
        sent.set(id, html);
        // JSON has no line break, which would end the field.
        events += `data: ${JSON.stringify({ id, html })}\n\n`;
      }
    }
    listener.quietLooks = events === "" ? listener.quietLooks + 1 : 0;
    if (listener.quietLooks === QUIET_LOOKS) {
      listener.quietLooks = 0;
      events = ":\n\n";
    }
    if (events !== "") {
      res.write(events);
    }
  }
}
