/** What a busy Weir would show, hostile words of upstreams and clients included. */
import { type Digest, digestOf } from "../../src/oci/digest.ts";
import type { Explanation } from "../../src/proxy/explain/explanation.ts";
import type { RequestExplanation } from "../../src/proxy/explain/request-report.ts";
import type {
  FillOverview,
  RecentPull,
  RepositoryLine,
  RepositoryOverview,
  StorageOverview,
  TagRow,
  UpstreamOverview,
} from "../../src/proxy/overview/overview.ts";

export const SCRIPT = "<script>alert(1)</script>";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const GIB = 2 ** 30;

function digest(of: string): Digest {
  return digestOf(Buffer.from(of));
}

function upstream(name: string, fields: Partial<UpstreamOverview> = {}): UpstreamOverview {
  const origin = `https://${name}`;
  return {
    name,
    type: "generic",
    dynamic: false,
    endpoints: [{ origin, breaker: "closed", retryAtMs: undefined, breakers: [] }],
    credentials: [],
    quotas: [],
    lastError: undefined,
    held: { bytes: 3 * GIB, repositories: 12 },
    ...fields,
  };
}

const NO_QUOTA = { source: undefined, windowS: 21_600, closedUntilMs: undefined } as const;

export function sampleUpstreams(nowMs: number): readonly UpstreamOverview[] {
  return [
    upstream("docker.io", {
      type: "dockerhub",
      endpoints: [{ origin: "https://registry-1.docker.io", breaker: "closed", retryAtMs: undefined, breakers: [] }],
      credentials: [{ label: "ci", parkedUntilMs: undefined, expiresAtMs: undefined, lastError: undefined }],
      quotas: [
        { ...NO_QUOTA, credential: "ci", limit: 200, remaining: 143, observedAtMs: nowMs - MINUTE },
        {
          ...NO_QUOTA,
          credential: undefined,
          source: "203.0.113.7",
          limit: 100,
          remaining: 6,
          observedAtMs: nowMs - 9 * MINUTE,
        },
      ],
      held: { bytes: 24.6 * GIB, repositories: 214 },
    }),
    upstream("quay.io", {
      type: "quay",
      endpoints: [
        {
          origin: "https://quay.io",
          breaker: "open",
          retryAtMs: nowMs + 12_000,
          breakers: [
            { origin: "https://quay.io", role: "registry", open: true, untilMs: nowMs + 12_000, reason: "status 503" },
          ],
        },
      ],
      lastError: { atMs: nowMs - 20_000, reason: "status 503", text: `quay.io answered 503: ${SCRIPT}` },
      held: { bytes: 5.2 * GIB, repositories: 31 },
    }),
    upstream("registry.gitlab.com", {
      type: "gitlab",
      credentials: [
        {
          label: "deploy",
          parkedUntilMs: nowMs + 4 * MINUTE,
          expiresAtMs: undefined,
          lastError: "registry.gitlab.com refuses it (401)",
        },
      ],
    }),
    upstream("ghcr.io", { type: "ghcr" }),
    upstream("mirror.lab.example:5000", { dynamic: true, held: { bytes: 0, repositories: 0 } }),
  ];
}

export function sampleStorage(): StorageOverview {
  return {
    driver: "filesystem",
    bytes: 35.3 * GIB,
    blobs: 8123,
    limitBytes: 50 * GIB,
    highBytes: 47.5 * GIB,
    lowBytes: 42.5 * GIB,
    counted: true,
    waitingUploads: undefined,
  };
}

export function sampleFills(nowMs: number): readonly FillOverview[] {
  const fill = { upstream: "docker.io", repository: "library/nginx", readers: 3 };
  return [
    { ...fill, digest: digest("a"), receivedBytes: 412_000_000, sizeBytes: 1_200_000_000, startedAtMs: nowMs - 14_000 },
    {
      ...fill,
      digest: digest("b"),
      repository: "pytorch/pytorch",
      receivedBytes: 9_000_000,
      sizeBytes: undefined,
      startedAtMs: nowMs - 2_000,
      readers: 1,
    },
  ];
}

