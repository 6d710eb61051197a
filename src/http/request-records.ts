import type { IncomingMessage, ServerResponse } from "node:http";
import type { Log } from "../base/log.ts";
import type { OciError } from "../oci/errors.ts";
import { finishedRequest, type RequestRecord } from "./access-log.ts";
import { NO_CACHE_INFO } from "./answer.ts";
import type { Clients } from "./clients.ts";
import { toOciError } from "./errors.ts";
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

/** What is taken down of every request, whichever way it is answered. */
export class RequestRecords {
  readonly #deps: RequestRecordsDeps;

  constructor(deps: RequestRecordsDeps) {
    this.#deps = deps;
  }

  begin(req: IncomingMessage): RequestRecord {
    const { clients, trails, monotonicMs, newRequestId } = this.#deps;
    const requestId = requestIdOf(req.headers["x-request-id"], newRequestId);
    return {
      requestId,
      from: clients.of(req),
      startedMs: monotonicMs(),
      account: undefined,
      call: undefined,
      cache: NO_CACHE_INFO,
      bytesSent: 0,
      firstByteMs: undefined,
      error: undefined,
      told: undefined,
      handOver: undefined,
      trail: trails.start(requestId, req.headers),
    };
  }

  /** The first byte of the answer goes out. */
  firstByte(record: RequestRecord): void {
    if (record.firstByteMs !== undefined) return;
    record.firstByteMs = this.#deps.monotonicMs() - record.startedMs;
    record.trail.detail?.note("first-byte", {});
  }

  /** What became of it goes to the access log, the metrics and the trail. */
  ended(req: IncomingMessage, res: ServerResponse, record: RequestRecord): void {
    const { observer, log, monotonicMs } = this.#deps;
    const { answered, line } = finishedRequest(req, res, record, monotonicMs() - record.startedMs);
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
