import type { IncomingMessage, ServerResponse } from "node:http";
import { printable } from "../base/printable.ts";
import { type TraceIds, traceFields } from "../base/trail.ts";
import { formatReference } from "../oci/reference.ts";
import type { CacheInfo } from "../proxy/answers.ts";
import type { Client } from "./clients.ts";
import type { HandOver } from "./hand-over.ts";
import type { AccessLine, AnsweredRequest, RequestEnd, RequestKind, RequestSubject, RequestTrail } from "./observer.ts";
import type { RequestLine, RoutedCall } from "./route.ts";

/** What is known of a request so far; from it come the access line and the metrics. */
export interface RequestRecord {
  readonly requestId: string;
  readonly from: Client;
  /** Of whoever has signed in. */
  account: string | undefined;
  /** On the clock of `AppOptions.monotonicMs`. */
  readonly startedMs: number;
  call: RoutedCall | undefined;
  cache: CacheInfo;
  bytesSent: number;
  firstByteMs: number | undefined;
  /** What made the answer an error, or cut it off. */
  error: unknown;
  /** What of it the client was told. */
  told: RequestEnd["error"];
  handOver: HandOver | undefined;
  /** Set where the answer did not go by way of its response, which knows nothing of it then. */
  direct: { readonly complete: boolean } | undefined;
  readonly trail: RequestTrail;
}

export interface FinishedRequest {
  readonly answered: AnsweredRequest;
  readonly line: AccessLine;
}

/** As nginx has it; never sent. */
const CLIENT_LEFT = 499;

/** Longer ones carry nothing worth a line of that length. */
const MAX_PATH_LENGTH = 1024;
const MAX_USER_AGENT_LENGTH = 256;

export function finishedRequest(
  req: IncomingMessage,
  res: ServerResponse,
  record: RequestRecord,
  totalMs: number,
): FinishedRequest {
  const { error } = record;
  const ended: EndedRequest = {
    ...record,
    method: req.method ?? "",
    target: req.url ?? "",
    client: record.from.shown,
    status: record.direct !== undefined || res.headersSent ? res.statusCode : CLIENT_LEFT,
    totalMs,
    agent: req.headers["user-agent"],
    ids: record.trail.place,
  };
  const complete = record.direct?.complete ?? res.writableFinished;
  const line: AccessLine = {
    ...accessLine(ended),
    ...(complete ? {} : { aborted: true }),
    ...(error !== undefined && (!complete || ended.status >= 500) ? { err: error } : {}),
  };
  return { answered: answeredRequest(ended), line };
}

/** What there is to tell of a request. */
export interface EndedRequest
  extends Pick<RequestRecord, "requestId" | "account" | "call" | "cache" | "bytesSent" | "handOver" | "firstByteMs"> {
  readonly method: string;
  /** As the client sent it. */
  readonly target: string;
  readonly client: string | undefined;
  readonly status: number;
  readonly totalMs: number;
  readonly agent: string | undefined;
  readonly ids: TraceIds | undefined;
}

export function answeredRequest(ended: EndedRequest): AnsweredRequest {
  const { call, handOver } = ended;
  return {
    upstream: upstreamOf(call),
    repository: repositoryOf(call),
    kind: kindOf(call),
    method: ended.method,
    status: ended.status,
    cache: ended.cache.outcome,
    bytesSent: ended.bytesSent,
    ...(handOver === undefined ? {} : { handOver }),
    firstByteMs: ended.firstByteMs,
    totalMs: ended.totalMs,
  };
}

/** The line of an answer that came to its end. */
export function accessLine(ended: EndedRequest): AccessLine {
  const { call, agent, handOver } = ended;
  return {
    requestId: ended.requestId,
    client: ended.client,
    account: ended.account,
    method: ended.method,
    ...lineSubject(ended.target, call),
    status: ended.status,
    cache: ended.cache.outcome,
    bytes: ended.bytesSent,
    ...(handOver === undefined ? {} : { handOver }),
    firstByteMs: ended.firstByteMs === undefined ? undefined : rounded(ended.firstByteMs),
    totalMs: rounded(ended.totalMs),
    userAgent: agent === undefined ? undefined : userAgentOf(agent),
    ...traceFields(ended.ids),
  };
}

/** What was asked for, as the line has it. */
export function lineSubject(target: string, call: RoutedCall | undefined) {
  return {
    path: printable(pathOf(target), MAX_PATH_LENGTH),
    ns: call?.ns,
    upstream: upstreamOf(call),
    ...subjectOf(call),
    kind: kindOf(call),
  };
}

export function userAgentOf(agent: string): string {
  return printable(agent, MAX_USER_AGENT_LENGTH);
}

/** What is known of a request before it is answered. */
export function requestSubject({ method, target }: RequestLine, call: RoutedCall): RequestSubject {
  return {
    method,
    ...lineSubject(target, call),
    form: call.form,
  };
}

const KINDS = {
  ping: "base",
  manifest: "manifest",
  blob: "blob",
  tags: "tags",
  referrers: "referrers",
  catalog: "catalog",
  write: "other",
} as const satisfies Record<RoutedCall["op"], RequestKind>;

function kindOf(call: RoutedCall | undefined): RequestKind {
  return call === undefined ? "other" : KINDS[call.op];
}

function upstreamOf(call: RoutedCall | undefined): string | undefined {
  if (call?.op === "catalog") {
    return call.upstream;
  }
  return call !== undefined && "repo" in call ? call.repo?.upstream : undefined;
}

function repositoryOf(call: RoutedCall | undefined): string | undefined {
  return call !== undefined && "repo" in call ? call.repo?.repository : undefined;
}

function subjectOf(call: RoutedCall | undefined): Pick<AccessLine, "repository" | "reference"> {
  switch (call?.op) {
    case "manifest":
      return { repository: call.repo.repository, reference: formatReference(call.reference) };
    case "blob":
    case "referrers":
      return { repository: call.repo.repository, reference: call.digest };
    case "tags":
    case "write":
      return { repository: call.repo?.repository };
    default:
      return {};
  }
}

/** Queries may carry signatures and tokens. */
function pathOf(target: string): string {
  const query = target.indexOf("?");
  return query === -1 ? target : target.slice(0, query);
}

/** To the microsecond: more digits are noise. */
export function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
