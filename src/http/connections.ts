import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";

export interface ConnectionLimits {
  /** Of one listener. */
  readonly total: number;
  /** From one client, as {@link clientOf} has it. */
  readonly perClient: number;
  /** Whose connection an address' is; undefined where it is many people's, and only `total` counts. */
  clientOf(address: string): string | undefined;
}

export interface Connection {
  /** The TCP connection; under TLS not the socket that requests know. */
  readonly raw: Socket;
  /** Under way; there is more than one where requests are pipelined, and under HTTP/2. */
  readonly responses: ReadonlySet<ServerResponse>;
}

interface Entry extends Connection {
  readonly address: string;
  /** All of this client's connections; undefined where they are not counted. */
  readonly client: Set<Entry> | undefined;
  readonly key: string | undefined;
  readonly responses: Set<ServerResponse>;
  /** When it became idle last: a turn later than those that have been idle for longer. */
  idleSince: number;
}

/**
 * The connections of a listener, no more than may be. A newcomer takes the place of the one that has been idle longest, which is
 * how connections that nobody uses, or that only pretend to begin a request, cannot keep others out.
 */
export class Connections {
  readonly #limits: ConnectionLimits;
  readonly #byAddress = new Map<string, Entry>();
  readonly #byTop = new WeakMap<object, Entry>();
  readonly #byClient = new Map<string, Set<Entry>>();
  /** In the order in which they became idle, as long as {@link #ordered}. */
  #idle = new Set<Entry>();
  /** Order costs every request something, and counts only where the limit is near. */
  #ordered = false;
  #turn = 0;

  constructor(limits: ConnectionLimits) {
    this.#limits = limits;
  }

  /**
   * Takes the connection in, and forgets it when it closes.
   *
   * @param ended told of each limit that cost a connection its place: the newcomer's, or an idle one's
   * @returns false where there is no place for it
   */
  admit(raw: Socket, ended: (limit: "connections" | "connections-per-client") => void): boolean {
    const { total, perClient } = this.#limits;
    const key = this.#limits.clientOf(raw.remoteAddress ?? "");
    const others = key === undefined ? undefined : this.#byClient.get(key);
    if (others !== undefined && others.size >= perClient) {
      ended("connections-per-client");
      if (!this.#replace([...others].find((entry) => this.#idle.has(entry)))) return false;
    }
    if (this.#byAddress.size >= total) {
      ended("connections");
      if (!this.#replace(this.#longestIdle())) return false;
    }
    this.#add({ raw, address: addressOf(raw), client: key === undefined ? undefined : this.#clientOf(key), key });
    return true;
  }

  /**
   * From now on {@link of} knows the connection by what stands on top of it, which Node does not otherwise relate to it: a TLS
   * socket, an HTTP/2 session.
   *
   * @param ends the connection's, as `top` has them
   * @returns false where the connection is closed already
   */
  recognise(top: object, ends: Ends): boolean {
    const entry = this.#byAddress.get(addressOf(ends));
    if (entry !== undefined) this.#byTop.set(top, entry);
    return entry !== undefined;
  }

  /** @param top the TCP socket, or what {@link recognise} was told of */
  of(top: object): Connection | undefined {
    return this.#byTop.get(top);
  }

  began(connection: Connection, res: ServerResponse): void {
    const entry = connection as Entry;
    entry.responses.add(res);
    this.#idle.delete(entry);
  }

  finished(connection: Connection, res: ServerResponse): void {
    const entry = connection as Entry;
    entry.responses.delete(res);
    if (entry.responses.size === 0 && this.#byAddress.get(entry.address) === entry) {
      this.#becameIdle(entry);
    }
  }

  /** An answer has begun and ended in one. */
  used(connection: Connection): void {
    const entry = connection as Entry;
    if (!this.#ordered) entry.idleSince = this.#nextTurn();
    else if (this.#idle.delete(entry)) this.#becameIdle(entry);
  }

  [Symbol.iterator](): Iterator<Connection> {
    return this.#byAddress.values();
  }

  #add(made: Omit<Entry, "responses" | "idleSince">): void {
    const entry: Entry = { ...made, responses: new Set(), idleSince: 0 };
    this.#byAddress.set(entry.address, entry);
    this.#byTop.set(entry.raw, entry);
    entry.client?.add(entry);
    this.#becameIdle(entry);
    entry.raw.once("close", () => this.#forget(entry));
  }

  #becameIdle(entry: Entry): void {
    entry.idleSince = this.#nextTurn();
    this.#idle.add(entry);
  }

  #nextTurn(): number {
    this.#turn += 1;
    return this.#turn;
  }

  #longestIdle(): Entry | undefined {
    if (!this.#ordered) {
      this.#idle = new Set([...this.#idle].sort((a, b) => a.idleSince - b.idleSince));
      this.#ordered = true;
    }
    const [longest] = this.#idle;
    return longest;
  }

  #clientOf(key: string): Set<Entry> {
    const known = this.#byClient.get(key) ?? new Set();
    this.#byClient.set(key, known);
    return known;
  }

  #replace(idle: Entry | undefined): boolean {
    if (idle === undefined) return false;
    this.#forget(idle);
    idle.raw.destroy();
    return true;
  }

  #forget(entry: Entry): void {
    if (this.#byAddress.get(entry.address) === entry) this.#byAddress.delete(entry.address);
    this.#idle.delete(entry);
    if (this.#byAddress.size < this.#limits.total / 2) this.#ordered = false;
    entry.client?.delete(entry);
    if (entry.key !== undefined && entry.client?.size === 0) this.#byClient.delete(entry.key);
  }
}

type Ends = Pick<Socket, "remoteAddress" | "remotePort" | "localAddress" | "localPort">;

function addressOf({ remoteAddress, remotePort, localAddress, localPort }: Ends): string {
  return `${remoteAddress}|${remotePort}|${localAddress}|${localPort}`;
}
