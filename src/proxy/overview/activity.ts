import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import { formatRepo } from "../../oci/reference.ts";
import type { CredentialStatus } from "../../upstream/credentials/credential.ts";
import type { BreakerStatus, EndpointOutlook } from "../../upstream/outlook.ts";
import type { QuotaStatus } from "../../upstream/rate-limit.ts";
import type { Upstream } from "../../upstream/upstream.ts";
import type { RequestReport } from "../explain/request-report.ts";
import type { Fills } from "../fills.ts";
import {
  type BreakerState,
  type EndpointOverview,
  type FillOverview,
  MAX_RECENT,
  type RecentPull,
  type UpstreamFailure,
  type UpstreamOverview,
} from "./overview.ts";

/**
 * What the process, or all of the processes, that answer clients are doing; of several, one after the other. Plain data, which
 * may go from one to another.
 */
export interface Activity {
  upstreams(o: CallOptions): Promise<readonly UpstreamActivity[]>;
  fills(o: CallOptions): Promise<readonly FillActivity[]>;
  recent(limit: number, o: CallOptions): Promise<readonly RecentPull[]>;
}

export type UpstreamActivity = Omit<UpstreamOverview, "held">;

export interface FillActivity extends FillOverview {
  /** Downloads of one digest for private repositories of several upstreams are several. */
  readonly domain: string;
}

export interface ActivityDeps {
  /** Those in force: configured ones in their order, then those made by `routing.dynamic`. */
  upstreams(): readonly { readonly upstream: Upstream; readonly type: string; readonly dynamic: boolean }[];
  lastError(upstream: string): UpstreamFailure | undefined;
  readonly fills: Pick<Fills, "all">;
  /** The latest first. */
  reports(): Iterable<RequestReport>;
  readonly clock: Clock;
}

/** Of this process. */
export function createActivity({ upstreams, lastError, fills, reports, clock }: ActivityDeps): Activity {
  return {
    async upstreams() {
      const nowMs = clock.now();
      return upstreams().map(({ upstream, type, dynamic }): UpstreamActivity => {
        return {
          name: upstream.name,
          type,
          dynamic,
          // Breakers are those of the upstream, whatever the repository.
          endpoints: upstream.outlook("").endpoints.map((endpoint) => endpointOf(endpoint, nowMs)),
          credentials: mergedCredentials(upstream.credentialStatus()),
          quotas: mergedQuotas(upstream.quotaStatus()),
          lastError: lastError(upstream.name),
        };
      });
    },
    async fills() {
      return [...fills.all()].map((fill): FillActivity => {
        const { digest, domain, position, size, readers, startedAtMs, source } = fill;
        const upstream = source?.upstream ?? "";
        return {
          digest,
          domain,
          upstream,
          repository: source?.key.slice(upstream.length + 1) ?? "",
          receivedBytes: position,
          sizeBytes: size,
          readers,
          startedAtMs,
        };
      });
    },
    async recent(limit) {
      const found: RecentPull[] = [];
      for (const report of reports()) {
        if (found.length >= Math.min(limit, MAX_RECENT)) break;
        const pull = pullOf(report);
        if (pull !== undefined) found.push(pull);
      }
      return found;
    },
  };
}

/** Adds up what several processes are doing. Pure. */
export function mergedUpstreams(all: readonly UpstreamActivity[]): readonly UpstreamActivity[] {
  return grouped(all, ({ name }) => name).map(([first, ...others]) => {
    const group = [first, ...others];
    return {
      ...first,
      endpoints: grouped(
        group.flatMap(({ endpoints }) => endpoints),
        ({ origin }) => origin,
      ).map(mergedEndpoint),
      credentials: mergedCredentials(group.flatMap(({ credentials }) => credentials)),
      quotas: mergedQuotas(group.flatMap(({ quotas }) => quotas)),
      lastError: latest(
        group.map(({ lastError }) => lastError),
        ({ atMs }) => atMs,
      ),
    };
  });
}

/** Those that one process downloads and others read from it are one. Pure. */
export function mergedFills(all: readonly FillActivity[]): readonly FillOverview[] {
  return grouped(all, ({ domain, digest }) => `${domain} ${digest}`)
    .map((group): FillOverview => {
      // Whoever began it asks the upstream; the others are its readers, and have readers of their own.
      const [first, ...others] = group.toSorted((a, b) => a.startedAtMs - b.startedAtMs) as [FillActivity];
      const { domain: _, ...fill } = first;
      return {
        ...fill,
        receivedBytes: Math.max(...group.map(({ receivedBytes }) => receivedBytes)),
        sizeBytes: group.find(({ sizeBytes }) => sizeBytes !== undefined)?.sizeBytes,
        readers: Math.max(0, group.reduce((sum, { readers }) => sum + readers, 0) - others.length),
      };
    })
    .toSorted((a, b) => b.startedAtMs - a.startedAtMs);
}

