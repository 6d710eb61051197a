/** What the overview sends to those who follow it. */
import http from "node:http";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parseHtml, textOf } from "../../support/html-tree.ts";
import { sampleFills, sampleStorage } from "../../support/page-samples.ts";
import { until } from "../../support/processes.ts";
import { NOW, PageFront } from "./page-front.ts";

let front: PageFront;
let requests: http.ClientRequest[];

beforeEach(() => {
  front = new PageFront();
  requests = [];
});

afterEach(async () => {
  for (const request of requests) request.destroy();
  await front.close();
});

/** Reads a stream of events: what was sent for each part last, and how often anything was. */
interface Stream {
  readonly parts: Map<string, string>;
  readonly received: string[];
  readonly status: number;
  readonly ended: Promise<void>;
  leave(): void;
}

async function follow(cookie: string): Promise<Stream> {
  const request = http.get(`${front.url}/page/events`, { headers: { cookie }, agent: false });
  request.on("error", () => {});
  const response = await new Promise<http.IncomingMessage>((resolve) => request.once("response", resolve));
  const parts = new Map<string, string>();
  const received: string[] = [];
  const ended = Promise.withResolvers<void>();
  let rest = "";
  response.setEncoding("utf8").on("data", (text: string) => {
    const events = (rest + text).split("\n\n");
    rest = events.pop() ?? "";
    for (const event of events) {
      received.push(event);
      if (!event.startsWith("data: ")) continue;
      const { id, html } = JSON.parse(event.slice("data: ".length)) as { id: string; html: string };
      parts.set(id, textOf(parseHtml(html)));
    }
  });
  response.once("close", () => ended.resolve());
  requests.push(request);
  return { parts, received, status: response.statusCode ?? 0, ended: ended.promise, leave: () => request.destroy() };
}

test("a listener gets every part once, and then what has changed; one look serves all; nobody looks for nobody", async () => {
  let looks = 0;
  let received = 0;
  await front.start({
    overview: {
      fills: async () => {
        looks += 1;
        return sampleFills(NOW).map((fill) => ({ ...fill, receivedBytes: received, startedAtMs: front.clock.now() }));
      },
      upstreams: async () => [],
    },
  });
  const { cookie } = await front.signIn();
  const own = await follow(cookie);
  expect(own.status).toBe(200);
  await until("the first look", () => own.parts.size === 5);
  expect(own.received[0]).toBe("retry: 3000");
  const others = await Promise.all([follow(cookie), follow(cookie)]);
  const before = looks;
  received = 2 ** 20;
  await front.clock.sleeping();
  front.clock.advance(1_000);
  await until("news", () => own.parts.get("fills")?.includes("1.0 MiB of") === true);
  await until("the others", () => others.every(({ parts }) => parts.size === 5));
  expect(looks).toBe(before + 1);
  // What did not change was not sent again.
  expect(own.received.filter((event) => event.includes('"id":"storage"'))).toHaveLength(1);
  for (const stream of [own, ...others]) stream.leave();
  await until("the last look", async () => {
    const before = looks;
    front.clock.advance(1_000);
    // Whoever still followed would look now, and sleep again.
    for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    return looks === before && front.clock.sleepers === 0;
  });
  const after = looks;
  front.clock.advance(60_000);
  expect(looks).toBe(after);
  const again = await follow(cookie);
  await until("another look", () => again.parts.size === 5);
});

test("a look that fails is tried again, and a quiet stream gets a sign of life", async () => {
  let failing = true;
  await front.start({
    overview: {
      storage: async () => {
        if (failing) throw new Error("gone for a moment");
        return sampleStorage();
      },
      upstreams: async () => [],
      fills: async () => [],
      recent: async () => [],
    },
  });
  const { cookie } = await front.signIn();
  const stream = await follow(cookie);
  await front.clock.sleeping();
  expect(stream.parts.size).toBe(0);
  failing = false;
  front.clock.advance(1_000);
  await until("it works again", () => stream.parts.size === 5);
  for (let look = 0; look < 15; look += 1) {
    await front.clock.sleeping();
    front.clock.advance(1_000);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await until("a sign of life", () => stream.received.at(-1) === ":");
  expect(front.logged.some(([, , message]) => String(message).includes("could not be brought up to date"))).toBe(true);
});

test("listeners are bounded, end with their session, and all at the stop", async () => {
  await front.start();
  const { cookie, form } = await front.signIn();
  const another = await front.signIn();
  const streams = await Promise.all(Array.from({ length: 31 }, () => follow(cookie)));
  const last = await follow(another.cookie);
  expect(new Set([...streams, last].map(({ status }) => status))).toEqual(new Set([200]));
  expect((await front.get("/page/events", { cookie })).status).toBe(503);
  await front.clock.sleeping();
  front.clock.advance(1_000);
  await until("the last to be told", () => last.parts.size === 5);
  await front.post("/page/sign-out", { form }, { cookie });
  await front.clock.sleeping();
  front.clock.advance(1_000);
  await Promise.all(streams.map(({ ended }) => ended));
  await front.stop();
  await last.ended;
});
