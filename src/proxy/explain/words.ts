import { counted, humanBytes, humanTime } from "../../base/human.ts";
import { printable } from "../../base/printable.ts";
import type { CredentialStatus } from "../../upstream/credentials/credential.ts";
import type { QuotaStatus } from "../../upstream/rate-limit.ts";
import type {
  ExplainedAccess,
  ExplainedBlob,
  ExplainedContent,
  ExplainedEndpoint,
  ExplainedRoom,
  ExplainedTag,
  Explanation,
} from "./explanation.ts";

/** No line needs more; what upstreams and manifests say is cut there. */
const MAX_LINE = 600;

/** Platforms that are told one by one. */
const MAX_TOLD = 16;

/** An explanation for people: a line for each thing, with what it is about in front. Pure. */
export function explanationWords(e: Omit<Explanation, "words">, nowMs: number): readonly string[] {
  const upstream = e.upstream;
  const lines: readonly (readonly [string, string])[] = [
    ["reference", e.reference],
    ...(e.tag === undefined ? [] : tagLines(e.tag, nowMs)),
    ...(e.content === undefined ? [["held", "nothing"] as const] : contentLines(e.content)),
    ...accessLines(e.access, nowMs),
    ...(upstream === undefined ? [] : upstream.endpoints.flatMap((endpoint) => endpointLines(endpoint, nowMs))),
    ...(upstream?.budgetLow === true ? [["quota", "little is left of it (freshness.whenBudgetLow)"] as const] : []),
    ...(e.room === undefined ? [] : [["eviction", evictionText(e.room, nowMs)] as const]),
    ...e.next.why.map((why, i) => [i === 0 ? "next pull" : "", why] as const),
  ];
  return lines.map(([about, text]) => printable(`${about.padEnd(11)}${text}`.trimEnd(), MAX_LINE));
}

type Line = readonly [about: string, text: string];

function tagLines(tag: ExplainedTag, nowMs: number): readonly Line[] {
  const ago = (ms: number): string => `${humanTime(nowMs - ms)} ago`;
  const { digest, checkedAtMs, goneSinceMs, named } = tag;
  const meaning =
    digest === undefined ? "not known" : `${digest}${named === undefined ? "" : ", which is not held yet"}`;
  const rule = tag.rule === "default" ? tag.ruleKey : `${tag.ruleKey} (${tag.rule})`;
  const checked = checkedAtMs === undefined || checkedAtMs === 0 ? "never" : ago(checkedAtMs);
  return [
    ["means", meaning],
    ["checked", `${checked}; fresh for ${humanTime(tag.ttlMs)} after that, by ${rule}`],
    ...(goneSinceMs === undefined
      ? []
      : [["gone", `the upstream does not have it any more, since ${ago(goneSinceMs)}`] as const]),
    ...(tag.absent === undefined ? [] : [["absent", `remembered for a moment: ${tag.absent}`] as const]),
    ...(tag.askingSinceMs === undefined
      ? []
      : [["asking", `the upstream is being asked since ${humanTime(nowMs - tag.askingSinceMs)}`] as const]),
    ["freshness", tag.decision.why],
  ];
}

function contentLines(content: ExplainedContent): readonly Line[] {
  const { kind, held, linked, mediaType, size, absent, platforms, blobs } = content;
  const what = mediaType ?? kind;
  const bytes = size === undefined ? "" : `, ${humanBytes(size)}`;
  const state = held ? (linked ? "held" : "held, though not yet proved for this repository") : "not held";
  return [
    ["held", `${what}${bytes}: ${state}`],
    ...(absent === undefined ? [] : [["absent", `remembered for a moment: ${absent}`] as const]),
    ...platforms
      .slice(0, MAX_TOLD)
      .map(
        (child) =>
          ["", `${child.platform ?? child.digest}: ${child.held ? blobsText(child.blobs) : "not held"}`] as const,
      ),
    ...(platforms.length > MAX_TOLD ? [["", `and ${platforms.length - MAX_TOLD} more`] as const] : []),
    ...(kind === "manifest" && blobs.length > 0 ? [["", blobsText(blobs)] as const] : []),
    ...[...platforms.flatMap((child) => child.blobs), ...blobs].flatMap(fillLine),
  ];
}

function blobsText(blobs: readonly ExplainedBlob[]): string {
  const missing = blobs.filter(({ held }) => !held);
  const sum = (of: readonly ExplainedBlob[]): number => of.reduce((bytes, { size }) => bytes + (size ?? 0), 0);
  const there = blobs.filter(({ held }) => held);
  const text = `${there.length} of ${counted(blobs.length, "blob")} held, ${humanBytes(sum(there))}`;
  return missing.length === 0 ? text : `${text}; missing ${humanBytes(sum(missing))}`;
}

