import type { CallOptions } from "../../base/call.ts";
import type { ImportEvent } from "../../storage/import-registry.ts";
import type { VerifyEvent } from "../../storage/verify.ts";
import type { Explanation } from "../explain/explanation.ts";
import type { RequestExplanation } from "../explain/request-report.ts";
import type { GcEvent } from "./gc.ts";
import type { PurgeEvent } from "./purge.ts";
import type { RefreshEvent } from "./refresh.ts";
import type { StatsEvent } from "./stats.ts";

/**
 * What an operator does with what is held. Every event is plain data, so that it may travel as a line of JSON; the last one of
 * each has `done`. All are safe beside serving. A question that makes no sense rejects with an {@link UpkeepError} at the
 * first event.
 */
export interface Upkeep {
  gc(o: CallOptions & { readonly dryRun: boolean }): AsyncIterable<GcEvent>;
  /** `bytesPerS`: hashed at most; undefined takes {@link DEFAULT_VERIFY_RATE}. */
  verify(o: CallOptions & { readonly bytesPerS: number | undefined }): AsyncIterable<VerifyEvent>;
  /** `repositories`: so many of the largest are listed. */
  stats(o: CallOptions & { readonly repositories: number }): AsyncIterable<StatsEvent>;
  purge(o: CallOptions & { readonly reference: string; readonly dryRun: boolean }): AsyncIterable<PurgeEvent>;
  refresh(o: CallOptions & { readonly reference: string }): AsyncIterable<RefreshEvent>;
  import(o: CallOptions & ImportRequest): AsyncIterable<ImportEvent>;
  /** What is known of one image, and what its next pull would do. Asks no upstream, and changes nothing. */
  explain(o: CallOptions & { readonly reference: string }): AsyncIterable<Explanation>;
  /** What became of the requests with an `X-Request-Id`. */
  explainRequest(o: CallOptions & { readonly requestId: string }): AsyncIterable<RequestExplanation>;
}

/** Whoever answers clients, as far as it can tell what it does. */
export interface Explanations {
  /** Rejects with an {@link UpkeepError} for what is no image by tag or digest. */
  reference(reference: string, o: CallOptions): Promise<Explanation>;
  /** Rejects with an {@link UpkeepError} where nobody answers clients. */
  request(requestId: string, o: CallOptions): Promise<RequestExplanation>;
}

export interface ImportRequest {
  /** The registry's folder, absolute, as the process that has the storage sees it. */
  readonly folder: string;
  /** The upstream that it stands for, by its name or an alias. */
  readonly as: string;
  /** Its repositories have their full names already, as those of a pull-through cache do: nothing is put in front of them. */
  readonly fromProxy: boolean;
  /** Hash everything before it is taken over. */
  readonly verify: boolean;
  readonly dryRun: boolean;
}

/** Some percent of one core, and less than what a disk gives to its readers. Bytes a second. */
export const DEFAULT_VERIFY_RATE = 64 << 20;

/** A question that an operator should put differently; the message says how. */
export class UpkeepError extends Error {
  override readonly name = "UpkeepError";
}
