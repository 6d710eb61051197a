import { UpstreamError } from "../upstream/upstream.ts";

/** The upstream delivered something that is not the blob: what was received is thrown away. */
export class WrongContentError extends UpstreamError {
  constructor(upstream: string, message: string) {
    super(upstream, "bad-answer", message);
  }
}

/** Another process of the fleet, which was to pass the blob on, broke off: it says nothing about the blob or its upstream. */
export class PeerStreamError extends Error {
  override readonly name = "PeerStreamError";
}

/** The fill was ended from outside: the process is stopping, or nobody wants the blob any more. */
export class FillStoppedError extends Error {
  override readonly name = "FillStoppedError";
}
