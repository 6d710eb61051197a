import { once } from "node:events";
import { connect, type Socket } from "node:net";

/** Keep-alive connections that ask for one thing a given number of times: short bursts can be interleaved where wrk takes seconds. */
export class Bursts {
  readonly #sockets: readonly Socket[];
  readonly #request: Buffer;
  /** Requests of the burst that have yet to be sent, and those that have yet to be answered. */
  #unsent = 0;
  #unanswered = 0;
  #over: (error?: Error) => void = () => {};

  private constructor(sockets: readonly Socket[], request: Buffer) {
    this.#sockets = sockets;
    this.#request = request;
    for (const socket of sockets) {
      const answers = new AnswerCounter();
      socket.on("data", (chunk: Buffer) => {
        const answered = answers.take(chunk);
        if (answered instanceof Error) this.#over(answered);
        else if (answered) this.#answered(socket);
      });
      socket.on("error", (error) => this.#over(error));
      socket.on("close", () => this.#over(new Error("the server has ended a connection")));
    }
  }

  static async open(url: string, connections: number): Promise<Bursts> {
    const { hostname, port, host, pathname } = new URL(url);
    const sockets = Array.from({ length: connections }, () => connect(Number(port), hostname));
    await Promise.all(sockets.map((socket) => once(socket, "connect")));
    for (const socket of sockets) socket.setNoDelay(true);
    const lines = [`GET ${pathname} HTTP/1.1`, `Host: ${host}`, "User-Agent: bench", "Accept: */*"];
    return new Bursts(sockets, Buffer.from(`${lines.join("\r\n")}\r\n\r\n`));
  }

  /** Resolves with the milliseconds that it took. */
  async run(requests: number): Promise<number> {
    const startedMs = performance.now();
    await new Promise<void>((resolve, reject) => {
      this.#over = (error) => (error === undefined ? resolve() : reject(error));
      this.#unsent = requests;
      this.#unanswered = requests;
      for (const socket of this.#sockets) this.#send(socket);
    });
    return performance.now() - startedMs;
  }

  close(): void {
    this.#over = () => {};
    for (const socket of this.#sockets) socket.destroy();
  }

  #send(socket: Socket): void {
    if (this.#unsent === 0) return;
    this.#unsent -= 1;
    socket.write(this.#request);
  }

  #answered(socket: Socket): void {
    this.#unanswered -= 1;
    if (this.#unanswered === 0) this.#over();
    else this.#send(socket);
  }
}

/** Finds the ends of answers that come one at a time, and have a length. */
class AnswerCounter {
  #head = "";
  /** Of the body; undefined while the headers are read. */
  #left: number | undefined;

  /** Whether an answer ends with the chunk; an error where it is not a 200. */
  take(chunk: Buffer): boolean | Error {
    if (this.#left === undefined) {
      this.#head += chunk.toString("latin1");
      const end = this.#head.indexOf("\r\n\r\n");
      if (end === -1) return false;
      const length = /\r\ncontent-length: (\d+)/i.exec(this.#head)?.[1];
      if (!this.#head.startsWith("HTTP/1.1 200 ") || length === undefined) {
        return new Error(`no answer to measure:\n${this.#head.slice(0, end)}`);
      }
      this.#left = Number(length) - (this.#head.length - end - 4);
      this.#head = "";
    } else {
      this.#left -= chunk.length;
    }
    if (this.#left > 0) return false;
    this.#left = undefined;
    return true;
  }
}
