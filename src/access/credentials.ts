import { Secret } from "../base/secret.ts";

/** What a client has sent to show who it is. */
export type Credentials =
  | { readonly kind: "none" }
  | { readonly kind: "password"; readonly username: string; readonly password: Secret }
  | { readonly kind: "bearer"; readonly token: Secret }
  /** Another scheme, or what is none. */
  | { readonly kind: "unknown" };

const NONE: Credentials = { kind: "none" };
const UNKNOWN: Credentials = { kind: "unknown" };

/** Reads an `Authorization` header: `Basic` (RFC 7617, in UTF-8) or `Bearer` (RFC 6750). Never throws. */
export function parseAuthorization(header: string | undefined): Credentials {
  if (header === undefined) {
    return NONE;
  }
  const [, scheme = "", value = ""] = /^([A-Za-z]+) +([A-Za-z0-9._~+/=-]+) *$/.exec(header) ?? [];
  switch (scheme.toLowerCase()) {
    case "basic":
      return parseBasic(value);
    case "bearer":
      return { kind: "bearer", token: new Secret(value) };
    default:
      return UNKNOWN;
  }
}

function parseBasic(encoded: string): Credentials {
  const text = Buffer.from(encoded, "base64").toString("utf8");
  const colon = text.indexOf(":");
  return colon === -1
    ? UNKNOWN
    : { kind: "password", username: text.slice(0, colon), password: new Secret(text.slice(colon + 1)) };
}
