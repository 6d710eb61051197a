import { DeadlineError, withDeadline } from "../../base/deadline.ts";
import type { EndpointConfig, UpstreamConfig } from "../../config/types.ts";
import { parseManifest, platformChild } from "../../oci/manifest.ts";
import { formatReference, type Reference } from "../../oci/reference.ts";
import { blobSize } from "../blob-calls.ts";
import { createEndpoint, type EndpointParts, type UpstreamDeps } from "../create.ts";
import type { ParkedCredentials } from "../credentials/parked.ts";
import { createEgress } from "../egress.ts";
import { getManifest, headManifest } from "../manifest-calls.ts";
import type { Lookup } from "../transport.ts";
import { UpstreamError, type UpstreamExchange } from "../upstream.ts";
import { judgeClock, judgeFault, judgePing, judgeQuota } from "./judge.ts";
import { probe } from "./probe.ts";
import { failed, good, type Step, type StepName, skipped, type Verdict } from "./step.ts";

/** An image to ask for. */
export interface Sample {
  /** The upstream's name for it. */
  readonly repository: string;
  readonly reference: Reference;
}

export interface ExamineOptions {
  readonly signal: AbortSignal;
  /** Undefined: none is known, so that there is nothing to ask for. */
  readonly sample: Sample | undefined;
  /** For each step. */
  readonly timeoutMs: number;
  /** Asks for a blob also where the manifest in front of it counts against a quota. */
  readonly blobs: boolean;
}

export interface DoctorDeps extends Omit<UpstreamDeps, "observer" | "parked" | "credentialObserver" | "dynamic"> {
  readonly lookup: Lookup;
  /** Milliseconds that only ever grow. */
  monotonicMs(): number;
}

/** What was found at one endpoint; safe to show as it is. */
export interface Examination {
  readonly upstream: string;
  /** Scheme, host and port. */
  readonly endpoint: string;
  /** Host and port of the proxy on the way; undefined without one. */
  readonly proxy: string | undefined;
  /** `library/alpine:latest`; undefined where there was none. */
  readonly sample: string | undefined;
  readonly steps: readonly Step[];
}

const BY_CERTIFICATE = "private, since the registry knows Weir by its client certificate";

const NOTHING_PARKED: ParkedCredentials = { get: async () => undefined, put: async () => {}, delete: async () => {} };

/** Asks each of an upstream's endpoints, with each of its credentials, as a server would. Rejects only with the signal's reason. */
export async function examineUpstream(
  config: UpstreamConfig,
  deps: DoctorDeps,
  o: ExamineOptions,
): Promise<readonly Examination[]> {
  const found: Examination[] = [];
  for (const [i, endpoint] of config.endpoints.entries()) {
    found.push(await examineEndpoint(withinTimeout(config, o.timeoutMs), endpoint, i === 0, deps, o));
  }
  return found;
}

/** Nothing may take longer than a step does, and nothing is asked unasked. */
function withinTimeout(config: UpstreamConfig, timeoutMs: number): UpstreamConfig {
  const { connectMs, headersMs, bodyMs } = config.timeouts;
  return {
    ...config,
    quotaProbeMs: undefined,
    timeouts: {
      connectMs: Math.min(connectMs, timeoutMs),
      headersMs: Math.min(headersMs, timeoutMs),
      bodyMs: Math.min(bodyMs, timeoutMs),
    },
  };
}

async function examineEndpoint(
  config: UpstreamConfig,
  endpoint: EndpointConfig,
  isFirst: boolean,
  deps: DoctorDeps,
  o: ExamineOptions,
): Promise<Examination> {
  const egress = createEgress(config.proxy, deps.proxies);
  const head = {
    upstream: config.name,
    endpoint: endpoint.url.origin,
    proxy: egress.proxyFor(endpoint.url)?.url.host,
    sample: o.sample && written(o.sample),
  };
  const { lookup, clock, monotonicMs } = deps;
  const exchanges: UpstreamExchange[] = [];
  let parts: EndpointParts;
  try {
    parts = createEndpoint(config, endpoint, {
      ...deps,
      // Whether the credential is right is the question, whatever a server has come to think of it.
      parked: NOTHING_PARKED,
      credentialObserver: { credentialParked: () => {}, credentialExpires: () => {} },
      observer: { exchange: (exchange) => exchanges.push(exchange), received: () => {}, breaker: () => {} },
      isFirst,
      // Another endpoint is examined by itself, and a failure is shown rather than tried again.
      isOnly: false,
    });
  } catch (error) {
    const verdict = failed(messageOf(error), "check the path, and that this user may read the file");
    return { ...head, steps: [{ name: "tls", credential: undefined, ...verdict, ms: undefined }] };
  }
  try {
    const way = await probe(config, endpoint.url, { egress, lookup, clock, monotonicMs: () => monotonicMs() }, o);
    if (way.some(({ status }) => status === "failed")) {
      return { ...head, steps: way };
    }
    const registry = new RegistryExamination({ config, endpoint, parts, exchanges, deps, o });
    return { ...head, steps: [...way, ...(await registry.run())] };
  } finally {
    await parts.close();
  }
}