export function samplePulls(nowMs: number): readonly RecentPull[] {
  const pull: RecentPull = {
    requestId: "b2b0c6de-0001",
    atMs: nowMs - 4_000,
    running: false,
    method: "GET",
    kind: "manifest",
    subject: "docker.io/library/nginx:1.27",
    status: 200,
    cache: "hit",
    bytes: 10_240,
    firstByteMs: 1.4,
    totalMs: 1.9,
    account: undefined,
  };
  return [
    {
      ...pull,
      requestId: "running-1",
      running: true,
      status: undefined,
      cache: undefined,
      bytes: undefined,
      firstByteMs: undefined,
      totalMs: undefined,
    },
    pull,
    {
      ...pull,
      requestId: "b2b0c6de-0002",
      kind: "blob",
      subject: `docker.io/library/nginx@${digest("c")}`,
      cache: "miss",
      bytes: 31_457_280,
      firstByteMs: 212,
      totalMs: 2_940,
      account: "alice",
    },
    {
      ...pull,
      requestId: "b2b0c6de-0003",
      subject: "quay.io/prometheus/busybox:latest",
      cache: "stale",
      atMs: nowMs - 21_000,
    },
    {
      ...pull,
      requestId: "b2b0c6de-0004",
      subject: `/v2/${SCRIPT}/manifests/1`,
      status: 404,
      cache: "none",
      bytes: 210,
      atMs: nowMs - 2 * MINUTE,
    },
    {
      ...pull,
      requestId: "b2b0c6de-0005",
      subject: "quay.io/acme/app:1",
      status: 502,
      cache: "miss",
      bytes: 190,
      atMs: nowMs - 3 * MINUTE,
      account: SCRIPT,
    },
    { ...pull, requestId: "b2b0c6de-0006", method: "HEAD", cache: "revalidated", bytes: 0, atMs: nowMs - 5 * MINUTE },
  ];
}

export function sampleRepositories(nowMs: number): readonly RepositoryLine[] {
  const line: RepositoryLine = {
    upstream: "docker.io",
    repository: "library/nginx",
    visibility: "public",
    tags: 214,
    sizeBytes: 1.4 * GIB,
    lastUsedMs: nowMs - 3 * MINUTE,
    atLeast: false,
  };
  return [
    line,
    { ...line, repository: "a/script", tags: 2, sizeBytes: 214_000, visibility: "unknown" },
    {
      ...line,
      repository: "myorg/billing",
      visibility: "private",
      tags: 12,
      sizeBytes: 0.7 * GIB,
      lastUsedMs: nowMs - 26 * HOUR,
    },
    {
      ...line,
      upstream: "quay.io",
      repository: `acme/${SCRIPT}`,
      visibility: undefined,
      tags: undefined,
      sizeBytes: undefined,
      lastUsedMs: undefined,
    },
    {
      ...line,
      upstream: "mirror.lab.example:5000",
      repository: "a-team/with/a/rather/long/path/of/many/parts/service-with-a-long-name",
      atLeast: true,
    },
  ];
}

export function sampleTags(nowMs: number): readonly TagRow[] {
  const row: TagRow = {
    tag: "1.27",
    digest: digest("nginx 1.27"),
    held: true,
    mediaType: "application/vnd.oci.image.index.v1+json",
    sizeBytes: 72_300_000,
    platforms: [
      { platform: "linux/amd64", held: true },
      { platform: "linux/arm64", held: true },
      { platform: "linux/arm/v7", held: false },
    ],
    checkedAtMs: nowMs - 4 * MINUTE,
    freshUntilMs: nowMs + 6 * MINUTE,
    freshness: "fresh for 6 min more",
    rule: "default",
    ruleKey: "freshness.default",
    ttlMs: 10 * MINUTE,
    goneSinceMs: undefined,
    pinnedBy: undefined,
  };
  return [
    row,
    {
      ...row,
      tag: "1.27.3",
      digest: digest("nginx 1.27.3"),
      freshUntilMs: nowMs + 5 * 24 * HOUR,
      rule: "**:/v?\\d+\\.\\d+\\.\\d+/",
      ruleKey: "freshness.rules[1]",
      ttlMs: 7 * 24 * HOUR,
      pinnedBy: { pin: "docker.io/library/nginx:1.27.3", from: "operator" },
    },
    {
      ...row,
      tag: "latest",
      freshUntilMs: undefined,
      checkedAtMs: nowMs - 3 * HOUR,
      rule: "**:latest",
      ruleKey: "freshness.rules[0]",
      ttlMs: MINUTE,
      pinnedBy: { pin: "**:latest", from: "storage.pins" },
    },
    {
      ...row,
      tag: "old",
      digest: digest("old"),
      goneSinceMs: nowMs - 9 * 24 * HOUR,
      freshUntilMs: undefined,
      platforms: [{ platform: SCRIPT, held: true }],
    },
    {
      ...row,
      tag: "chart",
      digest: digest("chart"),
      platforms: [],
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      checkedAtMs: undefined,
      sizeBytes: undefined,
    },
  ];
}

