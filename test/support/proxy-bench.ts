import { expect } from "vitest";
import { FetchBudgets, type SpentBudget } from "../../src/access/budget.ts";
import { type ContentRules, NO_CONTENT_RULES } from "../../src/access/content-rules.ts";
import { NO_ACCESS_RULES } from "../../src/access/rules.ts";
import { silentLog } from "../../src/base/log.ts";
import type { AccessConfig, FetchBudgetConfig, FreshnessConfig } from "../../src/config/types.ts";
import { type Digest, digestAlgorithm, digestOf, parseDigest } from "../../src/oci/digest.ts";
import { parseReference } from "../../src/oci/reference.ts";
import type {
  BlobAnswer,
  BlobCall,
  ManifestAnswer,
  ManifestCall,
  ReadyAnswer,
  ReferrersAnswer,
  ReferrersCall,
} from "../../src/proxy/answers.ts";
import type { StaleReason } from "../../src/proxy/freshness.ts";
import { Provenance } from "../../src/proxy/provenance.ts";
import { createProxy, type RunningProxy } from "../../src/proxy/proxy.ts";
import type { Remembered } from "../../src/proxy/remembered.ts";
import type { Room } from "../../src/proxy/room.ts";
import { noTurns } from "../../src/proxy/turns.ts";
import { createMemoryState } from "../../src/state/memory-state.ts";
import { createCachedObjects } from "../../src/storage/cached-objects.ts";
import { repositoryPart } from "../../src/storage/layout.ts";
import { createRepositories } from "../../src/storage/repositories-store.ts";
import { NO_SIGN_IN, NOBODY } from "./callers.ts";
import { FakeFills } from "./fake-fills.ts";
import { FakeUpstream } from "./fake-upstream.ts";
import { ManualClock } from "./manual-clock.ts";
import { createMemoryBlobStore, createMemorySmallObjects } from "./memory-store.ts";
import { boundlessRoom } from "./rooms.ts";

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

export const FRESHNESS: FreshnessConfig = {
  defaultMs: 10 * MINUTE,
  rules: [],
  staleIfErrorMs: 30 * DAY,
  softDeadlineMs: 1500,
  onGone: "keep",
  negativeMs: 10_000,
  proofTtlMs: HOUR,
  whenBudgetLow: { below: { share: 0.1 } },
};

/** A proxy over doubles of everything below it, which can be stopped and started anew on the same storage. */
export class ProxyBench {
  readonly clock = new ManualClock();
  readonly blobs = createMemoryBlobStore();
  readonly objects = createCachedObjects(createMemorySmallObjects(), undefined, (key) => {
    const part = repositoryPart(key);
    if (part !== undefined) this.proxy.changed(part);
  });
  readonly repositories = createRepositories(this.objects, silentLog);
  readonly provenance = new Provenance(this.repositories);
  readonly fills = new FakeFills(this.blobs, this.provenance.committed);
  readonly hub = new FakeUpstream("docker.io");
  readonly other = new FakeUpstream("other.example");
  readonly stale: StaleReason[] = [];
  /** What the other processes were told to be whole. */
  readonly toldVerified: (readonly [digest: Digest, size: number])[] = [];
  readonly signal = new AbortController().signal;
  freshness = FRESHNESS;
  privateToAnonymous = false;
  /** Who may come in; everybody at first. */
  comeIn: Pick<AccessConfig, "signIn" | "allow" | "deny"> = { signIn: NO_SIGN_IN, allow: [], deny: [] };
  /** None at first. */
  accessRules = NO_ACCESS_RULES;
  fetchBudget: FetchBudgetConfig | undefined;
  /** By upstream; none at first. */
  readonly rules = new Map<string, ContentRules>();
  room: Pick<Room, "touch"> = boundlessRoom;
  readonly maxAgeMs: number;
  readonly maxContentAgeMs: number;
  proxy: RunningProxy;
  #configured: readonly unknown[] = [];

  constructor(o: { readonly maxAgeMs?: number; readonly maxContentAgeMs?: number } = {}) {
    const { maxAgeMs = MINUTE, maxContentAgeMs = maxAgeMs } = o;
    this.maxAgeMs = maxAgeMs;
    this.maxContentAgeMs = maxContentAgeMs;
    this.proxy = this.#create();
  }

  /** As a new process would find things: storage is all that is left. */
  async restart(): Promise<void> {
    await this.stop();
    this.proxy = this.#create();
  }

  async stop(): Promise<void> {
    await this.fills.stop();
    await this.proxy.stop();
  }

  /** `GET docker.io/library/nginx:1` or `...@sha256:...`, as an anonymous client. */
  async get(reference: string, call: Partial<ManifestCall> = {}): Promise<ManifestAnswer> {
    const [, upstream = "", repository = "", separator, name = ""] =
      /^([^/]+)\/([^:@]+)(:|@)(.+)$/.exec(reference) ?? [];
    const whole: ManifestCall = {
      repo: { upstream, repository },
      reference: separator === "@" ? { kind: "digest", digest: parseDigest(name) } : parseReference(name),
      head: false,
      accept: undefined,
      caller: NOBODY,
      signal: this.signal,
      ...call,
    };
    const asked = { kind: "manifest", reference: whole.reference } as const;
    const ready = this.proxy.ready({ ...whole, asked, identity: whole.caller.identity });
    const answer = await this.proxy.manifest(whole);
    this.#expectSame(ready, answer);
    return answer;
  }

