import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { classifyAddress } from "../../../src/upstream/address.ts";
import { createConnectRules } from "../../../src/upstream/connect-rule.ts";
import { parseErrorBody } from "../../../src/upstream/error-body.ts";
import { shownUrl } from "../../../src/upstream/exchange.ts";
import { headerView } from "../../../src/upstream/header-view.ts";
import { tokenLifetime } from "../../../src/upstream/tokens.ts";

describe("error bodies", () => {
  const read = (text: string): ReturnType<typeof parseErrorBody> => parseErrorBody(Buffer.from(text));

  test.each([
    ['{"errors":[{"code":"DENIED","message":"no"}]}', "DENIED", "no"],
    ['\uFEFF{"errors":[{"code":"TAG_EXPIRED"}]}\n', "TAG_EXPIRED", ""],
    ['{"errors":[{"code":"METHOD NOT ALLOWED"},{"message":"x"}]}', "METHOD NOT ALLOWED", "x"],
    ['{"errors":[{"code":"bad\\ncode"}]}', undefined, ""],
    ['{"errors":[null,7,"DENIED"]}', undefined, ""],
    ['{"errors":{"code":"DENIED"}}', undefined, ""],
    ["<html>", undefined, ""],
    ["[]", undefined, ""],
    ["true", undefined, ""],
    ["", undefined, ""],
  ])("%s", (text, code, message) => {
    expect(read(text)).toEqual({ code, message });
  });

  test("no bytes make it throw", () => {
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array(), fc.json().map(Buffer.from)), (bytes) => {
        expect(() => parseErrorBody(bytes)).not.toThrow();
      }),
    );
  });
});

describe("U5 how long a token lasts", () => {
  const now = Date.parse("2026-09-01T10:00:00Z");
  const jwt = (claims: unknown): string => `h.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.s`;

  test.each([
    ["what the answer says", 300, "opaque", 300],
    ["never less than 60 s", 10, "opaque", 60],
    ["nor more than a day", 1e12, "opaque", 86_400],
    ["else the token's own expiry", undefined, jwt({ exp: now / 1000 + 900 }), 900],
    ["by the issuer's clock", undefined, jwt({ iat: 1_000_000, exp: 1_003_600 }), 3_600],
    ["an expiry in the past", undefined, jwt({ exp: 5 }), 60],
    ["an expiry that is no number", undefined, jwt({ exp: "soon" }), 60],
    ["an opaque token", undefined, "opaque", 60],
    ["a lifetime that is no number", "300", "opaque", 60],
    ["dots without content", undefined, "..", 60],
  ])("%s", (_, expiresIn, token, expected) => {
    expect(tokenLifetime(expiresIn, token, now)).toBe(expected);
  });
});

describe("U3 which addresses a connection may have", () => {
  const rules = (o: { allow?: readonly string[]; dynamic?: boolean } = {}): ReturnType<typeof createConnectRules> =>
    createConnectRules({ upstream: "r", allow: o.allow ?? [], classify: classifyAddress, dynamic: o.dynamic ?? false });
  const at = (address: string): { host: string; address: string } => ({ host: "h.example", address });

  test("the operator's own endpoint may be anywhere, a redirect at public addresses only", () => {
    const { own, foreign } = rules();
    expect(own(at("8.8.8.8"))).toBeUndefined();
    expect(foreign(at("8.8.4.4"))).toBeUndefined();
    for (const address of ["10.0.0.1", "127.0.0.1", "169.254.169.254", "0.0.0.0", "fe80::1", "::ffff:127.0.0.1"]) {
      expect(foreign(at(address)), address).toContain("upstreams.r.redirects.allow");
      expect(own(at(address)), address).toBeUndefined();
    }
  });

  test("a private registry may redirect to private addresses, but not to loopback or link-local ones", () => {
    const { own, foreign } = rules();
    expect(foreign(at("10.0.0.2"))).toBeDefined();
    own(at("10.0.0.1"));
    expect(foreign(at("10.0.0.2"))).toBeUndefined();
    expect(foreign(at("127.0.0.1"))).toBeDefined();
    expect(foreign(at("169.254.169.254"))).toBeDefined();
  });

  test("a registry that was seen at a public address once is not private any more", () => {
    const { own, foreign } = rules();
    own(at("8.8.8.8"));
    own(at("10.0.0.1"));
    expect(foreign(at("10.0.0.2"))).toBeDefined();
  });

  test("what is listed may be reached", () => {
    const { foreign } = rules({ allow: ["127.0.0.1", "cdn.internal"] });
    expect(foreign(at("127.0.0.1"))).toBeUndefined();
    expect(foreign(at("127.0.0.2"))).toBeDefined();
    expect(foreign({ host: "cdn.internal", address: "10.0.0.1" })).toBeUndefined();
  });

  test("a dynamic upstream must be public itself", () => {
    const { own } = rules({ dynamic: true });
    expect(own(at("8.8.8.8"))).toBeUndefined();
    for (const address of ["10.0.0.1", "127.0.0.1", "169.254.169.254", "0.0.0.0"]) {
      expect(own(at(address)), address).toContain("must be public");
    }
  });
});

test("a shown address has neither query nor user info nor tokens in its path", () => {
  const token = "A".repeat(1000);
  expect(shownUrl(new URL(`https://u:p@cdn.example/a/${token}/b?X-Amz-Signature=s#f`))).toBe(
    "https://cdn.example/a/…/b",
  );
  const digest = `sha512:${"a".repeat(128)}`;
  expect(shownUrl(new URL(`https://r.example/v2/x/blobs/${digest}`))).toBe(`https://r.example/v2/x/blobs/${digest}`);
});

test("headers are read by name, never from the prototype", () => {
  const view = headerView({ link: ["<a>", "<b>"], etag: '"x"' });
  expect(view.get("link")).toBe("<a>, <b>");
  expect(view.lines("link")).toEqual(["<a>", "<b>"]);
  expect(view.get("etag")).toBe('"x"');
  expect(view.get("constructor")).toBeUndefined();
});
