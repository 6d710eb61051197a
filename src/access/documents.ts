import type { CallOptions } from "../base/call.ts";

export interface DocumentRequest extends CallOptions {
  readonly maxBytes: number;
  /** Path of the authorities to trust in place of the system's. */
  readonly ca: string | undefined;
  /** Path of a token to send. */
  readonly tokenFile: string | undefined;
}

/** Reads documents that are published under an address that the operator has written down, or one that such a document names. */
export interface Documents {
  /** Rejects with an Error that says in a sentence what went wrong, or with the signal's reason. Follows no redirect. */
  read(url: URL, o: DocumentRequest): Promise<Uint8Array>;
}