  async head(reference: string, call: Partial<ManifestCall> = {}): Promise<ManifestAnswer> {
    return await this.get(reference, { ...call, head: true });
  }

  async blob(reference: string, call: Partial<BlobCall> = {}): Promise<BlobAnswer> {
    const [, upstream = "", repository = "", digest = ""] = /^([^/]+)\/([^@]+)@(.+)$/.exec(reference) ?? [];
    const whole: BlobCall = {
      repo: { upstream, repository },
      digest: parseDigest(digest),
      head: false,
      range: undefined,
      needsLength: false,
      mayRedirect: false,
      mayHandOver: false,
      caller: NOBODY,
      signal: this.signal,
      ...call,
    };
    const asked = { kind: "blob", digest: whole.digest } as const;
    const ready = this.proxy.ready({ ...whole, asked, accept: undefined, identity: whole.caller.identity });
    const answer = await this.proxy.blob(whole);
    this.#expectSame(ready, { ...answer, mediaType: "application/octet-stream" });
    return answer;
  }

  /** What is at hand is what the long way comes to, whatever a test is about. */
  #expectSame(
    ready: ReadyAnswer | undefined,
    answer: Pick<ManifestAnswer, "digest" | "mediaType" | "visibility" | "cache"> & Pick<BlobAnswer, "size">,
  ): void {
    if (ready !== undefined) {
      const { digest, mediaType, size, visibility } = answer;
      const { outcome, ttlS, ...unusual } = answer.cache;
      const { freshUntilMs } = ready;
      const leftS = freshUntilMs === undefined ? undefined : Math.floor((freshUntilMs - this.clock.now()) / 1000);
      expect({ ...ready, bytes: undefined, outcome, ttlS: leftS, unusual }).toEqual({
        kind: ready.kind,
        digest,
        mediaType,
        size,
        bytes: undefined,
        visibility,
        freshUntilMs,
        outcome: "hit",
        ttlS,
        unusual: {},
      });
      expect(digestOf(ready.bytes ?? Buffer.alloc(0), digestAlgorithm(digest))).toBe(digest);
    }
  }

  /** What refers to `docker.io/library/nginx@sha256:...`, for an anonymous client. */
  async referrers(reference: string, call: Partial<ReferrersCall> = {}): Promise<ReferrersAnswer> {
    const [, upstream = "", repository = "", digest = ""] = /^([^/]+)\/([^@]+)@(.+)$/.exec(reference) ?? [];
    return await this.proxy.referrers({
      repo: { upstream, repository },
      digest: parseDigest(digest),
      artifactType: undefined,
      caller: NOBODY,
      signal: this.signal,
      ...call,
    });
  }

  /** The bytes of a blob, to the end. */
  async pull(reference: string, call: Partial<BlobCall> = {}): Promise<Buffer> {
    const { body } = await this.blob(reference, call);
    const parts: Buffer[] = [];
    for await (const chunk of body ?? []) {
      parts.push(Buffer.from(chunk));
    }
    return Buffer.concat(parts);
  }

  /** Another object whenever something of the configuration above is another. */
  #inForce(): object {
    const { freshness, privateToAnonymous, comeIn, accessRules, fetchBudget, rules, hub, other } = this;
    const credentials = [hub, other].flatMap(({ credentialed }) => [...credentialed].join());
    const now = [freshness, privateToAnonymous, comeIn, accessRules, fetchBudget, ...rules.values(), ...credentials];
    if (now.length !== this.#configured.length || now.some((part, at) => part !== this.#configured[at])) {
      this.#configured = now;
    }
    return this.#configured;
  }

  #create(): RunningProxy {
    const upstreams = new Map([this.hub, this.other].map((upstream) => [upstream.name, upstream]));
    return createProxy({
      upstreams,
      blobs: this.blobs,
      repositories: this.repositories,
      fills: this.fills,
      provenance: this.provenance,
      freshnessOf: () => this.freshness,
      ttlMs: () => this.freshness.defaultMs,
      access: () => ({
        ...this.comeIn,
        privateToAnonymous: this.privateToAnonymous,
        rules: [],
        fetchBudget: this.fetchBudget,
      }),
      accessRules: () => this.accessRules,
      rulesOf: (upstream) => this.rules.get(upstream) ?? NO_CONTENT_RULES,
      budgets: new FetchBudgets({
        store: createMemoryState<SpentBudget>({ clock: this.clock, log: silentLog }),
        clock: this.clock,
      }),
      download: { rangeWaitMs: 30_000 },
      room: { touch: (digest) => this.room.touch(digest) },
      inForce: () => this.#inForce(),
      maxAgeMs: this.maxAgeMs,
      maxContentAgeMs: this.maxContentAgeMs,
      turns: noTurns,
      tellVerified: (digest, { size }) => this.toldVerified.push([digest, size]),
      state: createMemoryState<Remembered>({ clock: this.clock, log: silentLog }),
      clock: this.clock,
      log: silentLog,
      observer: { staleServed: (_, reason) => this.stale.push(reason) },
    });
  }
}
