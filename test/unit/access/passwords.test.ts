import { beforeEach, describe, expect, test } from "vitest";
import { type HtpasswdEntry, parseHtpasswd } from "../../../src/access/htpasswd-entries.ts";
import { Passwords, verifyBcrypt } from "../../../src/access/passwords.ts";
import { Secret } from "../../../src/base/secret.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { htpasswd } from "../../support/sign-in.ts";

const o = { signal: new AbortController().signal };

/** A password is right where the hash ends in it. */
interface Pending {
  readonly password: string;
  readonly hash: string;
  end(): void;
}

let clock: ManualClock;
let entries: Map<string, HtpasswdEntry>;
let asked: Pending[];

beforeEach(() => {
  clock = new ManualClock();
  entries = new Map([["alice", { hash: "$2b$12$one-a", cost: 12 }]]);
  asked = [];
});

function passwords({ waiting = false } = {}): Passwords {
  return new Passwords({
    file: { entries: async () => entries },
    clock,
    verify: (password, hash) =>
      new Promise((resolve) => {
        const end = (): void => resolve(hash.endsWith(`-${password}`));
        asked.push({ password, hash, end });
        if (!waiting) end();
      }),
  });
}

const check = (of: Passwords, name: string, password: string, address = "192.0.2.1") =>
  of.check(name, new Secret(password), address, o);

test("bcrypt itself: right, wrong, and of another version", async () => {
  const { hash = "" } = parseHtpasswd(await htpasswd({ alice: "s3cret" })).get("alice") ?? {};
  expect(await verifyBcrypt("s3cret", hash)).toBe(true);
  expect(await verifyBcrypt("s3cret", `$2y${hash.slice(3)}`)).toBe(true);
  expect(await verifyBcrypt("s3cret ", hash)).toBe(false);
});

describe("outcomes are remembered", () => {
  test("right ones for minutes, wrong ones for seconds", async () => {
    const of = passwords();
    const mark = await check(of, "alice", "a");
    expect(mark).toMatch(/^[\w-]{22}$/);
    expect(await check(of, "alice", "a")).toBe(mark);
    expect(await check(of, "alice", "b")).toBeUndefined();
    expect(await check(of, "alice", "b")).toBeUndefined();
    expect(asked.map(({ password }) => password)).toEqual(["a", "b"]);
    clock.advance(10_001);
    expect(await check(of, "alice", "b")).toBeUndefined();
    expect(await check(of, "alice", "a")).toBe(mark);
    expect(asked.map(({ password }) => password)).toEqual(["a", "b", "b"]);
    clock.advance(300_000);
    await check(of, "alice", "a");
    expect(asked).toHaveLength(4);
  });

  test("not beyond a change of the line", async () => {
    const of = passwords();
    const mark = await check(of, "alice", "a");
    entries.set("alice", { hash: "$2b$12$two-b", cost: 12 });
    expect(await check(of, "alice", "a")).toBeUndefined();
    const other = await check(of, "alice", "b");
    expect(other).not.toBe(mark);
    expect(await of.markOf("alice")).toBe(other);
    entries.delete("alice");
    expect(await check(of, "alice", "b")).toBeUndefined();
    expect(await of.markOf("alice")).toBeUndefined();
  });

  test("not for another name with the same password", async () => {
    const of = passwords();
    entries.set("bob", { hash: "$2b$12$three-b", cost: 12 });
    await check(of, "alice", "a");
    expect(await check(of, "bob", "a")).toBeUndefined();
    expect(asked).toHaveLength(2);
  });
});

test("A6 a name that nobody has takes a computation of the file's own cost, and is never right", async () => {
  const of = passwords();
  expect(await check(of, "mallory", "a")).toBeUndefined();
  expect(asked.map(({ hash }) => hash)).toEqual([`$2b$12$${".".repeat(53)}`]);
});

test("A6 100 equal sign-ins at once are one computation, and one that leaves takes nobody along", async () => {
  const of = passwords({ waiting: true });
  const leaving = new AbortController();
  const left = of.check("alice", new Secret("a"), "192.0.2.1", { signal: leaving.signal });
  const others = Array.from({ length: 100 }, () => check(of, "alice", "a"));
  await until(() => asked.length === 1);
  leaving.abort(new Error("gone"));
  await expect(left).rejects.toThrow("gone");
  asked[0]?.end();
  expect(new Set(await Promise.all(others)).size).toBe(1);
  expect(asked).toHaveLength(1);
});

describe("guesses", () => {
  test("A6 of one address are computed one after the other, 9 wait, and another address gets in between", async () => {
    const of = passwords({ waiting: true });
    const tries = Array.from({ length: 15 }, (_, i) => outcome(check(of, "alice", `guess ${i}`)));
    const refused = (await Promise.all(tries.slice(10))).map(String);
    expect(new Set(refused)).toEqual(new Set(["OciError: too many clients sign in at once; try again in a moment"]));
    await until(() => asked.length === 1);
    const right = check(of, "alice", "a", "192.0.2.2");
    await until(() => asked.length === 2);
    expect(asked.map(({ password }) => password)).toEqual(["guess 0", "a"]);
    asked[1]?.end();
    expect(await right).toBeDefined();
    asked[0]?.end();
    for (let i = 2; i < 11; i += 1) {
      await until(() => asked.length > i);
      asked[i]?.end();
    }
    expect(new Set(await Promise.all(tries.slice(0, 10)))).toEqual(new Set([undefined]));
    expect(asked).toHaveLength(11);
  });

  test("A6 of all addresses of a network of IPv6 count as those of one", async () => {
    const of = passwords({ waiting: true });
    const tries = Array.from({ length: 11 }, (_, i) =>
      outcome(check(of, "alice", `guess ${i}`, `2001:db8:0:1::${i + 1}`)),
    );
    expect(String(await tries[10])).toContain("too many clients sign in at once");
    await until(() => asked.length === 1);
    const right = check(of, "alice", "a", "2001:db8:0:2::1");
    await until(() => asked.length === 2);
    expect(asked.map(({ password }) => password)).toEqual(["guess 0", "a"]);
    asked[1]?.end();
    expect(await right).toBeDefined();
    for (let i = 0; i < 11; i += 1) {
      if (i === 1) continue;
      await until(() => asked.length > i);
      asked[i]?.end();
    }
    await Promise.all(tries);
  });

  test("A6 from many addresses are bounded together", async () => {
    const of = passwords({ waiting: true });
    const tries = Array.from({ length: 130 }, (_, i) => outcome(check(of, "alice", `guess ${i}`, `192.0.2.${i}`)));
    const settled = await Promise.all(tries.slice(102));
    expect(settled.every((one) => one instanceof Error)).toBe(true);
    expect(asked).toHaveLength(2);
    for (let i = 0; i < 102; i += 1) {
      await until(() => asked.length > i);
      asked[i]?.end();
    }
    await Promise.all(tries);
    // Nothing of them is left: the next one is computed at once.
    const next = check(of, "alice", "a");
    await until(() => asked.length === 103);
    asked[102]?.end();
    expect(await next).toBeDefined();
  });
});

async function outcome<T>(work: Promise<T>): Promise<T | unknown> {
  return await work.catch((error: unknown) => error);
}

/** Lets promises settle until the fact is there; the test's own time ends it otherwise. */
async function until(fact: () => boolean): Promise<void> {
  while (!fact()) await new Promise((resolve) => setImmediate(resolve));
}