function fillLine({ digest, fill }: ExplainedBlob): readonly Line[] {
  if (fill === undefined) {
    return [];
  }
  const of = fill.size === undefined ? "" : ` of ${humanBytes(fill.size)}`;
  return [["download", `${digest} is being fetched: ${humanBytes(fill.position)}${of}`]];
}

function accessLines(access: ExplainedAccess, nowMs: number): readonly Line[] {
  const { deniedBy, visibility, visibilityAtMs, provedAtMs, proofTtlMs, closedBy, withheldBy } = access;
  const ago = (ms: number): string => `${humanTime(nowMs - ms)} ago`;
  const asked = visibilityAtMs === undefined ? "" : `, asked ${ago(visibilityAtMs)}`;
  const proof =
    visibility === "private"
      ? `; ${provedAtMs === undefined ? "not proved" : `proved ${ago(provedAtMs)}`} (good for ${humanTime(proofTtlMs)}, freshness.proofTtl)`
      : "";
  return [
    ["access", deniedBy === undefined ? "no rule denies it" : `denied by ${deniedBy}`],
    ["visibility", `${visibility}${asked}${proof}`],
    ...(closedBy === undefined ? [] : [["", `kept from clients that have not signed in by ${closedBy}`] as const]),
    ...(withheldBy === undefined
      ? []
      : [["", `the upstream is not asked for clients that have not signed in: ${withheldBy}`] as const]),
  ];
}

function endpointLines(endpoint: ExplainedEndpoint, nowMs: number): readonly Line[] {
  const { origin, credential, credentials, quotas, breakers } = endpoint;
  const used = credential ?? (credentials.length === 0 ? "anonymous" : "none: every one is parked");
  const inForce = breakers.filter(({ open }) => open);
  return [
    ["upstream", `${origin}, credential: ${used}`],
    ...credentials.flatMap((status) => credentialLine(status, nowMs)),
    ...quotas.map((quota) => ["quota", quotaText(quota, nowMs)] as const),
    ...(inForce.length === 0
      ? [["breaker", "closed"] as const]
      : inForce.map(({ origin: open, untilMs, reason }) => {
          const until =
            untilMs === undefined ? "the next request tries it" : `not asked for ${humanTime(untilMs - nowMs)} more`;
          return ["breaker", `open for ${open} (${reason ?? "unknown"}): ${until}`] as const;
        })),
  ];
}

function credentialLine({ label, parkedUntilMs, lastError }: CredentialStatus, nowMs: number): readonly Line[] {
  const parked = parkedUntilMs === undefined ? "" : ` is parked for ${humanTime(parkedUntilMs - nowMs)} more`;
  return parked === "" && lastError === undefined
    ? []
    : [["credential", `${label}${parked}${lastError === undefined ? "" : `: ${lastError}`}`]];
}

function quotaText(
  { credential, source, limit, remaining, windowS, closedUntilMs }: QuotaStatus,
  nowMs: number,
): string {
  const window = windowS === undefined ? "" : ` in ${humanTime(windowS * 1000)}`;
  const left = remaining === undefined ? "not told" : `${remaining} of ${limit ?? "?"} left${window}`;
  const closed = closedUntilMs === undefined ? "" : `; spent: not asked for ${humanTime(closedUntilMs - nowMs)} more`;
  return `${credential ?? "anonymous"}${source === undefined ? "" : ` (${source})`}: ${left}${closed}`;
}

function evictionText(room: ExplainedRoom, nowMs: number): string {
  const { pin, pinnedBy, pinned, usedAtMs, blobsBefore, bytesBefore, usedBytes, evictsAboveBytes, agedAtMs } = room;
  const used = `last used ${humanTime(nowMs - usedAtMs)} ago`;
  if (pin !== undefined || pinned) {
    const by = pinnedBy === "operator" ? "weir pin" : "storage.pins";
    return `never: ${pin === undefined ? "a pin keeps it" : `${by} keeps it (${pin})`}; ${used}`;
  }
  const queue = `${counted(blobsBefore, "blob")} (${humanBytes(bytesBefore)}) would go before its first`;
  const limit =
    evictsAboveBytes === undefined
      ? "no storage.maxSize"
      : `blobs go above ${humanBytes(evictsAboveBytes)}, ${humanBytes(usedBytes)} are used`;
  const age = agedAtMs === undefined ? "" : `; for its age in ${humanTime(agedAtMs - nowMs)} (storage.maxAge)`;
  return `${used}; ${queue}; ${limit}${age}`;
}
