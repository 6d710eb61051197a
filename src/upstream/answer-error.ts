import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { readDocument } from "./document.ts";
import { type ErrorBody, parseErrorBody } from "./error-body.ts";
import { type Answer, shownUrl } from "./exchange.ts";
import { retryAfterOf } from "./retry-after.ts";
import { UpstreamError, type UpstreamErrorOptions, type UpstreamFault } from "./upstream.ts";

/** An error that needs more words than this is a page, not an error envelope. */
const ERROR_BODY = { bytes: 64 * 1024, name: "what an error may take" };

export interface ErrorContext {
  readonly upstream: string;
  readonly clock: Clock;
  /** What the answer means to who asked. */
  faultOf(body: ErrorBody): UpstreamFault;
  /** What was absent where the fault is `absent` and the answer does not say; undefined = it is not known then. */
  readonly missing: "repository" | "manifest" | "blob" | undefined;
  /** The label of the credential in use. */
  readonly credential: string | undefined;
  /** Told of the body of a 429. */
  throttled?(bodyText: string): void;
  /** What the operator can do about it, if anything; ends the message. */
  readonly advice?: string | undefined;
}

const ABSENT_BY_CODE: Readonly<Record<string, "repository" | "manifest" | "blob">> = {
  NAME_UNKNOWN: "repository",
  MANIFEST_UNKNOWN: "manifest",
  BLOB_UNKNOWN: "blob",
};

/**
 * Makes of an answer that is no success the error that says what it means, reading as much of its body as that takes.
 * Rejects only with the signal's reason.
 */
export async function answerError(answer: Answer, context: ErrorContext, o: CallOptions): Promise<UpstreamError> {
  const bytes = await readErrorBody(answer, context, o);
  const body = parseErrorBody(bytes);
  const { status } = answer;
  if (status === 429) {
    context.throttled?.(Buffer.from(bytes).toString());
  }
  const fault = context.faultOf(body);
  const absent = fault === "absent" ? (ABSENT_BY_CODE[body.code ?? ""] ?? context.missing) : undefined;
  const retryAfterMs = retryDelay(answer, body, context.clock);
  const options: UpstreamErrorOptions = {
    status,
    ...(absent === undefined ? {} : { absent }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(context.credential === undefined ? {} : { credential: context.credential }),
  };
  const said = `${shownUrl(answer.url)} answered ${status}${body.code === undefined ? "" : ` ${body.code}`}`;
  const whose = context.credential === undefined ? "" : ` to credential ${JSON.stringify(context.credential)}`;
  const advice = context.advice === undefined ? "" : `; ${context.advice}`;
  return new UpstreamError(context.upstream, fault, `${context.upstream}: ${said}${whose}${advice}`, options);
}

/** Only answers that ask to be left alone are believed: a `Retry-After` on a 404 means nothing. */
function retryDelay(answer: Answer, body: ErrorBody, clock: Clock): number | undefined {
  if (answer.status !== 429 && answer.status < 500) {
    return undefined;
  }
  return retryAfterOf(answer.headers, body.message, clock.now());
}

async function readErrorBody(answer: Answer, context: ErrorContext, o: CallOptions): Promise<Uint8Array> {
  try {
    return await readDocument(context.upstream, answer, ERROR_BODY, context.clock, o);
  } catch (error) {
    if (!(error instanceof UpstreamError)) {
      throw error;
    }
    // The status has said enough.
    answer.discard();
    return new Uint8Array();
  }
}
