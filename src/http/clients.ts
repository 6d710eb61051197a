import type { IncomingMessage } from "node:http";

/** Who a request is from, and whether they may come in at all. */
export interface ClientGate {
  /** The client's address, behind trusted proxies too; undefined where it cannot be known. */
  addressOf(peer: string | undefined, forwardedFor: string | undefined): string | undefined;
  /** @throws AccessDeniedError */
  admit(client: string | undefined): void;
  /** Whether the client may be sent elsewhere for the bytes of a blob, where they can be had elsewhere. */
  mayRedirect(client: string | undefined): boolean;
  /** Where the other end of the connection, a web server, has the files of blobs; undefined where it wants their bytes. */
  accelRedirect(peer: string | undefined): string | undefined;
  /** What these decisions rest on: another object as soon as they may be others. */
  rules(): object;
}

/** Whom requests are from. What is decided about a connection's other end is decided once for all of its requests. */
export class Clients {
  readonly #gate: ClientGate;
  readonly #known = new WeakMap<object, Client>();

  constructor(gate: ClientGate) {
    this.#gate = gate;
  }

  of(req: IncomingMessage): Client {
    const { socket } = req;
    const forwardedFor = req.headers["x-forwarded-for"];
    if (forwardedFor !== undefined) {
      // Each of the requests that come from a proxy may be another client's.
      return new Client(this.#gate, req, String(forwardedFor));
    }
    const known = this.#known.get(socket);
    if (known?.rules === this.#gate.rules()) {
      return known;
    }
    const client = new Client(this.#gate, req, undefined);
    // A connection that has ended has no address any more.
    if (client.peer !== undefined) this.#known.set(socket, client);
    return client;
  }
}

/** A client, and what is decided about it when somebody asks, by one set of rules. */
export class Client {
  readonly #gate: ClientGate;
  /** The other end of the connection. */
  readonly peer: string | undefined;
  /** The client's address; undefined where it cannot be known. */
  readonly address: string | undefined;
  /** The address, or that of the proxy that does not say; undefined when it had left at once. */
  readonly shown: string | undefined;
  readonly scheme: "http" | "https";
  readonly rules: object;
  readonly #isForwarded: boolean;
  #admitted = false;
  #mayRedirect: boolean | undefined;

  constructor(gate: ClientGate, { socket }: IncomingMessage, forwardedFor: string | undefined) {
    this.#gate = gate;
    this.rules = gate.rules();
    this.peer = socket.remoteAddress;
    this.scheme = "encrypted" in socket ? "https" : "http";
    this.#isForwarded = forwardedFor !== undefined;
    this.address = gate.addressOf(this.peer, forwardedFor);
    this.shown = this.address ?? this.peer;
  }

  /** @throws AccessDeniedError */
  admit(): void {
    if (this.#admitted) return;
    this.#gate.admit(this.address);
    this.#admitted = true;
  }

  get mayRedirect(): boolean {
    this.#mayRedirect ??= this.#gate.mayRedirect(this.address);
    return this.#mayRedirect;
  }

  /** As {@link ClientGate.accelRedirect}. Who asks for itself, on the proxy's machine perhaps, can make nothing of a file's place. */
  get accelRedirect(): string | undefined {
    return this.#isForwarded ? this.#gate.accelRedirect(this.peer) : undefined;
  }
}
