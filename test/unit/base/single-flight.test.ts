import fc from "fast-check";
import { expect, test } from "vitest";
import { SingleFlight } from "../../../src/base/single-flight.ts";

const forever = { signal: new AbortController().signal };

/** Work that ends when the test says so, and counts how often it was started. */
function controlledWork() {
  const runs: { shared: AbortSignal; settle: PromiseWithResolvers<string> }[] = [];
  const work = (shared: AbortSignal): Promise<string> => {
    const settle = Promise.withResolvers<string>();
    runs.push({ shared, settle });
    return settle.promise;
  };
  return { runs, work };
}

/** Lets everything that is ready run. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

test("callers of one key share one run", async () => {
  const flights = new SingleFlight<string>();
  const { runs, work } = controlledWork();
  const waiters = [flights.run("a", forever, work), flights.run("a", forever, work), flights.run("a", forever, work)];
  await turn();
  expect(runs).toHaveLength(1);
  expect(flights.size).toBe(1);

  runs[0]?.settle.resolve("done");
  expect(await Promise.all(waiters)).toEqual([
    { value: "done", shared: false },
    { value: "done", shared: true },
    { value: "done", shared: true },
  ]);
  expect(flights.size).toBe(0);
});

test("keys do not meet", async () => {
  const flights = new SingleFlight<string>();
  const { runs, work } = controlledWork();
  const [a, b] = [flights.run("a", forever, work), flights.run("b", forever, work)];
  await turn();
  runs[0]?.settle.resolve("of a");
  runs[1]?.settle.resolve("of b");
  expect([(await a).value, (await b).value]).toEqual(["of a", "of b"]);
});

test("every waiter sees the same error, and the next caller starts anew", async () => {
  const flights = new SingleFlight<string>();
  const { runs, work } = controlledWork();
  const waiters = [flights.run("a", forever, work), flights.run("a", forever, work)];
  await turn();
  const failure = new Error("upstream is down");
  runs[0]?.settle.reject(failure);
  const outcomes = await Promise.allSettled(waiters);
  expect(outcomes).toEqual([
    { status: "rejected", reason: failure },
    { status: "rejected", reason: failure },
  ]);

  const again = flights.run("a", forever, work);
  await turn();
  runs[1]?.settle.resolve("up again");
  expect(await again).toEqual({ value: "up again", shared: false });
});

test("work that throws at once is an error like any other", async () => {
  const flights = new SingleFlight<string>();
  const broken = flights.run("a", forever, () => {
    throw new Error("no such host");
  });
  await expect(broken).rejects.toThrow("no such host");
  expect(flights.size).toBe(0);
});

test("one waiter's abort leaves the others", async () => {
  const flights = new SingleFlight<string>();
  const { runs, work } = controlledWork();
  const leaver = new AbortController();
  const left = flights.run("a", { signal: leaver.signal }, work);
  const stayed = flights.run("a", forever, work);
  await turn();
  leaver.abort(new Error("client left"));
  await expect(left).rejects.toThrow("client left");
  expect(runs[0]?.shared.aborted).toBe(false);

  runs[0]?.settle.resolve("done");
  expect((await stayed).value).toBe("done");
});

test("when the last waiter leaves, the work is told to stop", async () => {
  const flights = new SingleFlight<string>();
  const { runs, work } = controlledWork();
  const [first, second] = [new AbortController(), new AbortController()];
  const waiters = [flights.run("a", { signal: first.signal }, work), flights.run("a", { signal: second.signal }, work)];
  const outcomes = Promise.allSettled(waiters);
  await turn();
  first.abort(new Error("first left"));
  expect(runs[0]?.shared.aborted).toBe(false);
  second.abort(new Error("second left"));
  expect(runs[0]?.shared.reason).toEqual(new Error("second left"));
  expect(flights.size).toBe(0);
  expect((await outcomes).map(({ status }) => status)).toEqual(["rejected", "rejected"]);

  // The work's own end is nobody's business any more: no unhandled rejection.
  runs[0]?.settle.reject(new Error("stopped"));
  await turn();
});

test("who comes after the last has left does not join the work that was stopped", async () => {
  const flights = new SingleFlight<string>();
  const { runs, work } = controlledWork();
  const leaver = new AbortController();
  const left = flights.run("a", { signal: leaver.signal }, work);
  await turn();
  leaver.abort(new Error("client left"));
  const next = flights.run("a", forever, work);
  await expect(left).rejects.toThrow("client left");
  await turn();
  expect(runs).toHaveLength(2);

  // The stopped run ends late; it must not take the new one's place away.
  runs[0]?.settle.reject(new Error("stopped"));
  await turn();
  expect(flights.size).toBe(1);
  const joiner = flights.run("a", forever, work);
  runs[1]?.settle.resolve("done");
  expect([await next, await joiner]).toEqual([
    { value: "done", shared: false },
    { value: "done", shared: true },
  ]);
});

test("an abort after the result changes nothing", async () => {
  const flights = new SingleFlight<string>();
  const controller = new AbortController();
  const result = await flights.run("a", { signal: controller.signal }, async () => "done");
  controller.abort();
  expect(result.value).toBe("done");
});

test("result and abort in the same turn: the waiter gets one of them, the others the result", async () => {
  const flights = new SingleFlight<string>();
  const { runs, work } = controlledWork();
  const racer = new AbortController();
  const racing = flights.run("a", { signal: racer.signal }, work);
  const stayed = flights.run("a", forever, work);
  await turn();
  runs[0]?.settle.resolve("done");
  racer.abort(new Error("client left"));
  const [outcome] = await Promise.allSettled([racing]);
  expect(outcome?.status).toBe("rejected");
  expect((await stayed).value).toBe("done");
});

test("an aborted signal starts nothing", async () => {
  const flights = new SingleFlight<string>();
  const { runs, work } = controlledWork();
  await expect(flights.run("a", { signal: AbortSignal.abort(new Error("gone")) }, work)).rejects.toThrow("gone");
  await turn();
  expect(runs).toHaveLength(0);
});

test("in any schedule at most one run of a key is wanted at a time, and nothing is left over", async () => {
  const action = fc.oneof(
    fc.constant("join" as const),
    fc.record({ abort: fc.nat(9) }),
    fc.constant("succeed" as const),
    fc.constant("fail" as const),
    fc.constant("turn" as const),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 30 }), async (actions) => {
      const flights = new SingleFlight<string>();
      const { runs, work } = controlledWork();
      const waiters: { controller: AbortController; outcome: Promise<unknown> }[] = [];
      for (const step of actions) {
        if (step === "join") {
          const controller = new AbortController();
          const outcome = flights.run("a", { signal: controller.signal }, work).catch(() => {});
          waiters.push({ controller, outcome });
        } else if (step === "succeed") {
          runs.at(-1)?.settle.resolve("done");
        } else if (step === "fail") {
          runs.at(-1)?.settle.reject(new Error("failed"));
        } else if (step !== "turn") {
          waiters[step.abort]?.controller.abort();
        }
        await turn();
        const wanted = runs.filter(({ shared }) => !shared.aborted).length;
        expect(flights.size).toBeLessThanOrEqual(Math.min(1, wanted));
      }
      for (const { controller } of waiters) {
        controller.abort();
      }
      await Promise.all(waiters.map(({ outcome }) => outcome));
      expect(flights.size).toBe(0);
    }),
  );
});
