import { onTestFinished } from "vitest";
import type { Clock } from "../../../src/base/clock.ts";
import { silentLog } from "../../../src/base/log.ts";
import { Secret } from "../../../src/base/secret.ts";
import type { LimitsConfig, PasswordCredentialConfig, UpstreamConfig } from "../../../src/config/types.ts";
import { type Digest, digestOf } from "../../../src/oci/digest.ts";
import type { Reference } from "../../../src/oci/reference.ts";
import { createMemoryState } from "../../../src/state/memory-state.ts";
import { createUpstream, type UpstreamDeps } from "../../../src/upstream/create.ts";
import {
  type BreakerChange,
  type Upstream,
  UpstreamError,
  type UpstreamExchange,
} from "../../../src/upstream/upstream.ts";
import { memoryParkedCredentials } from "../../support/parked-credentials.ts";
import {
  type LedgerEntry,
  type ScriptEntry,
  type ScriptedServer,
  type ScriptedServerOptions,
  startScriptedServer,
} from "../../support/scripted-server.ts";

/** Pauses between retries are slept at once; everything longer is a deadline and waits to be turned. */
const LONGEST_PAUSE_MS = 1_000;

export interface TestClock extends Clock {
  /** Lets time pass, so that deadlines within it expire. */
  turn(ms: number): void;
}

export function testClock(): TestClock {
  let now = Date.parse("2026-09-01T10:00:00Z");
  const sleepers = new Set<{ readonly at: number; wake(): void }>();
  return {
    now: () => now,
    sleep(ms, signal) {
      if (ms <= LONGEST_PAUSE_MS) {
        now += ms;
        return Promise.resolve();
      }
      return new Promise((resolve, reject) => {
        const sleeper = { at: now + ms, wake: resolve };
        sleepers.add(sleeper);
        signal.addEventListener("abort", () => {
          sleepers.delete(sleeper);
          reject(signal.reason);
        });
      });
    },
    turn(ms) {
      now += ms;
      for (const sleeper of sleepers) {
        if (sleeper.at <= now) {
          sleepers.delete(sleeper);
          sleeper.wake();
        }
      }
    },
  };
}

export const LIMITS: LimitsConfig = {
  manifestSize: 4 << 20,
  requestHeaders: 64 << 10,
  responseHeaders: 64 << 10,
  connections: 1000,
  connectionsPerClient: 1000,
};

export const PASSWORD = "hunter2-s3cret";

export function credential(over: Partial<PasswordCredentialConfig> = {}): PasswordCredentialConfig {
  return {
    source: "password",
    label: "ci",
    username: "robot",
    password: new Secret(PASSWORD),
    repositories: undefined,
    ...over,
  };
}

export interface Bench {
  readonly upstream: Upstream;
  readonly clock: TestClock;
  readonly exchanges: readonly UpstreamExchange[];
  readonly breakers: readonly BreakerChange[];
  /** Bytes of bodies by kind. */
  readonly received: ReadonlyMap<string, number>;
}

/** An upstream over `endpoint`, closed when the test ends. */
export function openUpstream(
  endpoint: URL,
  over: Partial<UpstreamConfig> = {},
  deps: Partial<UpstreamDeps> = {},
): Bench {
  const clock = testClock();
  const exchanges: UpstreamExchange[] = [];
  const breakers: BreakerChange[] = [];
  const received = new Map<string, number>();
  const config: UpstreamConfig = {
    name: "reg.example",
    type: "generic",
    aliases: [],
    endpoints: [
      {
        url: endpoint,
        prefix: "",
        type: over.type ?? "generic",
        credentials: (over.credentials ?? []).map(({ label }) => label),
      },
    ],
    credentials: [],
    realms: [],
    redirects: { allow: [] },
    allow: [],
    deny: [],
    platforms: [],
    frozen: false,
    proxy: "none",
    freshness: {
      defaultMs: 0,
      rules: [],
      staleIfErrorMs: 0,
      softDeadlineMs: 0,
      onGone: "keep",
      negativeMs: 0,
      proofTtlMs: 0,
      whenBudgetLow: { below: { share: 0.1 } },
    },
    timeouts: { connectMs: 5_000, headersMs: 15_000, bodyMs: 30_000 },
    maxConnections: 8,
    maxSize: undefined,
    tls: { ca: undefined, cert: undefined, key: undefined, insecureSkipVerify: false },
    budgetStatus: 503,
    quotaProbeMs: undefined,
    sendNs: false,
    ...over,
  };
  const upstream = createUpstream(config, {
    clock,
    random: () => 0.5,
    log: silentLog,
    parked: memoryParkedCredentials(),
    credentialObserver: { credentialParked: () => {}, credentialExpires: () => {} },
    quotas: {
      shared: createMemoryState({ clock, log: silentLog }),
      observer: { quota: () => {}, rateLimited: () => {} },
      lowBelow: () => config.freshness.whenBudgetLow.below,
    },
    limits: LIMITS,
    observer: {
      exchange: (e) => exchanges.push(e),
      received: (_, kind, bytes) => received.set(kind, (received.get(kind) ?? 0) + bytes),
      breaker: (change) => breakers.push(change),
    },
    ...deps,
  });
  onTestFinished(() => upstream.close());
  return { upstream, clock, exchanges, breakers, received };
}

/** A scripted server that is closed when the test ends, which fails if a request was not in the script. */
export async function serve(entries: readonly ScriptEntry[], options?: ScriptedServerOptions): Promise<ScriptedServer> {
  const server = await startScriptedServer(entries, options);
  onTestFinished(() => server.close());
  return server;
}

/** Call options that nobody aborts. */
export function o(): { signal: AbortSignal; requestId: string } {
  return { signal: new AbortController().signal, requestId: "req-1" };
}

export const tag = (name: string): Reference => ({ kind: "tag", tag: name });

export const byDigest = (digest: Digest): Reference => ({ kind: "digest", digest });

/** The UpstreamError that a call must fail with. */
export async function failure(call: Promise<unknown>): Promise<UpstreamError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof UpstreamError) return error;
    throw error;
  }
  throw new Error("the call succeeded");
}

export async function readAll(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

export const OCI_TYPE = "application/vnd.oci.image.manifest.v1+json";

export const MANIFEST = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_TYPE, layers: [] }));

export const MANIFEST_DIGEST = digestOf(MANIFEST);

/** How registries answer for a manifest that is there. */
export const manifestReply = {
  headers: { "content-type": OCI_TYPE, "docker-content-digest": MANIFEST_DIGEST, etag: `"${MANIFEST_DIGEST}"` },
  body: MANIFEST,
} as const;

/** A token service under `/token` that numbers its tokens. */
export function tokenEntry(
  body: (n: number) => Record<string, unknown> = (n) => ({ token: `token-${n}` }),
): ScriptEntry {
  let issued = 0;
  return {
    when: { path: "/token" },
    reply: () => {
      issued += 1;
      return { body: JSON.stringify(body(issued)), headers: { "content-type": "application/json" } };
    },
  };
}

/** The 401 of a registry whose tokens come from `realm`. */
export function challenge(realm: string, scope: string | undefined, extra = ""): ScriptEntry["reply"] {
  const scoped = scope === undefined ? "" : `,scope="${scope}"`;
  return {
    status: 401,
    headers: { "www-authenticate": `Bearer realm="${realm}",service="reg"${scoped}${extra}` },
    body: '{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}',
  };
}

/** `METHOD path authorization` of each request. */
export function brief(ledger: readonly LedgerEntry[]): readonly string[] {
  return ledger.map(({ method, path, headers }) => `${method} ${path} ${headers.authorization ?? "-"}`);
}
