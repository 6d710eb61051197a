import { readFile } from "node:fs/promises";
import type { CompactJWSHeaderParameters, CryptoKey, JSONWebKeySet } from "jose";
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { withDeadline } from "../base/deadline.ts";
import type { Log } from "../base/log.ts";
import { SingleFlight } from "../base/single-flight.ts";
import { OciError } from "../oci/errors.ts";
import type { Documents } from "./documents.ts";
import { readUsing } from "./read-file.ts";
import { badToken } from "./sign-in-error.ts";

/** Key sets have a few kilobytes. */
const MAX_BYTES = 256 * 1024;
const MAX_KEYS = 100;

/** Issuers change their keys by the month; a key that is revoked should not count for much longer than this. */
const FRESH_MS = 60 * 60 * 1000;

/** How long keys go on counting while the issuer cannot be reached. */
const STALE_MS = 24 * 60 * 60 * 1000;

/** A token with a key that is not known makes us look again, no more often than this, whoever makes tokens up. */
const LOOK_AGAIN_MS = 30_000;

/** An issuer that could not be reached is left alone for so long. */
const FAILED_MS = 5_000;

/** For a look-up, while a client waits. */
const LOOK_UP_MS = 10_000;

export interface KeySetOptions {
  /** The configuration's, for messages: `access.oidc.issuers[0]`. */
  readonly section: string;
  /** As in the configuration, for messages. */
  readonly issuer: string;
  /** A path, an address, or undefined for what the issuer's discovery document says. */
  readonly place: string | URL | undefined;
  readonly ca: string | undefined;
  readonly tokenFile: string | undefined;
}

export interface KeySetDeps {
  readonly documents: Documents;
  readonly clock: Clock;
  readonly log: Log;
}

type Resolve = (header: CompactJWSHeaderParameters) => Promise<CryptoKey>;

interface Known {
  readonly resolve: Resolve;
  readonly atMs: number;
}

/** An issuer's published keys, fetched when they are wanted and kept for a while. */
export class KeySet {
  readonly #options: KeySetOptions;
  readonly #deps: KeySetDeps;
  readonly #flights = new SingleFlight<Known>();
  #known: Known | undefined;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #failedAtMs = Number.NEGATIVE_INFINITY;

  /** @throws AccessFileError where a file that is named cannot be used */
  constructor(options: KeySetOptions, deps: KeySetDeps) {
    const { section, place, ca, tokenFile } = options;
    if (typeof place === "string") readUsing(`${section}.jwks`, place, (text) => parseKeySet(Buffer.from(text)));
    if (ca !== undefined) readUsing(`${section}.ca`, ca, (text) => text);
    if (tokenFile !== undefined) readUsing(`${section}.tokenFile`, tokenFile, (text) => text);
    this.#options = options;
    this.#deps = deps;
  }

  /** The key that the header names. Rejects with an OciError UNAVAILABLE where the issuer's keys cannot be had. */
  async find(header: CompactJWSHeaderParameters, o: CallOptions): Promise<CryptoKey> {
    const known = await this.#current(o);
    try {
      return await resolved(known, header);
    } catch (error) {
      if (!isUnknownKey(error) || this.#deps.clock.now() - this.#askedAtMs < LOOK_AGAIN_MS) {
        throw error;
      }
    }
    return await resolved(await this.#look(o), header);
  }

  async #current(o: CallOptions): Promise<Known> {
    const now = this.#deps.clock.now();
    if (this.#known !== undefined && now - this.#known.atMs < FRESH_MS) {
      return this.#known;
    }
    return now - this.#failedAtMs < FAILED_MS ? this.#lastResort() : await this.#look(o);
  }

