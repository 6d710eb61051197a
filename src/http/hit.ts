import type { TraceIds } from "../base/trail.ts";
import type { CacheInfo } from "../proxy/answers.ts";
import { accessLine, type EndedRequest } from "./access-log.ts";
import type { RequestAtOnce, RequestEnd } from "./observer.ts";
import type { RoutedCall } from "./route.ts";

/** What a {@link Hit} is made of. */
export type HitParts = Omit<EndedRequest, "call" | "ids" | "handOver"> &
  Pick<RequestAtOnce, "startedAtMs"> &
  Pick<RequestEnd, "scheme" | "httpVersion"> & { readonly call: RoutedCall };

/**
 * A request that was answered at once. Thousands of them are kept for a while: it holds what it was made of, and what there is to
 * tell of it is put together when somebody wants to know.
 */
export class Hit implements RequestAtOnce, EndedRequest {
  readonly requestId: string;
  readonly startedAtMs: number;
  readonly firstByteMs: number | undefined;
  readonly totalMs: number;
  readonly account: string | undefined;
  readonly call: RoutedCall;
  readonly cache: CacheInfo;
  readonly bytesSent: number;
  readonly method: string;
  readonly target: string;
  readonly client: string | undefined;
  readonly status: number;
  readonly agent: string | undefined;
  readonly scheme: RequestEnd["scheme"];
  readonly httpVersion: string;
  /** In a trace, as soon as that is known. */
  ids: TraceIds | undefined;

  constructor(parts: HitParts) {
    this.requestId = parts.requestId;
    this.startedAtMs = parts.startedAtMs;
    this.firstByteMs = parts.firstByteMs;
    this.totalMs = parts.totalMs;
    this.account = parts.account;
    this.call = parts.call;
    this.cache = parts.cache;
    this.bytesSent = parts.bytesSent;
    this.method = parts.method;
    this.target = parts.target;
    this.client = parts.client;
    this.status = parts.status;
    this.agent = parts.agent;
    this.scheme = parts.scheme;
    this.httpVersion = parts.httpVersion;
    this.ids = undefined;
  }

  /** Nothing was handed over: the bytes went out. */
  get handOver(): undefined {
    return undefined;
  }

  get length(): number {
    return this.target.length + (this.agent?.length ?? 0) + this.requestId.length;
  }

  end(): RequestEnd {
    const { call, cache, scheme, httpVersion } = this;
    return { line: accessLine(this), form: call.form, cache, error: undefined, scheme, httpVersion };
  }
}