interface RegistryDeps {
  readonly config: UpstreamConfig;
  readonly endpoint: EndpointConfig;
  readonly parts: EndpointParts;
  /** Everything that was sent so far. */
  readonly exchanges: readonly UpstreamExchange[];
  readonly deps: DoctorDeps;
  readonly o: ExamineOptions;
}

/** What came of one piece of work. */
interface Outcome<T> {
  readonly value: T | undefined;
  readonly error: unknown;
  readonly ms: number;
  /** What was sent for it. */
  readonly exchanges: readonly UpstreamExchange[];
}

/** What the registry says, once there is a way to it. */
class RegistryExamination {
  readonly #r: RegistryDeps;
  readonly #steps: Step[] = [];

  constructor(r: RegistryDeps) {
    this.#r = r;
  }

  async run(): Promise<readonly Step[]> {
    const { parts, o } = this.#r;
    if (!(await this.#ping())) {
      return this.#steps;
    }
    const labels = parts.configured.map(({ label }) => label);
    const { sample } = o;
    if (sample === undefined) {
      for (const label of labels) await this.#findCredential(label);
      this.#add("manifest", undefined, skipped("no image is known to ask for; name one by --reference"), undefined);
      return this.#steps;
    }
    const readable = [await this.#asNobody(sample, labels.length === 0)];
    for (const label of labels) readable.push(await this.#as(label, sample));
    if (readable.includes(true)) {
      await this.#blob(sample);
    }
    return this.#steps;
  }

  #add(name: StepName, credential: string | undefined, verdict: Verdict, ms: number | undefined): void {
    this.#steps.push({ name, credential, ...verdict, ms });
  }

  /** Does the work within the time of one step. */
  async #timed<T>(work: (signal: AbortSignal) => Promise<T>): Promise<Outcome<T>> {
    const { deps, o, exchanges } = this.#r;
    const startedMs = deps.monotonicMs();
    const before = exchanges.length;
    const late = withDeadline(o.signal, o.timeoutMs, deps.clock);
    let value: T | undefined;
    let error: unknown;
    try {
      value = await work(late.signal);
    } catch (reason) {
      o.signal.throwIfAborted();
      error = reason;
    } finally {
      late.clear();
    }
    return { value, error, ms: deps.monotonicMs() - startedMs, exchanges: exchanges.slice(before) };
  }

  /** Whether a registry answers. */
  async #ping(): Promise<boolean> {
    const { config, endpoint, parts, deps } = this.#r;
    const { value, error, ms } = await this.#timed(async (signal) => {
      const answer = await parts.exchange.ask(
        {
          kind: "base",
          method: "GET",
          url: new URL("/v2/", endpoint.url),
          side: "own",
          lane: "documents",
          headers: { "accept-encoding": "identity", "user-agent": "weir" },
          authorization: undefined,
          redirects: "follow",
        },
        { signal },
      );
      answer.settle();
      answer.discard();
      return answer;
    });
    if (value === undefined) {
      this.#add("ping", undefined, this.#verdictOf(error, false), ms);
      return false;
    }
    const verdict = judgePing(config.name, value.status, value.headers.lines("www-authenticate"));
    this.#add("ping", undefined, verdict, ms);
    const clock = judgeClock(value.headers.get("date"), deps.clock.now());
    if (clock !== undefined) {
      this.#add("clock", undefined, clock, undefined);
    }
    return verdict.status !== "failed";
  }

  /** Whether a credential can be had from where it is kept; all there is to find out without an image to ask for. */
  async #findCredential(label: string): Promise<void> {
    const { parts } = this.#r;
    const { error, ms } = await this.#timed((signal) => parts.credentials.resolve(label, { signal }));
    const verdict = error === undefined ? good("found, and not tried") : this.#verdictOf(error, true);
    this.#add("token", label, verdict, ms);
  }

  /** @param only nobody else asks, so that a refusal is a failure */
  async #asNobody(sample: Sample, only: boolean): Promise<boolean> {
    if (only) {
      const readable = await this.#as(undefined, sample);
      if (readable) {
        this.#add("visibility", undefined, good(this.#r.parts.certified ? BY_CERTIFICATE : "public"), undefined);
      }
      return readable;
    }
    const { error, ms } = await this.#head(sample, undefined);
    if (this.#r.parts.certified) {
      this.#add("visibility", undefined, good(BY_CERTIFICATE), ms);
    } else if (error instanceof UpstreamError && error.fault === "denied") {
      const how = good("private: for clients only where access.privateToAnonymous is true");
      this.#add("visibility", undefined, how, ms);
    } else if (error === undefined) {
      this.#add("visibility", undefined, good("public"), ms);
    } else {
      this.#add("visibility", undefined, skipped(`not known: ${messageOf(error)}`), ms);
    }
    // Whether a credential may read it is another question, which is still to come.
    return false;
  }

  /** Token, manifest and quota of one identity; whether it may read the sample. */
  async #as(label: string | undefined, sample: Sample): Promise<boolean> {
    const { config, parts, deps } = this.#r;
    const { error, ms, exchanges } = await this.#head(sample, label);
    const tokens = exchanges.filter(({ kind }) => kind === "token");
    const tokenMs = tokens.reduce((sum, { durationMs }) => sum + durationMs, 0);
    const last = exchanges.at(-1);
    // Nothing was sent at all where the credential could not be had.
    const atRealm = error !== undefined && (last === undefined || last.kind === "token");
    if (atRealm) {
      this.#add("token", label, this.#verdictOf(error, true), ms);
      this.#add("manifest", label, skipped("there is no token"), undefined);
    } else {
      const [token] = tokens;
      const from = token === undefined ? skipped("none is asked for") : good(`from ${new URL(token.url).host}`);
      this.#add("token", label, from, token === undefined ? undefined : tokenMs);
      const verdict = error === undefined ? good(written(sample)) : this.#verdictOf(error, false);
      this.#add("manifest", label, verdict, ms - tokenMs);
    }
    for (const quota of parts.quotas.status().filter(({ credential }) => credential === label)) {
      const verdict = judgeQuota(config.name, quota, deps.clock.now());
      if (verdict !== undefined) {
        this.#add("quota", label, verdict, undefined);
      }
    }
    return error === undefined;
  }

  async #head({ repository, reference }: Sample, label: string | undefined): Promise<Outcome<unknown>> {
    const { parts } = this.#r;
    return await this.#timed((signal) =>
      headManifest(parts.calls, repository, reference, { signal }, { credential: label }),
    );
  }

  /** The first byte of the sample's first blob: what nothing else here has asked the blob hosts for. */
  async #blob(sample: Sample): Promise<void> {
    const { parts, o } = this.#r;
    if (parts.calls.adapter.countsAgainstQuota("manifest", "GET") && !o.blobs) {
      this.#add(
        "blob",
        undefined,
        skipped("its manifest would count against the quota; --blobs asks for it"),
        undefined,
      );
      return;
    }
    const { value, error, ms, exchanges } = await this.#timed((signal) => this.#firstByte(sample, signal));
    if (error !== undefined) {
      this.#add("blob", undefined, this.#verdictOf(error, false), ms);
      return;
    }
    const from = exchanges.findLast(({ kind }) => kind === "blob");
    this.#add(
      "blob",
      undefined,
      value === true && from !== undefined ? good(`from ${new URL(from.url).host}`) : skipped("the image has none"),
      ms,
    );
  }

  /** Whether there was a blob to ask for. */
  async #firstByte({ repository, reference }: Sample, signal: AbortSignal): Promise<boolean> {
    const { calls } = this.#r.parts;
    const read = async (wanted: Reference): Promise<ReturnType<typeof parseManifest>> => {
      const body = await getManifest(calls, repository, wanted, { signal });
      if (body === "not-modified") {
        throw new Error("an unconditional request was answered 304");
      }
      return parseManifest(body.bytes);
    };
    let manifest = await read(reference);
    const child = platformChild(manifest, { os: "linux", architecture: "amd64" }) ?? manifest.children[0];
    if (child !== undefined) {
      manifest = await read({ kind: "digest", digest: child.digest });
    }
    const [blob] = manifest.blobs;
    if (blob === undefined) {
      return false;
    }
    await blobSize(calls, repository, blob.digest, { signal });
    return true;
  }

  #verdictOf(error: unknown, realm: boolean): Verdict {
    const { o } = this.#r;
    if (error instanceof DeadlineError) {
      return failed(
        `nothing within ${o.timeoutMs} ms`,
        "the registry is slow, or something on the way holds the answer back; try again with a longer --timeout",
      );
    }
    return error instanceof UpstreamError
      ? judgeFault(error, { asked: o.sample === undefined ? "the image" : written(o.sample), realm })
      : failed(messageOf(error), "this is not expected: please report it");
  }
}

function written({ repository, reference }: Sample): string {
  return `${repository}${reference.kind === "tag" ? ":" : "@"}${formatReference(reference)}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
