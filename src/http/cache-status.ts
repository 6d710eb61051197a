import type { CacheInfo } from "../proxy/answers.ts";

/** The distribution spec ("Warnings") asks for no more than 4096 bytes of warnings in an answer. */
const MAX_WARNING_BYTES = 4096;

const WARNING_PREFIX = '299 - "';

/** sf-token of RFC 8941, section 3.3.4. */
const TOKEN = /^[A-Za-z*][\w!#$%&'*+\-.^`|~:/]*$/;

/** The value of `Cache-Status` (RFC 9211). An answer that no cache had a part in is the bare member `weir`. */
export function formatCacheStatus(info: CacheInfo): string {
  let member = `weir${forwarding(info)}`;
  if (info.ttlS !== undefined) {
    member += `; ttl=${Math.trunc(info.ttlS)}`;
  }
  // A collapsed request's answer is kept by the request that it waited for.
  if (info.stored === true && info.outcome === "miss") {
    member += "; stored";
  }
  const detail = info.detail ?? DEFAULT_DETAIL[info.outcome];
  if (detail !== undefined) {
    member += `; detail=${TOKEN.test(detail) ? detail : `"${quotedText(detail)}"`}`;
  }
  return member;
}

/** Tells apart what RFC 9211 has no parameter for. */
const DEFAULT_DETAIL: Partial<Record<CacheInfo["outcome"], string>> = {
  negative: "negative",
  revalidated: "revalidated",
};

function forwarding(info: CacheInfo): string {
  const status = info.fwdStatus === undefined ? "" : `; fwd-status=${info.fwdStatus}`;
  switch (info.outcome) {
    case "hit":
    case "negative":
      return "; hit";
    case "miss":
      return `; fwd=miss${status}`;
    case "collapsed":
      return `; fwd=miss${status}; collapsed`;
    case "revalidated":
    case "stale":
      return `; fwd=stale${status}`;
    case "bypass":
      return `; fwd=bypass${status}`;
    case "none":
      return "";
  }
}

/** The value of `Warning` as the distribution spec has it: the code 299, no agent, and the text as a quoted string, cut to 4096 bytes in all. */
export function formatWarning(text: string): string {
  const room = MAX_WARNING_BYTES - WARNING_PREFIX.length - 1;
  let quoted = "";
  for (const character of text) {
    const next = quotedText(character);
    if (quoted.length + next.length > room) {
      break;
    }
    quoted += next;
  }
  return `${WARNING_PREFIX}${quoted}"`;
}

/** The inside of a quoted string; what is not printable ASCII becomes `?`, since both specs allow nothing else. */
function quotedText(text: string): string {
  return text.replace(/[^\x20-\x7e]/gu, "?").replace(/["\\]/g, "\\$&");
}
