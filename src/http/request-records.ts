import type { IncomingMessage, ServerResponse } from "node:http";
import type { Log } from "../base/log.ts";
import type { OciError } from "../oci/errors.ts";
import { accessLine, answeredRequest, finishedRequest, type RequestRecord } from "./access-log.ts";
import { NO_CACHE_INFO } from "./answer.ts";
import type { Clients } from "./clients.ts";
import { toOciError } from "./errors.ts";
import type { Hit } from "./hit.ts";
import { HitLines } from "./hit-lines.ts";
import type { HttpObserver, RequestTrails } from "./observer.ts";
import { requestIdOf } from "./request-id.ts";

export interface RequestRecordsDeps {
  readonly clients: Clients;
  readonly observer: HttpObserver;
  readonly trails: RequestTrails;
  readonly log: Log;
  /** The status that a request with `ns` gets when the upstream's quota is spent. */
  budgetStatusOf(upstream: string): 429 | 503;
  newRequestId(): string;
  /** Milliseconds that only ever grow, with fractions; as `performance.now`. */
  monotonicMs(): number;
  /** As `Listener.reset`. */
  reset(req: IncomingMessage, cause: unknown): void;
}

export type Arrival = Pick<RequestRecord, "requestId" | "from" | "startedMs">;

/** What is taken down of every request, whichever way it is answered. */
export class RequestRecords {
  readonly #deps: RequestRecordsDeps;
  readonly #lines = new HitLines();

  constructor(deps: RequestRecordsDeps) {
    this.#deps = deps;
  }

  begin(req: IncomingMessage, arrival = this.arrival(req)): RequestRecord {
    const { requestId } = arrival;
    return {
      ...arrival,
      account: undefined,
      call: undefined,
      cache: NO_CACHE_INFO,
      bytesSent: 0,
      firstByteMs: undefined,
      error: undefined,
      told: undefined,
      handOver: undefined,
      direct: undefined,
      trail: this.#deps.trails.start(requestId, req.headers),
    };
  }

  /** What is known of a request as it comes. */
  arrival(req: IncomingMessage): Arrival {
    const { clients, newRequestId, monotonicMs } = this.#deps;
    return {
      requestId: requestIdOf(req.headers["x-request-id"], newRequestId),
      from: clients.of(req),
      startedMs: monotonicMs(),
    };
  }

  /** Milliseconds. */
  since({ startedMs }: Arrival): number {
    return this.#deps.monotonicMs() - startedMs;
  }

  /** It was answered the moment it came. */
  endedAtOnce(req: IncomingMessage, hit: Hit): void {
    const { observer, trails, log } = this.#deps;
    observer.answered(answeredRequest(hit));
    hit.ids = trails.atOnce(hit, req.headers);
    if (log.infoText === undefined) log.info(accessLine(hit), "request");
    else log.infoText(() => this.#lines.of(hit), "request");
  }

  /** The first byte of the answer goes out. */
  firstByte(record: RequestRecord): void {
    if (record.firstByteMs !== undefined) return;
    record.firstByteMs = this.since(record);
    record.trail.detail?.note("first-byte", {});
  }

  /** What became of it goes to the access log, the metrics and the trail. */
  ended(req: IncomingMessage, res: ServerResponse, record: RequestRecord): void {
    const { observer, log } = this.#deps;
    const { answered, line } = finishedRequest(req, res, record, this.since(record));
    observer.answered(answered);
    const { cache, told: error, trail, call, from } = record;
    trail.ended({ line, form: call?.form, cache, error, scheme: from.scheme, httpVersion: req.httpVersion });
    log.info(line, "request");
  }

  /** What a failure is to the client, which the record keeps. */
  tell(err: unknown, record: RequestRecord): OciError {
    const { budgetStatusOf } = this.#deps;
    const told = toOciError(err, { call: record.call, budgetStatusOf });
    record.told = { code: told.code, message: told.message };
    return told;
  }

  /** After headers the only honest sign of a failure is a reset: JSON would pass for a part of the body. */
  cutOff(req: IncomingMessage, record: RequestRecord, err: unknown): void {
    record.error = err;
    this.tell(err, record);
    this.#deps.reset(req, err);
  }
}
