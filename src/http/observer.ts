import type { DenialReason } from "../access/denied-error.ts";
import type { TraceHeaders, TraceIds, Trail } from "../base/trail.ts";
import type { CacheInfo, CacheOutcome } from "../proxy/answers.ts";
import type { HandOver } from "./hand-over.ts";

/** The label of `weir_http_*{kind=...}`. */
export type RequestKind = "manifest" | "blob" | "tags" | "referrers" | "catalog" | "base" | "other";

/** One finished request at the front. */
export interface AnsweredRequest {
  /** The upstream it was about; undefined when none was found out. */
  readonly upstream: string | undefined;
  /** The upstream's repository; undefined for what is about none. */
  readonly repository: string | undefined;
  readonly kind: RequestKind;
  readonly method: string;
  /** As sent; 499 when the client left before there was an answer. */
  readonly status: number;
  readonly cache: CacheOutcome;
  /** Body bytes handed to the connection, or to the web server in front. */
  readonly bytesSent: number;
  readonly handOver?: HandOver;
  /** From the request's headers to the first byte of the answer, milliseconds; undefined when there was none. */
  readonly firstByteMs: number | undefined;
  /** From the request's headers to the last byte, milliseconds. */
  readonly totalMs: number;
}

/** Why a client's connection was ended, or not taken: the label of `weir_http_connections_ended_total`. */
export type ConnectionEnd =
  | "connections"
  | "connections-per-client"
  | "slow-request"
  | "large-headers"
  | "malformed"
  | "stalled";

/** What a listener reports of its connections. */
export interface ConnectionObserver {
  connectionOpened(): void;
  connectionClosed(): void;
  /** Not by the client, and not in order. */
  connectionEnded(why: ConnectionEnd): void;
}

/** What the servers report; telemetry/ implements it. */
export interface HttpObserver extends ConnectionObserver {
  /** Called once for each request at the front, after its last byte. */
  answered(request: AnsweredRequest): void;
  /** A request was refused for what it asks for, or for who asks. */
  denied(reason: DenialReason): void;
  /** Somebody has sent a password, a token or the like that is wrong. */
  signInFailed(): void;
}

/** The access line. Holds nothing of the query but `ns`, and no header but the user agent. */
export type AccessLine = {
  readonly requestId: string;
  readonly client: string | undefined;
  /** Undefined for who has not signed in. */
  readonly account: string | undefined;
  readonly method: string;
  readonly path: string;
  readonly ns: string | undefined;
  readonly upstream: string | undefined;
  readonly repository?: string | undefined;
  readonly reference?: string;
  readonly kind: RequestKind;
  readonly status: number;
  readonly cache: CacheOutcome;
  readonly bytes: number;
  readonly handOver?: HandOver;
  readonly firstByteMs: number | undefined;
  readonly totalMs: number | undefined;
  readonly userAgent: string | undefined;
  /** Of the request's own span, where it is traced. */
  readonly traceId?: string;
  readonly spanId?: string;
  readonly aborted?: true;
  readonly err?: unknown;
};

/** What became of a request. */
export interface RequestEnd {
  readonly line: AccessLine;
  /** How the request said which upstream it means; undefined where it could not be understood. */
  readonly form: "virtual-host" | "ns" | "prefix" | "default" | undefined;
  readonly cache: CacheInfo;
  /** What the client was told went wrong; undefined where nothing did. */
  readonly error: { readonly code: string; readonly message: string } | undefined;
  readonly scheme: "http" | "https";
  /** Such as `1.1`. */
  readonly httpVersion: string;
}

/** What a request asks for, as soon as that is known. */
export type RequestSubject = Pick<
  AccessLine,
  "method" | "path" | "ns" | "upstream" | "repository" | "reference" | "kind"
> &
  Pick<RequestEnd, "form">;

/** One request's trail. */
export interface RequestTrail extends Trail {
  /** @param subject to be worked out only where somebody wants to know it before the request has ended */
  routed(subject: () => RequestSubject): void;
  /** It was answered. What goes on behind it may still be told of. */
  ended(end: RequestEnd): void;
}

/** A request that was answered the moment it came: there is nothing to tell of it but its end. Is kept as it is. */
export interface RequestAtOnce {
  readonly requestId: string;
  /** Milliseconds since the epoch. */
  readonly startedAtMs: number;
  /** Milliseconds. */
  readonly totalMs: number;
  /** Characters of the texts of its own that it holds. */
  readonly length: number;
  /** To be called only where somebody wants to know. */
  end(): RequestEnd;
}

/** Takes down what is done for each request at the front; telemetry/ implements it. */
export interface RequestTrails {
  /** @param from what the client says of the trace that its request belongs to */
  start(requestId: string, from: TraceHeaders): RequestTrail;
  /** For start and end in one; gives the request's place, where it is traced. */
  atOnce(request: RequestAtOnce, from: TraceHeaders): TraceIds | undefined;
}
