import { createHash } from "node:crypto";
import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import { compileGlob } from "../../base/glob.ts";
import type { Log } from "../../base/log.ts";
import type { CredentialConfig, EndpointConfig, UpstreamConfig } from "../../config/types.ts";
import { UpstreamError } from "../upstream.ts";
import type { Credential, CredentialOutlook, CredentialPool, CredentialStatus } from "./credential.ts";
import type { ParkedCredentials } from "./parked.ts";
import { Parking } from "./parking.ts";
import { type CredentialSource, type ResolvedSecret, SourceError } from "./source.ts";

/** What the pool reports; telemetry/ implements it. Labels come from the configuration only. */
export interface CredentialObserver {
  /** It is kept from the registry, or is not any more. Undefined: it is not this upstream's any more. */
  credentialParked(upstream: string, credential: string, parked: boolean | undefined): void;
  /** When what is used of it now ends, wall-clock milliseconds. Undefined: it does not, or is not this upstream's any more. */
  credentialExpires(upstream: string, credential: string, atMs: number | undefined): void;
}

export interface CredentialPoolDeps {
  readonly upstream: UpstreamConfig;
  /** Whose registry they are for; one of the upstream's. */
  readonly endpoint: EndpointConfig;
  /** Share of a credential's quota that is left, 0 to 1; undefined where nothing is known, which counts as all of it. */
  quotaLeft(label: string): number | undefined;
  readonly parked: ParkedCredentials;
  readonly clock: Clock;
  readonly log: Log;
  readonly observer: CredentialObserver;
  /** Where a configured credential's secret is. */
  sourceOf(config: CredentialConfig): CredentialSource;
}

interface Member {
  readonly label: string;
  readonly source: CredentialSource;
  fits(repository: string): boolean;
  /** Refusals in a row, over all the secrets that it has had meanwhile. */
  failures: number;
  parkedUntilMs: number | undefined;
  /** Whether the observer knows of it. */
  reported: boolean;
  expiresAtMs: number | undefined;
  lastError: string | undefined;
}

/** The credentials of one of an upstream's endpoints. */
export class Credentials implements CredentialPool {
  readonly #deps: CredentialPoolDeps;
  readonly #members: readonly Member[];
  readonly #parking: Parking;
  readonly #closing = new AbortController();

