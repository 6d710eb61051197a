import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { AddressClass } from "../../../src/upstream/address.ts";
import { startDnsServer } from "../../support/dns-server.ts";
import { failure } from "./bench.ts";
import { openTransport } from "./transport-bench.ts";

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

const PUBLIC = "127.0.0.2";
const PRIVATE = "127.0.0.3";

const classify = (address: string): AddressClass => (address === PUBLIC ? "public" : "private");

/** Servers at both addresses with one port; `connected` has the address of each connection that came. */
async function startBoth() {
  const connected: string[] = [];
  const start = async (host: string, port: number): Promise<number> => {
    const server = http.createServer((_, response) => {
      response.setHeader("connection", "close");
      response.end(host);
    });
    server.on("connection", () => connected.push(host));
    server.listen(port, host);
    await once(server, "listening");
    stack.defer(async () => {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    });
    return (server.address() as AddressInfo).port;
  };
  const port = await start(PUBLIC, 0);
  await start(PRIVATE, port);
  return { port, connected };
}

test("U3 what DNS answers after the address was judged is not asked for, and a later answer is judged anew", async () => {
  const { port, connected } = await startBoth();
  const { lookup, questions } = await startDnsServer(stack, {
    "cdn.example": [[PUBLIC], [PRIVATE], [PUBLIC], [PUBLIC, PRIVATE]],
  });
  const { get } = openTransport(stack, { classify, lookup });
  const url = `http://cdn.example:${port}/x`;
  // The server's next answer, for whoever looks twice, is the private address.
  expect(await get(url, "foreign")).toEqual([200, PUBLIC]);
  expect(questions).toHaveLength(1);
  expect(await failure(get(url, "foreign"))).toMatchObject({ fault: "refused" });
  expect(await get(url, "foreign")).toEqual([200, PUBLIC]);
  // One private address among public ones is enough.
  expect(await failure(get(url, "foreign"))).toMatchObject({ fault: "refused" });
  expect(questions).toHaveLength(4);
  expect(connected).toEqual([PUBLIC, PUBLIC]);
});

test("R2 U3 a dynamic upstream whose name moves to a private address is not asked there", async () => {
  const { port, connected } = await startBoth();
  const { lookup } = await startDnsServer(stack, { "reg.example": [[PUBLIC], [PRIVATE]] });
  const { get } = openTransport(stack, { classify, lookup, dynamic: true });
  expect(await get(`http://reg.example:${port}/v2/`)).toEqual([200, PUBLIC]);
  expect(await failure(get(`http://reg.example:${port}/v2/`))).toMatchObject({ fault: "refused" });
  expect(connected).toEqual([PUBLIC]);
});

test("U3 a name that DNS does not know is no address at all", async () => {
  const { lookup, questions } = await startDnsServer(stack, {});
  const { get } = openTransport(stack, { classify, lookup });
  expect(await failure(get("http://nowhere.example/x", "foreign"))).toMatchObject({ fault: "connect" });
  expect(questions).toEqual(["nowhere.example"]);
});
