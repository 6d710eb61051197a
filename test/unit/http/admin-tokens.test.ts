import type { IncomingMessage } from "node:http";
import { beforeEach, expect, test } from "vitest";
import { clientNetwork } from "../../../src/access/networks.ts";
import { silentLog } from "../../../src/base/log.ts";
import { Secret } from "../../../src/base/secret.ts";
import { AdminTokens } from "../../../src/http/admin-tokens.ts";
import { ManualClock } from "../../support/manual-clock.ts";

const RIGHT = "the-token-of-the-operator";

let clock: ManualClock;
let logged: unknown[];
let tokens: AdminTokens;

beforeEach(() => {
  clock = new ManualClock();
  logged = [];
  const log = { ...silentLog, warn: (...line: unknown[]) => logged.push(line) };
  const clients = {
    addressOf: (peer: string | undefined, forwarded: string | undefined) => forwarded ?? peer,
    networkOf: (address: string) => clientNetwork(address) ?? address,
  };
  tokens = new AdminTokens([new Secret(RIGHT), new Secret("another-one")], { clients, clock, log });
});

function from(address: string, forwarded?: string): IncomingMessage {
  return {
    socket: { remoteAddress: address },
    headers: forwarded === undefined ? {} : { "x-forwarded-for": forwarded },
  } as unknown as IncomingMessage;
}

function verdicts(times: number, sent: string, req: IncomingMessage): readonly string[] {
  return Array.from({ length: times }, () => tokens.judge(sent, req).is);
}

test("each of the tokens is right, and what is not one is wrong", () => {
  expect(verdicts(1, RIGHT, from("10.0.0.1"))).toEqual(["right"]);
  expect(verdicts(1, "another-one", from("10.0.0.1"))).toEqual(["right"]);
  expect(verdicts(1, RIGHT.slice(1), from("10.0.0.1"))).toEqual(["wrong"]);
  expect(logged).toHaveLength(1);
  expect(JSON.stringify(logged)).toContain("10.0.0.1");
});

test("A4 after ten wrong ones in a minute nothing of the address is looked at, and none is logged", () => {
  expect(verdicts(12, "guess-0123", from("10.0.0.1"))).toEqual([...Array(10).fill("wrong"), "slowed", "slowed"]);
  expect(tokens.judge(RIGHT, from("10.0.0.1"))).toEqual({ is: "slowed", retryAfterMs: 60_000 });
  expect(verdicts(1, RIGHT, from("10.0.0.2"))).toEqual(["right"]);
  expect(verdicts(1, RIGHT, from("10.0.0.1", "10.9.9.9"))).toEqual(["right"]);
  expect(logged).toHaveLength(10);
  expect(JSON.stringify(logged)).not.toContain("guess");
  clock.advance(59_999);
  expect(verdicts(1, RIGHT, from("10.0.0.1"))).toEqual(["slowed"]);
  clock.advance(1);
  expect(verdicts(1, RIGHT, from("10.0.0.1"))).toEqual(["right"]);
});

test("A4 all addresses of a network of IPv6 are slowed together", () => {
  const guess = (host: number): string => tokens.judge("guess-0123", from(`2001:db8:0:1::${host}`)).is;
  expect(Array.from({ length: 11 }, (_, i) => guess(i + 1))).toEqual([...Array(10).fill("wrong"), "slowed"]);
  expect(verdicts(1, RIGHT, from("2001:db8:0:2::1"))).toEqual(["right"]);
});

test("attempts are forgotten after a minute, and right ones do not count", () => {
  verdicts(9, "wrong", from("10.0.0.1"));
  verdicts(20, RIGHT, from("10.0.0.1"));
  clock.advance(60_000);
  expect(verdicts(10, "wrong", from("10.0.0.1"))).toEqual(Array(10).fill("wrong"));
});

test("the addresses that are remembered are bounded, and the first is forgotten first", () => {
  verdicts(10, "wrong", from("10.0.0.1"));
  for (let i = 0; i < 999; i += 1) verdicts(1, "wrong", from(`192.0.2.${i}`));
  expect(verdicts(1, RIGHT, from("10.0.0.1"))).toEqual(["slowed"]);
  verdicts(1, "wrong", from("198.51.100.1"));
  expect(verdicts(1, RIGHT, from("10.0.0.1"))).toEqual(["right"]);
});
