import type { CallOptions } from "../base/call.ts";

/** One end of a line between two processes of one machine. Messages are plain data; they come whole and in order. */
export interface Port {
  send(message: unknown): void;
  onMessage(listener: (message: unknown) => void): void;
  onClose(listener: () => void): void;
}

/** The other process is gone, or the line to it. */
export class ChannelClosedError extends Error {
  override readonly name = "ChannelClosedError";
}

/** What the other process could not do, by its own words. */
export class RemoteError extends Error {
  override readonly name = "RemoteError";
}

type Message =
  | { readonly to: "tell"; readonly what: string; readonly data: unknown }
  | { readonly to: "ask"; readonly id: number; readonly what: string; readonly data: unknown }
  | { readonly to: "give-up"; readonly id: number }
  | { readonly to: "answer"; readonly id: number; readonly data: unknown }
  | { readonly to: "refuse"; readonly id: number; readonly why: string };

interface Waiting {
  resolve(data: unknown): void;
  reject(error: unknown): void;
}

/** News and questions between a parent and one of its workers. Whoever listens checks what it is given. */
export class Channel {
  readonly #port: Port;
  readonly #waiting = new Map<number, Waiting>();
  readonly #answering = new Map<number, AbortController>();
  readonly #told = new Map<string, (data: unknown) => void>();
  readonly #asked = new Map<string, (data: unknown, o: CallOptions) => Promise<unknown>>();
  readonly #closed = new AbortController();
  #lastId = 0;

  constructor(port: Port) {
    this.#port = port;
    port.onMessage((message) => this.#take(message as Message));
    port.onClose(() => this.#close());
  }

  /** Aborts when the other process is gone. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  tell(what: string, data: unknown): void {
    this.#send({ to: "tell", what, data });
  }

  /** Rejects with a {@link RemoteError}, a {@link ChannelClosedError} or the signal's reason. */
  ask(what: string, data: unknown, o: CallOptions): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#closed.signal.aborted || o.signal.aborted) {
        reject(o.signal.aborted ? o.signal.reason : this.#closed.signal.reason);
        return;
      }
      this.#lastId += 1;
      const id = this.#lastId;
      const onAbort = (): void => {
        this.#waiting.delete(id);
        this.#send({ to: "give-up", id });
        reject(o.signal.reason);
      };
      o.signal.addEventListener("abort", onAbort, { once: true });
      const settled = (): void => o.signal.removeEventListener("abort", onAbort);
      this.#waiting.set(id, {
        resolve(answer) {
          settled();
          resolve(answer);
        },
        reject(error) {
          settled();
          reject(error);
        },
      });
      this.#send({ to: "ask", id, what, data });
    });
  }

  onTold(what: string, listener: (data: unknown) => void): void {
    this.#told.set(what, listener);
  }

  /** `answer` gives plain data. Its signal aborts when who asked has given up, or is gone. */
  onAsked(what: string, answer: (data: unknown, o: CallOptions) => Promise<unknown>): void {
    this.#asked.set(what, answer);
  }

  #send(message: Message): void {
    if (!this.#closed.signal.aborted) this.#port.send(message);
  }

  #take(message: Message): void {
    switch (message.to) {
      case "tell":
        this.#told.get(message.what)?.(message.data);
        return;
      case "ask":
        void this.#answer(message.id, message.what, message.data);
        return;
      case "give-up":
        this.#answering.get(message.id)?.abort(new Error("nobody waits for the answer any more"));
        return;
      case "answer":
        this.#settle(message.id)?.resolve(message.data);
        return;
      case "refuse":
        this.#settle(message.id)?.reject(new RemoteError(message.why));
    }
  }

  #settle(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }

  async #answer(id: number, what: string, data: unknown): Promise<void> {
    const givenUp = new AbortController();
    this.#answering.set(id, givenUp);
    try {
      const answer = this.#asked.get(what);
      if (answer === undefined) throw new RemoteError(`nobody answers ${what}`);
      const signal = AbortSignal.any([givenUp.signal, this.#closed.signal]);
      this.#send({ to: "answer", id, data: await answer(data, { signal }) });
    } catch (error) {
      this.#send({ to: "refuse", id, why: error instanceof Error ? error.message : String(error) });
    } finally {
      this.#answering.delete(id);
    }
  }

  #close(): void {
    const gone = new ChannelClosedError("the other process is gone");
    this.#closed.abort(gone);
    for (const waiting of this.#waiting.values()) waiting.reject(gone);
    this.#waiting.clear();
  }
}