export function mergedRecent(all: readonly RecentPull[], limit: number): readonly RecentPull[] {
  return all.toSorted((a, b) => b.atMs - a.atMs).slice(0, Math.min(limit, MAX_RECENT));
}

function endpointOf({ origin, breakers }: EndpointOutlook, nowMs: number): EndpointOverview {
  const own = breakers.find((status) => status.origin === origin);
  const breaker = stateOf(own, nowMs);
  return { origin, breaker, retryAtMs: breaker === "open" ? own?.untilMs : undefined, breakers };
}

function stateOf(own: BreakerStatus | undefined, nowMs: number): BreakerState {
  if (own === undefined || !own.open) return "closed";
  return own.untilMs !== undefined && own.untilMs > nowMs ? "open" : "half-open";
}

const WORST_FIRST: readonly BreakerState[] = ["open", "half-open", "closed"];

/** Each process finds out by itself: what one of them has found is told. */
function mergedEndpoint(group: readonly [EndpointOverview, ...EndpointOverview[]]): EndpointOverview {
  const breaker = WORST_FIRST.find((state) => group.some((endpoint) => endpoint.breaker === state)) ?? "closed";
  const breakers = grouped(
    group.flatMap((endpoint) => endpoint.breakers),
    ({ origin }) => origin,
  ).map((of) => {
    const open = of.filter((status) => status.open);
    return latest(open, ({ untilMs }) => untilMs) ?? of[0];
  });
  const retryAtMs = largest(group.map((endpoint) => endpoint.retryAtMs));
  return { origin: group[0].origin, breaker, retryAtMs: breaker === "open" ? retryAtMs : undefined, breakers };
}

function mergedCredentials(all: readonly CredentialStatus[]): readonly CredentialStatus[] {
  return grouped(all, ({ label }) => label).map((group) => ({
    label: group[0].label,
    parkedUntilMs: largest(group.map(({ parkedUntilMs }) => parkedUntilMs)),
    expiresAtMs: largest(group.map(({ expiresAtMs }) => expiresAtMs)),
    lastError: group.find(({ lastError }) => lastError !== undefined)?.lastError,
  }));
}

/** Of each limit what was heard last, and until when anybody keeps from asking. */
function mergedQuotas(all: readonly QuotaStatus[]): readonly QuotaStatus[] {
  return grouped(all, ({ credential, source }) => JSON.stringify([credential, source])).map((group) => ({
    ...(latest(group, ({ observedAtMs }) => observedAtMs) ?? group[0]),
    closedUntilMs: largest(group.map(({ closedUntilMs }) => closedUntilMs)),
  }));
}

function grouped<T>(all: readonly T[], keyOf: (one: T) => string): readonly (readonly [T, ...T[]])[] {
  const groups = new Map<string, [T, ...T[]]>();
  for (const one of all) {
    const group = groups.get(keyOf(one));
    if (group === undefined) groups.set(keyOf(one), [one]);
    else group.push(one);
  }
  return [...groups.values()];
}

function latest<T>(all: readonly (T | undefined)[], atOf: (one: T) => number | undefined): T | undefined {
  return all
    .filter((one): one is T => one !== undefined)
    .reduce<T | undefined>(
      (best, one) => (best === undefined || (atOf(one) ?? 0) > (atOf(best) ?? 0) ? one : best),
      undefined,
    );
}

function largest(all: readonly (number | undefined)[]): number | undefined {
  const known = all.filter((value) => value !== undefined);
  return known.length === 0 ? undefined : Math.max(...known);
}

/** Pings and what was not understood are no pulls. */
const NO_PULLS: ReadonlySet<unknown> = new Set(["base", "other"]);

function pullOf({ requestId, startedAtMs, running, line }: RequestReport): RecentPull | undefined {
  if (NO_PULLS.has(line.kind)) return undefined;
  return {
    requestId,
    atMs: startedAtMs,
    running,
    method: text(line.method),
    kind: text(line.kind),
    subject: subjectOf(line),
    status: number(line.status),
    cache: text(line.cache),
    bytes: number(line.bytes),
    firstByteMs: number(line.firstByteMs),
    totalMs: number(line.totalMs),
    account: text(line.account),
  };
}

function subjectOf(line: RequestReport["line"]): string | undefined {
  const [upstream, repository, reference] = [text(line.upstream), text(line.repository), text(line.reference)];
  if (upstream === undefined || repository === undefined) return text(line.path);
  const name = formatRepo({ upstream, repository });
  return reference === undefined ? name : `${name}${reference.includes(":") ? "@" : ":"}${reference}`;
}

function text(value: RequestReport["line"][string]): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function number(value: RequestReport["line"][string]): number | undefined {
  return typeof value === "number" ? value : undefined;
}
