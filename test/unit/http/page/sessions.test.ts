import { expect, test } from "vitest";
import { Secret } from "../../../../src/base/secret.ts";
import { Sessions } from "../../../../src/http/page/sessions.ts";
import { ManualClock } from "../../../support/manual-clock.ts";

const HOUR = 3_600_000;
const TOKEN = "a-token-of-the-operator";

let bytes = 0;

function sessions(clock: ManualClock, token = TOKEN): Sessions {
  return new Sessions({
    token: new Secret(token),
    clock,
    random(length) {
      bytes += 1;
      return new Uint8Array(length).fill(bytes);
    },
  });
}

test("a session is good for twelve hours, at every replica with the token, and after a restart", () => {
  const clock = new ManualClock();
  const { value, session } = sessions(clock).open();
  const another = sessions(clock);
  expect(another.read(value)).toEqual(session);
  expect(another.formToken(session)).toBe(sessions(clock).formToken(session));
  clock.advance(12 * HOUR - 1);
  expect(another.read(value)).toEqual(session);
  clock.advance(1);
  expect(another.read(value)).toBeUndefined();
});

test("it ends with the token, and holds nothing of it", () => {
  const clock = new ManualClock();
  const { value } = sessions(clock).open();
  expect(sessions(clock, "another-token-of-the-operator").read(value)).toBeUndefined();
  expect(value).not.toContain(TOKEN);
});

test("no part of it can be changed", () => {
  const clock = new ManualClock();
  const own = sessions(clock);
  const { value } = own.open();
  const [expires = "", id = "", signature = ""] = value.split(".");
  const later = (Number.parseInt(expires, 36) + HOUR).toString(36);
  const wrong = [
    "",
    ".",
    "..",
    `${later}.${id}.${signature}`,
    `${expires}.${own.open().session.id}.${signature}`,
    `${expires}.${id}.${signature.slice(0, -1)}`,
    `${expires}.${id}.`,
    `${value}.x`,
    `${expires}.${id}.${own.formToken({ id, expiresAtMs: 0 })}`,
  ];
  for (const value of wrong) expect(own.read(value), value).toBeUndefined();
});

test("one that was signed out is over, and others are not; the first are forgotten when there are too many", () => {
  const clock = new ManualClock();
  const own = sessions(clock);
  const [first, second] = [own.open(), own.open()];
  own.end(first.session);
  expect(own.read(first.value)).toBeUndefined();
  expect(own.read(second.value)).toEqual(second.session);
  for (let i = 0; i < 1_000; i += 1) own.end({ id: `${i}`, expiresAtMs: 0 });
  expect(own.read(first.value)).toEqual(first.session);
});

test("what proves a form is of one session, and is not its cookie", () => {
  const own = sessions(new ManualClock());
  const [first, second] = [own.open(), own.open()];
  const proof = own.formToken(first.session);
  expect(own.isFormToken(first.session, proof)).toBe(true);
  expect(own.isFormToken(second.session, proof)).toBe(false);
  expect(own.isFormToken(first.session, "")).toBe(false);
  expect(first.value).not.toContain(proof);
});
