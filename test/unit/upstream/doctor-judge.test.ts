import { describe, expect, test } from "vitest";
import {
  judgeCertificate,
  judgeClock,
  judgeConnect,
  judgeFault,
  judgeLookup,
  judgePing,
  judgeProxy,
  judgeQuota,
} from "../../../src/upstream/doctor/judge.ts";
import { UpstreamError, type UpstreamErrorOptions, type UpstreamFault } from "../../../src/upstream/upstream.ts";

const NOW = Date.UTC(2026, 5, 1);
const DAY = 86_400_000;

const handshake = {
  upstream: "reg.example",
  host: "reg.example",
  protocol: "TLSv1.3",
  issuer: "Some CA",
  validToMs: NOW + 60 * DAY,
  distrust: undefined,
  insecureSkipVerify: false,
  nowMs: NOW,
};

describe("a certificate", () => {
  test("shows protocol, issuer and days", () => {
    expect(judgeCertificate(handshake)).toMatchObject({ status: "ok", detail: "TLSv1.3, Some CA, 60 days left" });
  });

  test.each([
    [14, "ok"],
    [13, "warning"],
    [0, "warning"],
  ])("with %i days left is %s", (days, status) => {
    expect(judgeCertificate({ ...handshake, validToMs: NOW + days * DAY }).status).toBe(status);
  });

  test.each([
    ["CERT_HAS_EXPIRED", "renew it"],
    ["CERT_NOT_YET_VALID", "check this machine's clock, which says 2026-06-01"],
    ["ERR_TLS_CERT_ALTNAME_INVALID", "check the name under endpoints"],
    ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", "upstreams.reg.example.tls.ca"],
    ["DEPTH_ZERO_SELF_SIGNED_CERT", "upstreams.reg.example.tls.ca"],
  ])("that is not trusted (%s) says what to do", (distrust, advice) => {
    const verdict = judgeCertificate({ ...handshake, distrust });
    expect(verdict).toMatchObject({ status: "failed", advice: expect.stringContaining(advice) });
    expect(judgeCertificate({ ...handshake, distrust, insecureSkipVerify: true }).status).toBe("warning");
  });
});

describe("the way", () => {
  const dialled = { upstream: "reg.example", authority: "reg.example:443", proxy: undefined };

  test.each([
    [judgeLookup("reg.example", "ENOTFOUND"), "DNS servers know reg.example"],
    [judgeLookup("reg.example", "EAI_AGAIN"), "/etc/resolv.conf"],
    [judgeConnect(dialled, "ECONNREFUSED"), "nothing listens there"],
    [judgeConnect(dialled, "timeout"), "a firewall is in between, or the network needs a proxy"],
    [judgeConnect(dialled, "EHOSTUNREACH"), "upstreams.reg.example.proxy or HTTPS_PROXY"],
    [judgeConnect({ ...dialled, proxy: "proxy:3128" }, "ECONNREFUSED"), "that the proxy runs"],
    [judgeProxy("reg.example", "the proxy x wants a user name (407)"), "http://user:password@host:port"],
    [judgeProxy("reg.example", "the proxy x answers 403"), "NO_PROXY"],
  ])("%j", (verdict, advice) => {
    expect(verdict).toMatchObject({ status: "failed", advice: expect.stringContaining(advice) });
  });
});

describe("the ping", () => {
  const bearer = ['Bearer realm="https://auth.example/token",service="reg"'];

  test.each([
    [200, [], "ok", "200"],
    [401, bearer, "ok", "401, bearer at auth.example"],
    [401, ["Basic realm=x"], "ok", "401, basic"],
    [401, [], "failed", "401 without a challenge"],
    [429, [], "warning", "429"],
    [503, [], "failed", "503"],
    [404, [], "failed", "404"],
    [403, [], "failed", "403"],
  ])("%i %j is %s: %s", (status, authenticate, expected, detail) => {
    expect(judgePing("reg.example", status, authenticate)).toMatchObject({ status: expected, detail });
  });
});

test.each([
  [undefined, undefined],
  ["rubbish", undefined],
  [new Date(NOW - 60_000).toUTCString(), "ok"],
  [new Date(NOW - 61_000).toUTCString(), "warning"],
  [new Date(NOW + 13 * 3_600_000).toUTCString(), "warning"],
])("U5 a clock, by the registry's %s, is %s", (date, status) => {
  expect(judgeClock(date, NOW)?.status).toBe(status);
});

describe("a call that failed", () => {
  const judge = (fault: UpstreamFault, options: UpstreamErrorOptions = {}, realm = false) =>
    judgeFault(new UpstreamError("reg.example", fault, "reg.example: why", options), { asked: "a/b:1", realm });

  test.each<[UpstreamFault, UpstreamErrorOptions, string]>([
    ["credential", { credential: "ci" }, "replace what upstreams.reg.example.credentials has under ci"],
    ["denied", { credential: "ci", status: 401 }, "give ci the permission to pull a/b:1"],
    ["denied", { status: 401 }, "configure upstreams.reg.example.credentials"],
    ["absent", { status: 404 }, "--reference"],
    ["quota", { retryAfterMs: 90_000 }, "wait, or sign in"],
    ["quota", { credential: "ci" }, "add another credential"],
    ["refused", {}, "the key that the message names"],
    ["connect", {}, "open the way to this host"],
    ["tls", {}, "check its certificate"],
    ["timeout", {}, "open the way to this host"],
    ["status", { status: 500 }, "ask its operator"],
    ["bad-answer", {}, "ask its operator"],
  ])("%s %j", (fault, options, advice) => {
    expect(judge(fault, options)).toMatchObject({ status: "failed", advice: expect.stringContaining(advice) });
  });

  test("says whose host it is", () => {
    expect(judge("connect", {}, true).advice).toContain("tokens come from it");
    expect(judge("connect").advice).toContain("blobs, or what redirects lead to, come from it");
  });
});

describe("a quota", () => {
  const unknown = {
    credential: undefined,
    source: undefined,
    limit: undefined,
    remaining: undefined,
    windowS: undefined,
    observedAtMs: undefined,
    closedUntilMs: undefined,
  };
  const of = (limit: number, remaining: number) => ({ ...unknown, limit, remaining, windowS: 21_600 });

  test.each([
    [unknown, undefined, ""],
    [of(100, 50), "ok", "50 of 100 in 6 h"],
    [of(100, 9), "warning", "9 of 100 in 6 h"],
    [of(100, 0), "failed", "0 of 100 in 6 h"],
    [{ ...of(100, 50), closedUntilMs: NOW + 90_000 }, "failed", "spent for 90 s"],
    [{ ...of(100, 50), closedUntilMs: NOW - 1 }, "ok", "50 of 100 in 6 h"],
    [{ ...of(200, 150), source: "203.0.113.7", windowS: undefined }, "ok", "150 of 200, counted for 203.0.113.7"],
  ])("%j is %s", (quota, status, detail) => {
    const verdict = judgeQuota("reg.example", quota, NOW);
    expect([verdict?.status, verdict?.detail ?? ""]).toEqual([status, detail]);
  });
});
