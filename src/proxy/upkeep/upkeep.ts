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
  /** What the reference means stays from now on, whether or not it is held yet, as if it stood in `storage.pins`. */
  pin(o: CallOptions & { readonly reference: string }): AsyncIterable<PinEvent>;
  /** Takes back what {@link pin} has said, by the same reference. What `storage.pins` says stands. */
  unpin(o: CallOptions & { readonly reference: string }): AsyncIterable<PinEvent>;
  /** Everything that is pinned, and by whom. */
  pins(o: CallOptions): AsyncIterable<PinsListed>;
  /** What is known of one image, and what its next pull would do. Asks no upstream, and changes nothing. */
  explain(o: CallOptions & { readonly reference: string }): AsyncIterable<Explanation>;
  /** What became of the requests with an `X-Request-Id`. */
  explainRequest(o: CallOptions & { readonly requestId: string }): AsyncIterable<RequestExplanation>;
}

export interface PinEvent {
  readonly done: true;
  /** The reference as it was understood: `docker.io/library/nginx:1.27` for `nginx:1.27`. */
  readonly pin: string;
  /** False where it was pinned already, or was not. */
  readonly changed: boolean;
}

export interface PinsListed {
  readonly done: true;
  readonly pins: readonly ListedPin[];
}

export interface ListedPin {
  readonly pin: string;
  readonly from: "storage.pins" | "operator";
  /** Since when; milliseconds since the epoch; undefined for what the configuration says. */
  readonly sinceMs: number | undefined;
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