  constructor(deps: CredentialPoolDeps) {
    this.#deps = deps;
    const { upstream, endpoint } = deps;
    this.#members = upstream.credentials
      .filter(({ label }) => endpoint.credentials.includes(label))
      .map((config) => this.#member(config));
    this.#parking = new Parking(deps);
  }

  applies(repository: string): boolean {
    return this.#members.some((member) => member.fits(repository));
  }

  async choose(repository: string, o: CallOptions): Promise<Credential | undefined> {
    const errors: UpstreamError[] = [];
    for (const member of this.#inOrder(repository)) {
      const result = await this.#use(member, repository, o);
      if (!(result instanceof UpstreamError)) {
        return result;
      }
      errors.push(result);
    }
    const error = noneUsable(errors);
    if (error !== undefined) {
      throw error;
    }
    return undefined;
  }

  async resolve(label: string, o: CallOptions): Promise<Credential> {
    const member = this.#members.find((candidate) => candidate.label === label);
    if (member === undefined) {
      throw new RangeError(`${this.#deps.upstream.name} has no credential ${JSON.stringify(label)} here`);
    }
    const result = await this.#use(member, undefined, o);
    if (result instanceof UpstreamError) {
      throw result;
    }
    return result;
  }

  async refused(credential: Credential, o: CallOptions): Promise<void> {
    const member = this.#members.find(({ label }) => label === credential.label);
    if (member === undefined) {
      return;
    }
    const before = member.source.renews ? member.failures : 0;
    const state = await this.#parking.refused(credential.fingerprint, before, o);
    if (state === undefined) {
      return;
    }
    const { untilMs, failures } = state;
    member.failures = failures;
    member.source.refused();
    this.#setParked(member, untilMs);
    member.lastError = this.#refusal(member, untilMs).message;
    this.#deps.log.warn({ upstream: this.#deps.upstream.name, credential: member.label, failures }, member.lastError);
  }

  accepted(credential: Credential): void {
    const member = this.#members.find(({ label }) => label === credential.label);
    if (member === undefined || !(this.#parking.accepted(credential.fingerprint) || member.failures > 0)) {
      return;
    }
    member.failures = 0;
    member.lastError = undefined;
    this.#setParked(member, undefined);
    const { upstream, log } = this.#deps;
    log.info({ upstream: upstream.name, credential: member.label }, "a credential that was refused is accepted again");
  }

  status(): readonly CredentialStatus[] {
    return this.#members.map((member) => this.#status(member));
  }

  outlook(repository: string): CredentialOutlook {
    const inOrder = this.#inOrder(repository);
    const parked = inOrder.flatMap((member) => {
      const { parkedUntilMs } = this.#status(member);
      return parkedUntilMs === undefined ? [] : [this.#refusal(member, parkedUntilMs)];
    });
    return {
      inOrder: inOrder.map((member) => this.#status(member)),
      refusal: parked.length < inOrder.length ? undefined : noneUsable(parked),
    };
  }

  close(): void {
    if (this.#closing.signal.aborted) {
      return;
    }
    const { upstream, observer } = this.#deps;
    for (const { label, source } of this.#members) {
      source.close();
      observer.credentialParked(upstream.name, label, undefined);
      observer.credentialExpires(upstream.name, label, undefined);
    }
    this.#closing.abort();
  }

  /** Those that apply, the one with most quota left first. */
  #inOrder(repository: string): readonly Member[] {
    const fitting = this.#members.filter((member) => member.fits(repository));
    const left = new Map(fitting.map((member) => [member, this.#deps.quotaLeft(member.label) ?? 1]));
    return fitting.toSorted((a, b) => (left.get(b) ?? 1) - (left.get(a) ?? 1));
  }

  #status({ label, parkedUntilMs, expiresAtMs, lastError }: Member): CredentialStatus {
    const now = this.#deps.clock.now();
    return {
      label,
      parkedUntilMs: parkedUntilMs !== undefined && now < parkedUntilMs ? parkedUntilMs : undefined,
      expiresAtMs,
      lastError,
    };
  }

  /** What it is now; or why it cannot be used, as an error that is not thrown, so that another may take its place. */
  async #use(member: Member, repository: string | undefined, o: CallOptions): Promise<Credential | UpstreamError> {
    let resolved: ResolvedSecret;
    try {
      resolved = await member.source.resolve({ ...o, repository });
    } catch (error) {
      if (!(error instanceof SourceError)) {
        throw error;
      }
      const { name } = this.#deps.upstream;
      const message = `${name}: credential ${JSON.stringify(member.label)} cannot be used: ${error.message}`;
      if (member.lastError !== message) {
        member.lastError = message;
        this.#deps.log.warn({ upstream: name, credential: member.label, fault: error.fault }, message);
      }
      return new UpstreamError(name, error.fault, message, { credential: member.label });
    }
    const credential = { ...resolved, label: member.label, fingerprint: this.#fingerprint(resolved) };
    const parkedUntilMs = await this.#parking.enter(credential.fingerprint, o);
    this.#setExpiry(member, credential.expiresAtMs);
    this.#setParked(member, parkedUntilMs);
    if (parkedUntilMs !== undefined) {
      const error = this.#refusal(member, parkedUntilMs);
      member.lastError = error.message;
      return error;
    }
    if (member.failures === 0) {
      member.lastError = undefined;
    }
    return credential;
  }

  #member(config: CredentialConfig): Member {
    const globs = config.repositories?.map(compileGlob);
    return {
      label: config.label,
      source: this.#deps.sourceOf(config),
      fits: (repository) => globs?.some((matches) => matches(repository)) ?? true,
      failures: 0,
      parkedUntilMs: undefined,
      reported: false,
      expiresAtMs: undefined,
      lastError: undefined,
    };
  }

  /** Of the registry's host too: what one registry refuses may be right for another. */
  #fingerprint({ form, username, secret }: ResolvedSecret): string {
    const { host } = this.#deps.endpoint.url;
    return createHash("sha256")
      .update(JSON.stringify([host, form, username, secret.hash()]))
      .digest("hex");
  }

  #refusal(member: Member, untilMs: number): UpstreamError {
    const { upstream, clock } = this.#deps;
    const retryAfterMs = Math.max(untilMs - clock.now(), 0);
    const message = `${upstream.name}: credential ${JSON.stringify(member.label)} was refused by the registry and is kept from it for another ${Math.ceil(retryAfterMs / 1000)} s, or until its secret changes; correct it in upstreams.${upstream.name}.credentials`;
    return new UpstreamError(upstream.name, "credential", message, { credential: member.label, retryAfterMs });
  }

  #setParked(member: Member, untilMs: number | undefined): void {
    if ((member.reported && member.parkedUntilMs === untilMs) || this.#closing.signal.aborted) {
      return;
    }
    const { upstream, clock, observer } = this.#deps;
    member.reported = true;
    member.parkedUntilMs = untilMs;
    observer.credentialParked(upstream.name, member.label, untilMs !== undefined);
    if (untilMs !== undefined) {
      clock.sleep(untilMs - clock.now(), this.#closing.signal).then(
        // Somebody may have parked it for longer, or freed it.
        () => member.parkedUntilMs === untilMs && this.#setParked(member, undefined),
        () => {}, // closed
      );
    }
  }

  #setExpiry(member: Member, atMs: number | undefined): void {
    if (member.expiresAtMs !== atMs && !this.#closing.signal.aborted) {
      member.expiresAtMs = atMs;
      this.#deps.observer.credentialExpires(this.#deps.upstream.name, member.label, atMs);
    }
  }
}

/** Of several that cannot be used, the one that may mend by itself soonest stands for all; the message says what is with each. */
function noneUsable(errors: readonly UpstreamError[]): UpstreamError | undefined {
  const rank = ({ trouble, retryAfterMs }: UpstreamError): number => (trouble ? -1 : (retryAfterMs ?? Infinity));
  const [best, ...others] = errors.toSorted((a, b) => rank(a) - rank(b));
  if (best === undefined || others.length === 0) {
    return best;
  }
  const { upstream, fault, credential, retryAfterMs } = best;
  return new UpstreamError(upstream, fault, errors.map(({ message }) => message).join("; "), {
    ...(credential === undefined ? {} : { credential }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}
