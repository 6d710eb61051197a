import { timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { Secret } from "../base/secret.ts";
import type { PageClients } from "./page/page-source.ts";

/** Wrong tokens that one address may send in {@link WINDOW_MS}: a person mistypes a few times, a program that guesses more often. */
const MAX_WRONG = 10;
const WINDOW_MS = 60_000;

/** Addresses that are remembered for it; the one that began first is forgotten first. */
const MAX_ADDRESSES = 1_000;

export type TokenVerdict =
  | { readonly is: "right" | "wrong" }
  /** The address has sent too many wrong ones: not even looked at. */
  | { readonly is: "slowed"; readonly retryAfterMs: number };

export interface AdminTokensDeps {
  readonly clients: Pick<PageClients, "addressOf" | "networkOf">;
  readonly clock: Clock;
  readonly log: Log;
}

/** Whether what somebody sends is a token that opens what is the operator's. Wrong ones are logged, never themselves. */
export class AdminTokens {
  readonly #hashes: readonly Buffer[];
  readonly #deps: AdminTokensDeps;
  /** By address, the oldest first. */
  readonly #wrong = new Map<string, { sinceMs: number; count: number }>();

  constructor(tokens: readonly Secret[], deps: AdminTokensDeps) {
    this.#hashes = tokens.map(hashOf);
    this.#deps = deps;
  }

  /** Nothing opens it. */
  get none(): boolean {
    return this.#hashes.length === 0;
  }

  /** @param req with which it came; attempts are counted by the client's address */
  judge(sent: string, req: IncomingMessage): TokenVerdict {
    const { clients, clock, log } = this.#deps;
    const client = clients.addressOf(req.socket.remoteAddress, joined(req.headers["x-forwarded-for"]));
    const address = client === undefined ? "" : clients.networkOf(client);
    const wrong = this.#wrong.get(address);
    const endsMs = (wrong?.sinceMs ?? 0) + WINDOW_MS;
    const nowMs = clock.now();
    const isOver = wrong === undefined || nowMs >= endsMs;
    if (!isOver && wrong.count >= MAX_WRONG) {
      return { is: "slowed", retryAfterMs: endsMs - nowMs };
    }
    const given = hashOf(new Secret(sent));
    // All of them, whichever it is, and hashes, which have one length: nothing to learn from the time it takes.
    const fits = this.#hashes.map((hash) => timingSafeEqual(given, hash));
    if (fits.includes(true)) {
      return { is: "right" };
    }
    const count = isOver ? 1 : wrong.count + 1;
    log.warn({ client, count }, "a wrong token was sent to the admin listener");
    this.#count(address, { sinceMs: isOver ? nowMs : wrong.sinceMs, count });
    return { is: "wrong" };
  }

  #count(address: string, attempts: { sinceMs: number; count: number }): void {
    if (attempts.count === 1) {
      this.#wrong.delete(address);
    }
    this.#wrong.set(address, attempts);
    const [oldest] = this.#wrong.keys();
    if (this.#wrong.size > MAX_ADDRESSES && oldest !== undefined) {
      this.#wrong.delete(oldest);
    }
  }
}

/** A header that may come in several lines. */
export function joined(header: string | readonly string[] | undefined): string | undefined {
  return typeof header === "object" ? header.join(",") : header;
}

function hashOf(token: Secret): Buffer {
  return Buffer.from(token.hash(), "hex");
}