export function sampleRepository(nowMs: number): RepositoryOverview {
  const [line] = sampleRepositories(nowMs);
  if (line === undefined) throw new Error("there is a sample");
  const rows = sampleTags(nowMs);
  return { ...line, total: 214, rows, pinnedBy: undefined };
}

export function sampleExplanation(nowMs: number): Explanation {
  const reference = "docker.io/library/nginx:1.27";
  return {
    done: true,
    reference,
    known: true,
    access: {
      deniedBy: undefined,
      visibility: "public",
      visibilityAtMs: nowMs - HOUR,
      provedAtMs: undefined,
      proofTtlMs: HOUR,
      closedBy: undefined,
      withheldBy: undefined,
    },
    tag: {
      tag: "1.27",
      digest: digest("nginx 1.27"),
      checkedAtMs: nowMs - 4 * MINUTE,
      goneSinceMs: undefined,
      named: undefined,
      ttlMs: 10 * MINUTE,
      rule: "default",
      ruleKey: "freshness.default",
      absent: undefined,
      askingSinceMs: undefined,
      decision: { does: "fresh", reason: undefined, why: "fresh for 6 min more" },
    },
    content: undefined,
    upstream: undefined,
    room: undefined,
    next: {
      does: "serve",
      asks: undefined,
      reason: undefined,
      key: undefined,
      why: ["it is answered from storage, and nobody is asked", "fresh for 6 min more"],
    },
    words: [
      `reference  ${reference}`,
      `means      ${digest("nginx 1.27")}`,
      "checked    4 min ago; fresh for 10 min after that, by freshness.default",
      "held       application/vnd.oci.image.index.v1+json, 10.0 KiB: held",
      "           linux/amd64: 8 of 8 blobs held, 68.9 MiB",
      "visibility public",
      `quota      ${SCRIPT}`,
      "next pull  it is answered from storage, and nobody is asked",
      "           fresh for 6 min more",
    ],
  };
}

export function sampleRequest(nowMs: number): RequestExplanation {
  return {
    done: true,
    requests: [
      {
        requestId: "b2b0c6de-0002",
        startedAtMs: nowMs - MINUTE,
        running: false,
        line: {
          upstream: "docker.io",
          repository: "library/nginx",
          reference: "1.27",
          kind: "manifest",
          status: 200,
          cache: "miss",
          totalMs: 640,
        },
        form: "ns",
        cache: { outcome: "miss", stored: true },
        error: undefined,
        steps: [
          { step: "decision", atMs: 1, tookMs: undefined, fields: {} },
          { step: "exchange", atMs: 2, tookMs: 120, fields: {} },
          { step: "exchange", atMs: 130, tookMs: 480, fields: {} },
        ],
        stepsDropped: 0,
      },
    ],
    words: [
      "request  b2b0c6de-0002, 1 min ago",
      `asked    GET /v2/library/nginx/manifests/1.27?ns=docker.io by 10.1.2.3 ${SCRIPT}`,
      "answer   200, 10.0 KiB in 640 ms, first byte after 612 ms",
      "cache    miss: fetched from the upstream",
      "steps    +1 ms decided for docker.io/library/nginx:1.27: ask, since nothing is known of it",
      "         +2 ms asked GET https://auth.docker.io/token [token]: 200 in 120 ms",
      "         +130 ms asked GET https://registry-1.docker.io/v2/library/nginx/manifests/1.27 [manifest]: 200 in 480 ms",
    ],
  };
}
