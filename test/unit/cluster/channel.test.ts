import { expect, test } from "vitest";
import { brokerLeases, createBrokeredBoard } from "../../../src/cluster/brokered-board.ts";
import { ChannelClosedError, RemoteError } from "../../../src/cluster/channel.ts";
import { LEASE_MS, LeaseTable } from "../../../src/cluster/lease-table.ts";
import { eventually } from "../../support/fill-bench.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { linePair } from "../../support/port-pair.ts";

const o = { signal: new AbortController().signal };

test("questions get their own answers, whatever their order", async () => {
  const { parent, worker } = linePair();
  const first = Promise.withResolvers<string>();
  parent.onAsked("slow", async (data) => `${await first.promise} ${data}`);
  parent.onAsked("quick", async (data) => ({ was: data }));
  const slow = worker.ask("slow", 1, o);
  expect(await worker.ask("quick", [2], o)).toEqual({ was: [2] });
  first.resolve("at last");
  expect(await slow).toBe("at last 1");
});

test("news arrive in order, and those that nobody wants are nobody's", async () => {
  const { parent, worker } = linePair();
  const heard: unknown[] = [];
  parent.onTold("news", (data) => heard.push(data));
  worker.tell("other", 0);
  worker.tell("news", 1);
  worker.tell("news", 2);
  await eventually("the news", () => heard.length === 2);
  expect(heard).toEqual([1, 2]);
});

test("a refusal carries its words, and no one's answer is a refusal too", async () => {
  const { parent, worker } = linePair();
  parent.onAsked("x", async () => {
    throw new Error("there is no x");
  });
  await expect(worker.ask("x", null, o)).rejects.toThrow(new RemoteError("there is no x"));
  await expect(worker.ask("y", null, o)).rejects.toThrow("nobody answers y");
});

test("who gives up gets the reason, and who was working on it hears of it", async () => {
  const { parent, worker } = linePair();
  const heard = Promise.withResolvers<void>();
  parent.onAsked("long", (_, { signal }) => {
    return new Promise((_, reject) => {
      signal.addEventListener("abort", () => {
        heard.resolve();
        reject(signal.reason);
      });
    });
  });
  const leaving = new AbortController();
  const asking = expect(worker.ask("long", null, leaving)).rejects.toThrow("enough");
  await eventually("the question to travel", () => true);
  leaving.abort(new Error("enough"));
  await asking;
  await heard.promise;
  await expect(worker.ask("long", null, leaving)).rejects.toThrow("enough");
});

test("when the other is gone every question fails, later ones too", async () => {
  const { parent, worker, die } = linePair();
  parent.onAsked("never", () => new Promise(() => {}));
  const asking = expect(worker.ask("never", null, o)).rejects.toThrow(ChannelClosedError);
  die();
  await asking;
  await expect(worker.ask("never", null, o)).rejects.toThrow(ChannelClosedError);
  worker.tell("news", 1);
});

test("C4 workers share the parent's leases; those of one that dies are free at once", async () => {
  const table = new LeaseTable(new ManualClock());
  const one = linePair();
  const other = linePair();
  brokerLeases(one.parent, table);
  brokerLeases(other.parent, table);
  const a = createBrokeredBoard(one.worker);
  const b = createBrokeredBoard(other.worker);
  const row = { token: "a-1", address: "127.0.0.1:1" };
  expect(await a.acquire("fill x", row)).toBe("taken");
  expect(await b.acquire("fill x", { token: "b-1", address: undefined })).toEqual(row);
  expect(await a.renew("fill x", row)).toBe("held");
  expect(await b.renew("fill x", { token: "b-1", address: undefined })).toBe("lost");
  await a.release("fill x", "a-1");
  expect(await b.acquire("fill x", { token: "b-2", address: undefined })).toBe("taken");
  expect(await a.acquire("fill y", row)).toBe("taken");
  other.die();
  expect(await a.acquire("fill x", { token: "a-2", address: undefined })).toBe("taken");
  expect(await b.acquire("fill y", { token: "b-3", address: undefined })).toBe("unknown");
});

test("C1 a lease that its holder does not renew runs out, and is its own again unless somebody took it", () => {
  const clock = new ManualClock();
  const table = new LeaseTable(clock);
  const frozen = { token: "a", address: "a:1" };
  const taker = { token: "b", address: "b:1" };
  expect(table.acquire("x", frozen)).toBeUndefined();
  clock.advance(LEASE_MS - 1);
  expect(table.acquire("x", taker)).toEqual(expect.objectContaining(frozen));
  expect(table.renew("x", frozen)).toBe(true);
  clock.advance(LEASE_MS);
  expect(table.renew("x", frozen)).toBe(true);
  clock.advance(LEASE_MS);
  expect(table.acquire("x", taker)).toBeUndefined();
  expect(table.renew("x", frozen)).toBe(false);
});
