import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseAuthorization } from "../../../src/access/credentials.ts";
import { SignIn } from "../../../src/access/sign-in.ts";
import { basic } from "../../support/sign-in.ts";

/** With what is secret in it, for the comparison. */
function read(header: string | undefined): unknown {
  const credentials = parseAuthorization(header);
  switch (credentials.kind) {
    case "password":
      return [credentials.username, credentials.password.reveal()];
    case "bearer":
      return credentials.token.reveal();
    default:
      return credentials.kind;
  }
}

describe("an Authorization header", () => {
  test.each<[string, string | undefined, unknown]>([
    ["none", undefined, "none"],
    ["Basic", basic("alice", "s3cret"), ["alice", "s3cret"]],
    ["any case, more blanks", `bAsIc   ${basic("alice", "s3cret").slice(6)} `, ["alice", "s3cret"]],
    ["colons in the password", basic("alice", "a:b:c"), ["alice", "a:b:c"]],
    ["UTF-8 (RFC 7617, 2.1)", basic("tëst", "123£"), ["tëst", "123£"]],
    ["nothing in it", basic("", ""), ["", ""]],
    ["no colon in it", `Basic ${Buffer.from("alice").toString("base64")}`, "unknown"],
    ["Bearer", "Bearer a.b-c_d~e+f/g=", "a.b-c_d~e+f/g="],
    ["two tokens", "Bearer a b", "unknown"],
    ["no token", "Bearer", "unknown"],
    ["no token behind the blank", "Bearer ", "unknown"],
    ["another scheme", "Negotiate YII=", "unknown"],
    ["parameters", 'Digest username="a"', "unknown"],
    ["empty", "", "unknown"],
    ["control characters", "Bearer a\u0000b", "unknown"],
  ])("%s", (_, header, expected) => {
    expect(read(header)).toEqual(expected);
  });

  test("whatever it is, is understood or is none; a name and a password come back as they were", () => {
    fc.assert(
      fc.property(fc.string(), (header) =>
        ["none", "unknown", "password", "bearer"].includes(parseAuthorization(header).kind),
      ),
    );
    const text = fc.string({ unit: "grapheme" });
    fc.assert(
      fc.property(text, text, (name, password) => {
        fc.pre(!name.includes(":") && name.isWellFormed() && password.isWellFormed());
        expect(read(basic(name, password))).toEqual([name, password]);
      }),
    );
  });

  test("shows its secret to nobody", () => {
    expect(JSON.stringify(parseAuthorization(basic("alice", "s3cret")))).toBe(
      '{"kind":"password","username":"alice","password":"***"}',
    );
  });
});

describe("a certificate's account", () => {
  const certificate = {
    subject: "CN=node1,O=Example",
    commonName: "node1",
    san: ["DNS:node1.example", "DNS:other.example", "URI:spiffe://example/ci", "email:ci@example.org", "IP:10.0.0.1"],
    fingerprint256: "00",
  };

  test.each([
    ["cn", "node1"],
    ["subject", "CN=node1,O=Example"],
    ["dns", "node1.example"],
    ["uri", "spiffe://example/ci"],
    ["email", "ci@example.org"],
  ] as const)("%s", (account, name) => {
    const signIn = new SignIn({
      config: { oidc: undefined, mtls: { account } },
      passwords: undefined,
      oidc: undefined,
    });
    expect(signIn.byCertificate(certificate)).toMatchObject({ account: name, groups: [], via: "certificate" });
    const bare = { ...certificate, subject: "", commonName: undefined, san: ["IP:10.0.0.1"] };
    expect(signIn.byCertificate(bare)).toBeUndefined();
    expect(signIn.byCertificate(undefined)).toBeUndefined();
  });

  test("none where certificates do not count", () => {
    const signIn = new SignIn({ config: { oidc: undefined, mtls: undefined }, passwords: undefined, oidc: undefined });
    expect(signIn.byCertificate(certificate)).toBeUndefined();
  });
});
