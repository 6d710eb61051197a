/** Both ends of a line between two processes, in one. Messages travel as copies, a turn of the event loop later. */
import { Channel, type Port } from "../../src/cluster/channel.ts";

class End implements Port {
  other: End | undefined;
  readonly #messages: ((message: unknown) => void)[] = [];
  readonly #closed: (() => void)[] = [];
  #gone = false;

  send(message: unknown): void {
    const copy = structuredClone(message);
    setImmediate(() => this.other?.deliver(copy));
  }

  deliver(message: unknown): void {
    if (!this.#gone) for (const listener of this.#messages) listener(message);
  }

  onMessage(listener: (message: unknown) => void): void {
    this.#messages.push(listener);
  }

  onClose(listener: () => void): void {
    this.#closed.push(listener);
  }

  close(): void {
    this.#gone = true;
    for (const listener of this.#closed) listener();
  }
}

/** `die` ends the worker: its parent's end closes. */
export function linePair(): { readonly parent: Channel; readonly worker: Channel; die(): void } {
  const a = new End();
  const b = new End();
  a.other = b;
  b.other = a;
  return {
    parent: new Channel(a),
    worker: new Channel(b),
    die() {
      a.close();
      b.close();
    },
  };
}
