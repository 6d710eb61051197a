import type { Socket } from "node:net";
import { describe, expect, test } from "vitest";
import { seededBytes } from "../../support/images.ts";
import { serve } from "./bench.ts";
import { openTransport } from "./transport-bench.ts";

const BLOB = seededBytes("blob", 24 << 20);

async function get(
  url: URL,
  pauseEvery?: number,
): Promise<{ status: number; type: string | undefined; bytes: Buffer }> {
  await using stack = new AsyncDisposableStack();
  const { transport } = openTransport(stack, { classify: () => "public" });
  const { signal } = new AbortController();
  const { status, headers, body } = await transport.send({
    method: "GET",
    url: new URL("/blob", url),
    headers: {},
    lane: "bodies",
    side: "own",
    signal,
    received: () => {},
  });
  const pieces: Buffer[] = [];
  for await (const piece of body as AsyncIterable<Buffer>) {
    pieces.push(Buffer.from(piece));
    // So long that everything on the way fills up: sockets, undici's parser, what is gathered.
    if (pauseEvery !== undefined && pieces.length % pauseEvery === 0) {
      for (let turn = 0; turn < 50; turn += 1) await new Promise(setImmediate);
    }
  }
  return { status, type: headers.get("x-type"), bytes: Buffer.concat(pieces) };
}

/** Sends one piece at a time, and the next when a turn of the loop has passed. */
const inPieces =
  (pieces: readonly (string | Buffer)[]) =>
  async (socket: Socket): Promise<void> => {
    socket.setNoDelay(true);
    for (const piece of pieces) {
      socket.write(piece);
      for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate);
    }
  };

describe("a body in the clear, read into buffers that are used again", () => {
  test.for([
    ["a reader that is always there", undefined],
    ["one that comes late for each piece", 1],
    ["one that comes late now and then", 5],
  ] as const)("arrives whole at %s", async ([, pauseEvery]) => {
    const server = await serve([{ when: { path: "/blob" }, reply: { body: BLOB } }]);
    const { bytes } = await get(server.url, pauseEvery);
    expect(bytes.equals(BLOB)).toBe(true);
  });

  test("chunked, arrives whole", async () => {
    const chunks = Array.from({ length: 48 }, (_, n) => BLOB.subarray(n << 19, (n + 1) << 19));
    const server = await serve([{ when: { path: "/blob" }, reply: { body: chunks } }]);
    expect((await get(server.url, 3)).bytes.equals(BLOB)).toBe(true);
  });

  test("of unknown length, ends with its connection", async () => {
    const raw = (socket: Socket): void =>
      void socket.end(Buffer.concat([Buffer.from("HTTP/1.1 200 OK\r\n\r\n"), BLOB]));
    const server = await serve([{ when: { path: "/blob" }, reply: { raw } }]);
    expect((await get(server.url, 2)).bytes.equals(BLOB)).toBe(true);
  });

  test("arrives as what it is beside others, whose readers are there, late or gone", async () => {
    const blobs = Array.from({ length: 6 }, (_, n) => seededBytes(`blob ${n}`, (n + 1) << 20));
    const server = await serve(blobs.map((body, n) => ({ when: { path: `/blob/${n}` }, reply: { body } })));
    await using stack = new AsyncDisposableStack();
    const { transport } = openTransport(stack, { classify: () => "public" });
    const pull = async (n: number, o: { pauses?: boolean; leaves?: boolean }): Promise<Buffer> => {
      const { body } = await transport.send({
        method: "GET",
        url: new URL(`/blob/${n}`, server.url),
        headers: {},
        lane: "bodies",
        side: "own",
        signal: new AbortController().signal,
        received: () => {},
      });
      const pieces: Buffer[] = [];
      for await (const piece of body as AsyncIterable<Buffer>) {
        // While it waits others go on, and use the memory that is free.
        if (o.pauses === true) for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
        pieces.push(Buffer.from(piece));
        if (o.leaves === true) break;
      }
      return Buffer.concat(pieces);
    };
    const pulled = await Promise.all(
      blobs.flatMap((_, n) => [pull(n, {}), pull(n, { pauses: true }), pull(n, { leaves: true })]),
    );
    expect(
      pulled.map((bytes, at) => {
        const blob = blobs[Math.floor(at / 3)];
        return blob?.subarray(0, at % 3 === 2 ? bytes.length : blob.length).equals(bytes);
      }),
    ).toEqual(Array(18).fill(true));
  });

  test("headers that come in many reads are not overwritten by those that follow", async () => {
    const head = `HTTP/1.1 200 OK\r\nx-type: ${"abcdefgh".repeat(100)}\r\ncontent-length: 5\r\n\r\n`;
    const pieces = [...(head.match(/[\s\S]{1,40}/g) ?? []), "12345"];
    const server = await serve([{ when: { path: "/blob" }, reply: { raw: inPieces(pieces) } }]);
    const { status, type, bytes } = await get(server.url);
    expect([status, type, bytes.toString()]).toEqual([200, "abcdefgh".repeat(100), "12345"]);
  });
});
