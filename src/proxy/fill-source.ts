import type { CallOptions } from "../base/call.ts";
import type { BlobBody } from "../upstream/upstream.ts";

/** One repository's way to a blob's bytes. */
export interface FillSource {
  /** `<upstream>/<repository>`: two waiters of one repository are one source. */
  readonly key: string;
  readonly upstream: string;
  /** As `Upstream.getBlob`; asks the registry anew for each attempt, since signed redirects expire. */
  open(start: number, o: CallOptions): Promise<BlobBody>;
}
