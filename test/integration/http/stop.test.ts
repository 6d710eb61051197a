import { once } from "node:events";
import { connect } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Clock } from "../../../src/base/clock.ts";
import {
  BLOB,
  BLOB_PATH,
  blobAnswer,
  type Front,
  manifestAnswer,
  open,
  readToEnd,
  startFront,
  waitFor,
} from "./front.ts";

const GRACE_MS = 30_000;

let stack: AsyncDisposableStack;
let front: Front;
/** Ends the grace; no other wait of the server ever ends by time. */
let timeIsUp: () => void;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  const { promise, resolve } = Promise.withResolvers<void>();
  timeIsUp = resolve;
  const clock: Clock = {
    now: () => 0,
    sleep: async (ms, signal) => {
      const aborted = new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      await Promise.race([ms === GRACE_MS ? promise : aborted, aborted]);
    },
  };
  front = await startFront(stack, { clock });
});

afterEach(async () => {
  timeIsUp();
  await stack.disposeAsync();
});

const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: weir\r\n\r\n`;

/** A blob of which the second half waits until it is let go. */
function heldBack(): { proceed: () => void; body: AsyncGenerator<Uint8Array> } {
  const { promise, resolve } = Promise.withResolvers<void>();
  async function* body(): AsyncGenerator<Uint8Array> {
    yield BLOB.subarray(0, 10);
    await promise;
    yield BLOB.subarray(10);
  }
  return { proceed: resolve, body: body() };
}

test("O2 nobody new gets in, idle connections end, and what is under way is finished", async () => {
  const { proceed, body } = heldBack();
  front.proxy.onBlob = () => blobAnswer({ body });
  const idle = await open(front.port);
  idle.write(get("/v2/"));
  await waitFor(idle, "{}");
  const untouched = await open(front.port);
  const busy = await open(front.port);
  busy.write(get(BLOB_PATH));
  await waitFor(busy, "0123456789");

  const ends = Promise.all([readToEnd(idle), readToEnd(untouched)]);
  const stopped = front.server.stop(GRACE_MS);
  expect(await ends).toEqual([
    { text: "", ended: "end" },
    { text: "", ended: "end" },
  ]);
  const late = connect(front.port, "127.0.0.1");
  const [refused] = await once(late, "error");
  expect(refused).toMatchObject({ code: "ECONNREFUSED" });

  const rest = readToEnd(busy);
  proceed();
  expect(await rest).toEqual({ text: "abcdefghij", ended: "end" });
  await stopped;
});

test("O2 an answer that begins after the stop says that the connection ends with it", async () => {
  const asked = Promise.withResolvers<void>();
  const upstream = Promise.withResolvers<void>();
  front.proxy.onManifest = async () => {
    asked.resolve();
    await upstream.promise;
    return manifestAnswer();
  };
  const client = await open(front.port);
  client.write(get("/v2/library/nginx/manifests/1"));
  await asked.promise;
  const stopped = front.server.stop(GRACE_MS);
  upstream.resolve();
  const { text, ended } = await readToEnd(client);
  expect([text.includes("200 OK"), text.includes("\r\nConnection: close\r\n"), ended]).toEqual([true, true, "end"]);
  await stopped;
});

test("O2 what is not finished within the grace is reset; stop waits until it is cleared away", async () => {
  const { proceed, body } = heldBack();
  let released = false;
  const release = async (): Promise<void> => {
    for (let turns = 0; turns < 10; turns += 1) await new Promise((resolve) => setImmediate(resolve));
    released = true;
  };
  front.proxy.onBlob = ({ signal }) => {
    signal.addEventListener("abort", proceed);
    return blobAnswer({ body, release });
  };
  const client = await open(front.port);
  client.write(get(BLOB_PATH));
  await waitFor(client, "0123456789");
  const cut = readToEnd(client);
  const stopped = front.server.stop(GRACE_MS);
  timeIsUp();
  await stopped;
  expect(released).toBe(true);
  expect(await cut).toEqual({ text: "", ended: "reset" });
  expect(await front.accessLine(() => true)).toMatchObject({ aborted: true, bytes: 10 });
});

test("stop is at its end at once when nothing was started, and can be repeated", async () => {
  await front.server.stop(GRACE_MS);
  await front.server.stop(GRACE_MS);
});
