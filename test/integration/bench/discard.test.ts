import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { expect } from "vitest";
import { type Discarded, type DiscardLoad, discard } from "../../../scripts/bench/discard.ts";
import { requireTool, toolTest } from "../../support/tools.ts";

const LARGE = 3 * 1024 * 1024 + 7;
const PATHS = ["/large", "/small"];

/** Runs the client against a server of its own; gives also what that was asked for. */
async function discarded(
  load: DiscardLoad,
  listener: RequestListener = (request, response) => {
    response.end(Buffer.alloc(request.url === "/large" ? LARGE : 5));
  },
): Promise<{ readonly result: Discarded; readonly asked: readonly string[] }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? "");
    listener(request, response);
  }).listen(0, "127.0.0.1");
  try {
    await once(server, "listening");
    const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return { result: await discard(requireTool("python3"), base, load), asked };
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

toolTest(
  ["python3"],
  "the bench's client takes so many answers whole, and counts the bytes of their bodies",
  async () => {
    const { result, asked } = await discarded({ paths: PATHS, clients: 3, requests: 5 });
    expect([...asked].sort()).toEqual(["/large", "/large", "/large", "/small", "/small"]);
    expect(result).toMatchObject({ requests: 5, bytes: 3 * LARGE + 2 * 5 });
    expect(result.firstByteMs).toHaveLength(5);
    expect(result.wholeMs).toHaveLength(5);
  },
);

toolTest(["python3"], "it asks no more often than it is told, with more clients than requests", async () => {
  const { result, asked } = await discarded({ paths: ["/small"], clients: 8, requests: 2 });
  expect(asked).toHaveLength(2);
  expect(result).toMatchObject({ requests: 2, bytes: 10 });
});

toolTest(["python3"], "for a time it asks each connection for one path after the other", async () => {
  const { result, asked } = await discarded({ paths: PATHS, clients: 1, seconds: 2 });
  expect(asked.length).toBeGreaterThan(0);
  expect(asked).toEqual(asked.map((_, at) => PATHS[at % 2]));
  expect(result.bytes).toBeGreaterThan(0);
});

toolTest(["python3"], "with a rate it takes no more than that", async () => {
  const { result } = await discarded({ paths: ["/large"], clients: 2, seconds: 2, rate: 100_000 });
  expect(result.bytes).toBeGreaterThan(0);
  // A portion more may be on its way at the end.
  expect(result.bytes).toBeLessThanOrEqual(2 * (100_000 * result.seconds + 2 * (100_000 / 20)));
});

toolTest(["python3"], "it gives no figures for refusals", async () => {
  const refused = discarded({ paths: ["/small"], clients: 1, requests: 1 }, (_request, response) => {
    response.writeHead(404).end("no");
  });
  await expect(refused).rejects.toThrow("404");
});

toolTest(["python3"], "it gives no figures for bodies that are cut", async () => {
  const cut = discarded({ paths: ["/small"], clients: 1, requests: 1 }, (_request, response) => {
    response.writeHead(200, { "content-length": 10 });
    response.write("12345", () => response.destroy());
  });
  await expect(cut).rejects.toThrow(/cut|reset/i);
});
