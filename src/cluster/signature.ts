import { createHmac, timingSafeEqual } from "node:crypto";
import type { Clock } from "../base/clock.ts";
import type { Secret } from "../base/secret.ts";

/** How far two machines' clocks may be apart; also for how long a nonce is remembered. */
const WINDOW_MS = 60_000;

/** Requests of peers in {@link WINDOW_MS}; beyond it one that was seen could not be told from one that was not. */
const MAX_NONCES = 200_000;

export const DATE_HEADER = "weir-date";
export const NONCE_HEADER = "weir-nonce";
export const SIGNATURE_HEADER = "weir-signature";

/** What a signature covers. */
export interface SignedRequest {
  readonly method: string;
  /** With its query, as it stands in the request line. */
  readonly path: string;
}

/** The headers that prove that a request comes from who knows the secret. `nonce` is never to be used again. */
export function signRequest(
  request: SignedRequest,
  o: { readonly secret: Secret; readonly nowMs: number; readonly nonce: string },
): Readonly<Record<string, string>> {
  const date = String(o.nowMs);
  return {
    [DATE_HEADER]: date,
    [NONCE_HEADER]: o.nonce,
    [SIGNATURE_HEADER]: signature(request, date, o.nonce, o.secret).toString("base64url"),
  };
}

export interface SignatureHeaders {
  readonly date: string | undefined;
  readonly nonce: string | undefined;
  readonly signature: string | undefined;
}

/** Why a request is refused; for the log, never for who sent it. */
export type SignatureFault = "unsigned" | "wrong signature" | "wrong time" | "replayed" | "too many requests";

/** Judges signed requests; each passes once. */
export class SignatureCheck {
  readonly #secret: Secret;
  readonly #clock: Clock;
  /** Nonce to the time from which its date would be refused anyway, oldest first. */
  readonly #seen = new Map<string, number>();

  constructor(secret: Secret, clock: Clock) {
    this.#secret = secret;
    this.#clock = clock;
  }

  /** Undefined when the request is genuine and new. */
  fault(request: SignedRequest, headers: SignatureHeaders): SignatureFault | undefined {
    const { date, nonce, signature: given } = headers;
    if (date === undefined || nonce === undefined || given === undefined || !/^\d{1,15}$/.test(date)) {
      return "unsigned";
    }
    const expected = signature(request, date, nonce, this.#secret);
    const told = Buffer.from(given, "base64url");
    if (told.length !== expected.length || !timingSafeEqual(told, expected)) {
      return "wrong signature";
    }
    const now = this.#clock.now();
    if (Math.abs(now - Number(date)) > WINDOW_MS) {
      return "wrong time";
    }
    this.#forget(now);
    if (this.#seen.has(nonce)) {
      return "replayed";
    }
    if (this.#seen.size >= MAX_NONCES) {
      return "too many requests";
    }
    this.#seen.set(nonce, now + 2 * WINDOW_MS);
    return undefined;
  }

  #forget(now: number): void {
    for (const [nonce, untilMs] of this.#seen) {
      if (untilMs > now) return;
      this.#seen.delete(nonce);
    }
  }
}

function signature({ method, path }: SignedRequest, date: string, nonce: string, secret: Secret): Buffer {
  // None of the parts can hold a line break, so no two requests share a text.
  return createHmac("sha256", secret.reveal()).update([method, path, date, nonce].join("\n")).digest();
}
