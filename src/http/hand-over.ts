import type { IncomingHttpHeaders } from "node:http";
import type { ByteRangeRequest } from "../oci/range.ts";

/**
 * A web server in front was told in which file the bytes are (`done`), or could not read the file that it was told and
 * wants the bytes (`returned`).
 */
export type HandOver = "done" | "returned";

/** The request header by which it says so. Nothing depends on who sends it: its sender gets what everybody else gets. */
const RETURNED = { header: "weir-accel-redirect", value: "off" };

export function isReturned(headers: IncomingHttpHeaders): boolean {
  return headers[RETURNED.header] === RETURNED.value;
}

/**
 * Whether a web server that has the file makes of the request what Weir would: there are conditions that Weir does not
 * look at, and ranges that it does not read.
 *
 * @param range what Weir has read of the request's
 */
export function suitsHandOver(headers: IncomingHttpHeaders, range: ByteRangeRequest | undefined): boolean {
  return (
    headers["if-match"] === undefined &&
    headers["if-unmodified-since"] === undefined &&
    (headers.range === undefined || range !== undefined)
  );
}

/** The value of `X-Accel-Redirect`, which nginx decodes as it does a request's path. */
export function filePlace(prefix: string, local: string): string {
  return prefix + local.split("/").map(encodeURIComponent).join("/");
}
