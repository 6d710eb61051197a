import { expect, test } from "vitest";
import { Secret } from "../../../src/base/secret.ts";
import {
  DATE_HEADER,
  NONCE_HEADER,
  SIGNATURE_HEADER,
  SignatureCheck,
  type SignatureHeaders,
  signRequest,
} from "../../../src/cluster/signature.ts";
import { ManualClock } from "../../support/manual-clock.ts";

const request = { method: "GET", path: "/v1/fill?digest=sha256%3Aaa&start=0" };
const secret = new Secret("between us");

function signed(nowMs: number, nonce: string, by: Secret = secret): SignatureHeaders {
  const headers = signRequest(request, { secret: by, nowMs, nonce });
  return { date: headers[DATE_HEADER], nonce: headers[NONCE_HEADER], signature: headers[SIGNATURE_HEADER] };
}

test("C3 a signed request passes once", () => {
  const clock = new ManualClock();
  const check = new SignatureCheck(secret, clock);
  const headers = signed(clock.now(), "n1");
  expect(check.fault(request, headers)).toBeUndefined();
  expect(check.fault(request, headers)).toBe("replayed");
  expect(check.fault(request, signed(clock.now(), "n2"))).toBeUndefined();
});

test("C3 a replay is refused for as long as its date would pass, by clocks that differ as well", () => {
  const clock = new ManualClock();
  const check = new SignatureCheck(secret, clock);
  const ahead = signed(clock.now() + 59_000, "n1");
  expect(check.fault(request, ahead)).toBeUndefined();
  clock.advance(118_000);
  expect(check.fault(request, ahead)).toBe("replayed");
  clock.advance(2_000);
  expect(check.fault(request, ahead)).toBe("wrong time");
});

test.each<[string, (headers: SignatureHeaders) => SignatureHeaders, string]>([
  ["no headers", () => ({ date: undefined, nonce: undefined, signature: undefined }), "unsigned"],
  ["no signature", (h) => ({ ...h, signature: undefined }), "unsigned"],
  ["a date that is none", (h) => ({ ...h, date: "yesterday" }), "unsigned"],
  ["an empty signature", (h) => ({ ...h, signature: "" }), "wrong signature"],
  ["another nonce", (h) => ({ ...h, nonce: "n2" }), "wrong signature"],
  ["another date", (h) => ({ ...h, date: String(Number(h.date) + 1) }), "wrong signature"],
  ["a signature by another secret", () => signed(0, "n1", new Secret("foreign")), "wrong signature"],
])("C3 refuses %s", (_, change, fault) => {
  const clock = new ManualClock();
  const check = new SignatureCheck(secret, clock);
  expect(check.fault(request, change(signed(clock.now(), "n1")))).toBe(fault);
});

test("C3 a signature holds for its method and path only", () => {
  const clock = new ManualClock();
  const check = new SignatureCheck(secret, clock);
  const headers = signed(clock.now(), "n1");
  expect(check.fault({ ...request, method: "POST" }, headers)).toBe("wrong signature");
  expect(check.fault({ ...request, path: `${request.path}1` }, headers)).toBe("wrong signature");
  expect(check.fault(request, headers)).toBeUndefined();
});

test("C3 what was signed a minute too early or too late is refused", () => {
  const clock = new ManualClock();
  const check = new SignatureCheck(secret, clock);
  expect(check.fault(request, signed(clock.now() - 60_001, "n1"))).toBe("wrong time");
  expect(check.fault(request, signed(clock.now() + 60_001, "n2"))).toBe("wrong time");
});

test("C3 the memory of what was seen is bounded: beyond it nothing passes", () => {
  const clock = new ManualClock();
  const check = new SignatureCheck(secret, clock);
  for (let i = 0; i < 200_000; i += 1) check.fault(request, signed(clock.now(), `n${i}`));
  expect(check.fault(request, signed(clock.now(), "one more"))).toBe("too many requests");
  clock.advance(120_000);
  expect(check.fault(request, signed(clock.now(), "later"))).toBeUndefined();
});