  #lastResort(): Known {
    const known = this.#known;
    if (known !== undefined && this.#deps.clock.now() - known.atMs < STALE_MS) {
      return known;
    }
    throw new OciError(
      "UNAVAILABLE",
      `Weir cannot read the keys of ${this.#options.issuer}, so it cannot tell whether the token is its; try again, and see Weir's log`,
      { headers: { "retry-after": "5" } },
    );
  }

  async #look(o: CallOptions): Promise<Known> {
    const { clock, log } = this.#deps;
    try {
      const { value } = await this.#flights.run("", o, async (signal) => {
        const deadline = withDeadline(signal, LOOK_UP_MS, clock);
        this.#askedAtMs = clock.now();
        try {
          const known = { resolve: await this.#fetch(deadline.signal), atMs: this.#askedAtMs };
          this.#known = known;
          return known;
        } finally {
          deadline.clear();
        }
      });
      return value;
    } catch (err) {
      if (o.signal.aborted) throw err;
      this.#failedAtMs = clock.now();
      log.warn({ err, issuer: this.#options.issuer }, "the keys of a token issuer cannot be read");
      return this.#lastResort();
    }
  }

  async #fetch(signal: AbortSignal): Promise<Resolve> {
    const { place } = this.#options;
    const at = place ?? (await this.#discover(signal));
    const bytes = typeof at === "string" ? await readBounded(at, signal) : await this.#read(at, signal);
    const { createLocalJWKSet } = await import("jose");
    return createLocalJWKSet(parseKeySet(bytes));
  }

  /** OpenID Connect Discovery 1.0, section 4. */
  async #discover(signal: AbortSignal): Promise<URL> {
    const { issuer } = this.#options;
    const at = new URL(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
    const { issuer: named, jwks_uri: keys } = parseObject(await this.#read(at, signal));
    if (named !== issuer) {
      throw new Error(`the discovery document at ${at.host} is another issuer's than ${issuer}`);
    }
    if (typeof keys !== "string" || !URL.canParse(keys)) {
      throw new Error(`the discovery document of ${issuer} names no jwks_uri`);
    }
    const url = new URL(keys);
    if (url.protocol !== "https:" && url.protocol !== at.protocol) {
      throw new Error(`the discovery document of ${issuer} names a jwks_uri without TLS`);
    }
    return url;
  }

  #read(url: URL, signal: AbortSignal): Promise<Uint8Array> {
    const { ca, tokenFile } = this.#options;
    return this.#deps.documents.read(url, { signal, maxBytes: MAX_BYTES, ca, tokenFile });
  }
}

/** A key that the issuer lists wrongly, such as a point that is not on its curve, is no failure of ours. */
async function resolved({ resolve }: Known, header: CompactJWSHeaderParameters): Promise<CryptoKey> {
  try {
    return await resolve(header);
  } catch (error) {
    throw isOfLibrary(error) ? error : badToken("is signed by a key of its issuer's that cannot be used");
  }
}

async function readBounded(path: string, signal: AbortSignal): Promise<Uint8Array> {
  const bytes = await readFile(path, { signal });
  if (bytes.length > MAX_BYTES) {
    throw new Error(`${path} has ${bytes.length} bytes, of ${MAX_BYTES} at most`);
  }
  return bytes;
}

/** A JSON Web Key Set (RFC 7517, 5). Secret keys are no part of it: whoever reads them could sign. @throws Error */
export function parseKeySet(bytes: Uint8Array): JSONWebKeySet {
  const { keys } = parseObject(bytes);
  if (!Array.isArray(keys) || keys.length > MAX_KEYS) {
    throw new Error(`is no JSON Web Key Set of ${MAX_KEYS} keys at most`);
  }
  return { keys: keys.filter((key) => typeof key === "object" && key !== null && key.kty !== "oct") };
}

function parseObject(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch (cause) {
    throw new Error("is not JSON", { cause });
  }
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

/** What it foresees has a code of its own. */
function isOfLibrary(error: unknown): boolean {
  return error instanceof Error && "code" in error && String(error.code).startsWith("ERR_J");
}

function isUnknownKey(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ERR_JWKS_NO_MATCHING_KEY";
}
